"""Networks on images: shapes, numbers worked out by hand, and the reward model on frames."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apportion.agents import DQN, check_images, make_agent
from apportion.agents.dqn import ImageQNetwork, q_loss
from apportion.config import AGENTS, DQNConfig, OnlineConfig, RewardConfig
from apportion.nets.conv import ChangeNets, Images, Trunk, picked
from apportion.nets.optim import Adam
from apportion.rewards.decomposition import Decomposition, decomposition_loss
from apportion.rewards.losses import rrd_loss
from apportion.rewards.model import LearnedReward, RewardModel
from apportion.run.tree import from_bytes, to_bytes
from apportion.types import Batch, Episode, Spec, Subsets, UserError

CPU = torch.device("cpu")
ATARI = Spec((84, 84), "uint8", "discrete", 6, frames=4)
STACKS = Spec((10, 10), "uint8", "discrete", 3, frames=3)
SINGLE = Spec((10, 10, 4), "uint8", "discrete", 3, pixel_max=1)
FRAME = Spec((84, 84), "uint8", "discrete", 6)
TINY = Spec((3, 3, 1), "uint8", "discrete", 2, pixel_max=1)
both_kinds = pytest.mark.parametrize("spec", [STACKS, SINGLE], ids=["stacks", "single"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(spec: Spec, n: int, seed: int = 0):
    """What is seen at n steps and after each of them: (n, *seen_shape), twice."""
    draw = torch.randint(0, spec.pixel_max + 1, (n, spec.frames + 1, *spec.obs_shape), generator=generator(seed))
    draw = draw.to(torch.uint8)
    return (draw[:, :-1], draw[:, 1:]) if spec.frames > 1 else (draw[:, 0], draw[:, 1])


def batch_of(spec: Spec, n: int, seed: int = 0) -> Batch:
    obs, next_obs = pixels(spec, n, seed)
    act = torch.randint(0, spec.act_dim, (n,), generator=generator(seed + 1))
    reward, discount = torch.randn(n, generator=generator(seed + 2)), torch.full((n,), 0.9)
    return Batch(obs, act, next_obs, reward, discount, reward, torch.ones(n).long(), torch.arange(n))


def episode_of(spec: Spec, length: int) -> Episode:
    rng = np.random.default_rng(0)
    obs = rng.integers(0, spec.pixel_max + 1, (length + 1, *spec.obs_shape)).astype(np.uint8)
    reward = np.zeros(length, np.float32)
    reward[-1] = 5
    return Episode(obs, rng.integers(spec.act_dim, size=length), reward, True, 0, 0)


# ---------------------------------------------------------------- shapes


def test_the_nature_trunk_has_the_papers_layers():
    trunk = Trunk((4, 84, 84), generator())
    shapes = [tuple(w.shape) for w in trunk.weights]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 7 * 7 * 64)]  # 84 -> 20 -> 9 -> 7
    assert trunk(torch.zeros(2, 4, 84, 84)).shape == (2, 512)
    assert all(not b.any() for b in trunk.biases)
    bound = (6 / ((32 + 4) * 64)) ** 0.5  # Xavier's: fans are channels times 8 x 8
    assert 0.95 * bound < trunk.weights[0].abs().max().item() <= bound


def test_small_images_have_a_small_trunk_and_tiny_ones_none():
    trunk = Trunk((4, 10, 10), generator(), streams=2)
    assert [tuple(w.shape) for w in trunk.weights] == [(16, 4, 3, 3), (2 * 128, 8 * 8 * 16)]
    assert [len(Trunk((1, side, side), generator()).weights) for side in (35, 36)] == [2, 4]
    with pytest.raises(UserError, match="2 x 9 are too small"):
        Trunk((1, 2, 9), generator())


def test_pixels_become_channels_between_0_and_1():
    stack = torch.zeros(1, 3, 10, 10, dtype=torch.uint8)
    stack[0, 2, 4, 7] = 51
    out = Images(STACKS)(stack)
    assert out.shape == (1, 3, 10, 10) and out[0, 2, 4, 7].item() == pytest.approx(0.2) and out.sum() == out.max()
    assert out.is_contiguous(memory_format=torch.channels_last)
    single = torch.zeros(1, 10, 10, 4, dtype=torch.uint8)
    single[0, 5, 6, 3] = 1  # of a space whose largest value is 1
    out = Images(SINGLE)(single)
    assert out.shape == (1, 4, 10, 10) and out[0, 3, 5, 6].item() == 1.0 and out.sum() == 1.0


def test_a_single_grey_image_is_one_channel():
    grey = Spec((10, 10), "uint8", "discrete", 3)
    image = torch.zeros(2, 10, 10, dtype=torch.uint8)
    image[1, 4, 7] = 255
    out = Images(grey)(image)
    assert out.shape == (2, 1, 10, 10) and out[1, 0, 4, 7].item() == 1.0 and out.sum() == 1.0
    assert Images(grey).with_next(image, image).shape == (2, 2, 10, 10)
    assert FRAME.is_image and not grey.is_image  # a small table of bytes may hold anything


# ---------------------------------------------------------------- DQN


def flat_q(q: ImageQNetwork, *per_action: float, value: float = 0.0) -> ImageQNetwork:
    """`q` on 3 x 3 images as (x, y, ...) times the number of bright pixels; dueling: beside `value` times it."""
    with torch.no_grad():
        for p in q.parameters():
            p.zero_()
        q.trunk.weights[0][0] = 1.0  # one filter that counts
        q.trunk.weights[1][:: q.trunk.out_features, 0] = 1.0  # the first unit of every stream takes its count over
        q.advantage.weights[0][:, 0] = torch.tensor(per_action)
        if q.value is not None:
            q.value.weights[0][0, 0] = value
    return q


def images_with(*bright: int) -> torch.Tensor:
    flat = torch.zeros(len(bright), 9, dtype=torch.uint8)
    for row, count in zip(flat, bright, strict=True):
        row[:count] = 1
    return flat.view(-1, 3, 3, 1)


def test_dueling_by_hand():
    # 6 bright pixels: value 6 * 1.5 = 9, advantages 6 * (3, 9) = (18, 54), their mean 36
    q = flat_q(ImageQNetwork((1, 3, 3), 2, True, generator()), 3.0, 9.0, value=1.5)
    assert q(Images(TINY)(images_with(6, 0))).tolist() == [[9 - 18, 9 + 18], [0, 0]]


@pytest.mark.parametrize(
    ("double", "loss", "expected"),
    [  # s' has 9 pixels: online (9, 18), target network (27, 9); Q(s, 0) = 0, r = 1, discount .5
        (False, "mse", (1 + 0.5 * 27) ** 2),
        (True, "mse", (1 + 0.5 * 9) ** 2),
        (False, "huber", 14.5 - 0.5),
        (True, "huber", 5.5 - 0.5),
    ],
)
def test_targets_by_hand(double, loss, expected):
    agent = DQN(TINY, DQNConfig(double=double, critic_loss=loss), generator(), None, CPU)
    flat_q(agent.critic, 1.0, 2.0)
    flat_q(agent.target, 3.0, 1.0)
    one = torch.ones(1)
    batch = Batch(images_with(0), torch.tensor([0]), images_with(9), one, 0.5 * one, one, one.long(), one.long())
    assert q_loss(agent, batch)[0].item() == pytest.approx(expected)
    terminal = Batch(images_with(0), torch.tensor([0]), images_with(9), one, 0 * one, one, one.long(), one.long())
    assert q_loss(agent, terminal)[0].item() == pytest.approx({"mse": 1.0, "huber": 0.5}[loss])


@pytest.mark.parametrize("spec", [ATARI, FRAME, STACKS, SINGLE], ids=["atari", "frame", "stacks", "single"])
@pytest.mark.parametrize("dueling", [False, True])
def test_the_gradient_reaches_every_parameter(spec, dueling):
    agent = DQN(spec, DQNConfig(dueling=dueling), generator(), None, CPU)
    batch = batch_of(spec, 8)
    grads = torch.autograd.grad(q_loss(agent, batch)[0], list(agent.critic.parameters()))
    assert all(bool(g.any()) for g in grads)
    model = RewardModel(spec, (), 2, generator(), None)
    loss = (model(batch.obs, batch.act, batch.next_obs) - 1).square().sum()
    assert all(bool(g.any()) for g in torch.autograd.grad(loss, list(model.net.parameters())))


def test_a_state_on_disk_brings_back_the_same_agent():
    for optimizer in ("adam", "rmsprop"):
        config = DQNConfig(train_target=3, optimizer=optimizer, q_lr=1e-3, double=True, dueling=True)
        agent = make_agent(STACKS, config, generator(), None, CPU)

        def go_on(a: Any, first: int) -> None:
            for seed in range(first, first + 4):
                a.update(batch_of(STACKS, 4, seed), {}, a.due())

        go_on(agent, 0)
        twin = make_agent(STACKS, config, generator(9), None, CPU)
        twin.load_state(from_bytes(to_bytes(agent.state())))
        go_on(agent, 10)
        go_on(twin, 10)
        for a, b in zip(agent.state_dict().values(), twin.state_dict().values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("contiguous", [False, True])
def test_adam_on_weights_with_their_channels_last_is_pytorchs_adam(contiguous):
    """The fused kernel walks weights, gradients and moments in memory's order, whatever their strides say."""
    ours = Trunk((3, 10, 10), generator())
    theirs = [nn.Parameter(w.detach().clone(memory_format=torch.contiguous_format)) for w in ours.parameters()]
    optimizer, reference = Adam(list(ours.parameters()), 1e-2), torch.optim.Adam(theirs, 1e-2)
    for seed in range(5):
        grads = [torch.randn(p.shape, generator=generator(seed)) for p in theirs]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = g.clone()
        given = [torch.empty_like(p).copy_(g) for p, g in zip(ours.parameters(), grads, strict=True)]
        optimizer.step(grads if contiguous else given)
        reference.step()
    for a, b in zip(ours.parameters(), theirs, strict=True):
        torch.testing.assert_close(a, b)


# ---------------------------------------------------------------- the reward model


@both_kinds
def test_the_reward_network_sees_the_images_and_their_change(spec):
    """The shortcut by way of joint weights against what it stands for: convolutions over (s, s - s')."""
    nets, images = ChangeNets(2, spec, generator()), Images(spec)
    obs, next_obs = pixels(spec, 5)
    act = torch.tensor([0, 1, 2, 1, 0])
    spelt_out = torch.cat([images(obs), images(obs) - images(next_obs)], 1)
    members = zip(nets.trunks, nets.heads, strict=True)
    expected = picked(torch.stack([head(trunk(spelt_out)) for trunk, head in members]), act)
    found = nets(obs, act, next_obs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    params = list(nets.parameters())
    pairs = (torch.autograd.grad(x.square().sum(), params) for x in (found, expected))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@both_kinds
def test_the_reward_is_the_output_of_the_action_taken(spec):
    model = RewardModel(spec, (), 1, generator(), None)
    (obs, next_obs), act = pixels(spec, 4), torch.tensor([0, 1, 2, 1])
    before = model.predict(obs, act, next_obs)
    with torch.no_grad():
        model.net.heads[0].biases[0][1] += 7.0
    torch.testing.assert_close(model.predict(obs, act, next_obs) - before, torch.tensor([0.0, 7.0, 0.0, 7.0]))


def test_the_loss_takes_subsets_of_stacks():
    config = RewardConfig(rrd_batch_size=6, rrd_sample_size=3, rrd_ensemble=2)
    method = Decomposition(ATARI, config, generator(), None, CPU)
    obs, next_obs = pixels(ATARI, 6)
    act, mask = torch.arange(6).view(2, 3), torch.ones(2, 3, dtype=torch.bool)
    returns, length = torch.tensor([3.0, -1.0]), torch.tensor([30, 12])
    shape = (2, 3, 4, 84, 84)
    subsets = Subsets(obs.reshape(shape), act, next_obs.reshape(shape), mask, returns, length)
    each = torch.stack([method.model(obs[i : i + 1], act.flatten()[i : i + 1], next_obs[i : i + 1]) for i in range(6)])
    expected, _ = rrd_loss(each.squeeze(-1).T.reshape(2, 2, 3), returns, length)
    torch.testing.assert_close(decomposition_loss(method.model, subsets, config)[0], expected, rtol=1e-4, atol=1e-6)
    before = [p.detach().clone() for p in method.model.net.parameters()]
    assert set(method.learn(subsets)) == {"R_loss", "R_var", "R_rmse"}
    assert all(not torch.equal(a, b) for a, b in zip(before, method.model.net.parameters(), strict=True))


@both_kinds
def test_the_return_correction_spreads_what_is_missing_over_the_episode(spec):
    config = RewardConfig(rrd_batch_size=6, rrd_sample_size=3, return_correction=True)
    method = Decomposition(spec, config, generator(), None, CPU)
    episode = episode_of(spec, 300)  # more than is worked out at once
    method.closed(episode)
    total = method.model.steps(episode.obs, episode.act).double().sum().item()
    assert total + 300 * method.missing.item() == pytest.approx(5.0, abs=1e-2)


def seen_by_hand(episode: Episode, spec: Spec, t: int) -> np.ndarray:
    frames = [episode.obs[max(t - back, 0)] for back in (2, 1, 0)]
    return np.stack(frames) if spec.frames > 1 else episode.obs[t]


class Replay(gym.Env):
    """Shows one episode's observations, whatever is done."""

    def __init__(self, episode: Episode, spec: Spec):
        self.episode, self.t = episode, 0
        self.observation_space = gym.spaces.Box(0, spec.pixel_max, spec.obs_shape, np.uint8)
        self.action_space = gym.spaces.Discrete(spec.act_dim)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.episode.obs[0], {}

    def step(self, action):
        self.t += 1
        return self.episode.obs[self.t], 0.0, self.t == self.episode.length, False, {}


@both_kinds
def test_every_door_to_the_reward_gives_the_same_numbers(spec, tmp_path):
    model, episode = RewardModel(spec, (), 2, generator(), None), episode_of(spec, 7)
    now, after = (np.stack([seen_by_hand(episode, spec, t + ahead) for t in range(7)]) for ahead in (0, 1))
    expected = model.reward(now, episode.act, after)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(model.steps(episode.obs, episode.act), expected, rtol=1e-4, atol=1e-6)
    again = RewardModel.load(model.save(tmp_path))
    assert json.loads((tmp_path / "reward.json").read_text())["network"] == "convolutions"
    assert again.spec == spec
    np.testing.assert_array_equal(again.reward(now, episode.act, after), expected)
    env = LearnedReward(Replay(episode, spec), model)
    env.reset()
    played = [env.step(int(a))[1] for a in episode.act]
    np.testing.assert_allclose(played, expected, rtol=1e-4, atol=1e-6)
    if spec.frames > 1:
        env = LearnedReward(gym.wrappers.FrameStackObservation(Replay(episode, spec), spec.frames), model)
        env.reset()
        np.testing.assert_array_equal([env.step(int(a))[1] for a in episode.act], played)


def test_a_stack_that_does_not_follow_is_refused():
    model = RewardModel(STACKS, (), 1, generator(), None)
    stack = np.arange(300, dtype=np.uint8).reshape(1, 3, 10, 10)
    with pytest.raises(UserError, match="not obs moved on by a frame") as caught:
        model.reward(stack, np.zeros(1), stack)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg"])
def test_agents_that_see_vectors_refuse_images(name):
    spec = Spec((96, 96, 3), "uint8", "box", 3, (-1.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match=f"--basis-alg {name} sees vectors, and the observations here are 96x96x3"):
        make_agent(spec, AGENTS[name](), generator(), None, CPU)


def test_settings_of_vectors_are_refused_for_images():
    plain = OnlineConfig(env="X", agent=DQNConfig())
    check_images(SINGLE, plain)
    for changed, flag in (
        (OnlineConfig(env="X", agent=DQNConfig(hidden=(64,))), "--hidden"),
        (OnlineConfig(env="X", agent=DQNConfig(), reward=RewardConfig(r_hidden=(64,))), "--r-hidden"),
        (OnlineConfig(env="X", agent=DQNConfig(), obs_normalization=True), "--obs-normalization"),
    ):
        with pytest.raises(UserError, match=f"^{flag} is for vectors"):
            check_images(SINGLE, changed)
        check_images(Spec((4,), "float32", "discrete", 2), changed)


def test_images_too_small_for_a_convolution_are_refused_before_a_run_begins():
    with pytest.raises(UserError, match="images of 2 x 9 are too small for a convolution"):
        check_images(Spec((2, 9, 3), "uint8", "discrete", 2), OnlineConfig(env="X", agent=DQNConfig()))


def test_a_reward_of_images_needs_discrete_actions():
    with pytest.raises(UserError, match="one output per action"):
        RewardModel(Spec((9, 9, 3), "uint8", "box", 1, (-1.0,), (1.0,)), (), 1, generator(), None)


def test_convolutions_are_those_of_pytorch():
    trunk, x = Trunk((2, 10, 10), generator()), torch.rand(3, 2, 10, 10, generator=generator(1))
    hidden = F.conv2d(x, trunk.weights[0]).relu().permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(trunk(x), (hidden @ trunk.weights[1].T).relu())
