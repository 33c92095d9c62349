"""Stepping, closing and resetting: which environments, when, with which seeds."""

import os
import signal

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from apportion.envs.collect import ActionMap, Collector
from apportion.envs.make import make_vector, spec_of
from apportion.rng import Streams
from apportion.types import Episode, UserError
from envs_for_tests import Countdown, Levers, Matrix, Walk

OWN = "envs_for_tests:"


def collector(env: str, n: int = 1, kind="sync", episodic=True, seed=0) -> Collector:
    envs = make_vector(env, n, kind, episodic)
    return Collector(envs, spec_of(envs), Streams(seed))


def collect(c: Collector, steps: int) -> list[Episode]:
    return [e for _ in range(steps) for e in c.step(lambda obs: c.random_actions(c.streams))]


def seed_sequence(i: int, n: int, seed: int = 0) -> list[int]:
    streams = Streams(seed)
    return [streams.integer(f"env/{i}") for _ in range(n)]


def test_an_episode_holds_all_observations_and_the_withheld_return():
    c = collector(OWN + "Countdown")
    (episode, *_) = collect(c, 9)
    start = int(Countdown().reset(seed=seed_sequence(0, 1)[0])[0][0])
    assert episode.obs.tolist() == [[start, t] for t in range(start + 1)]
    assert episode.obs.dtype == np.float32 and episode.act.shape == (start, 2) and episode.act.dtype == np.float32
    assert episode.reward.tolist() == [0.0] * (start - 1) + [start * (start + 1) / 2]
    assert (episode.terminated, episode.env, episode.seed) == (True, 0, seed_sequence(0, 1)[0])


def test_without_withholding_each_step_has_its_reward():
    (episode, *_) = collect(collector(OWN + "Countdown", episodic=False), 9)
    assert episode.reward.tolist() == list(range(1, episode.length + 1))


@pytest.mark.parametrize("env", [OWN + "WalkOfSeven", "Reacher-v5"])
def test_truncation_keeps_terminated_false(env):
    (episode, *_) = collect(collector(env), 50)
    assert episode.length == (50 if env == "Reacher-v5" else 7)
    assert episode.terminated is False


def test_an_episode_that_terminates_at_its_step_limit_is_terminated():
    start = int(Countdown().reset(seed=seed_sequence(0, 1)[0])[0][0])
    envs = SyncVectorEnv([lambda: TimeLimit(Countdown(), start)], autoreset_mode=AutoresetMode.DISABLED)
    (episode, *_) = collect(Collector(envs, spec_of(envs), Streams(0)), start)
    assert episode.length == start and episode.terminated is True


def test_only_finished_environments_are_reset_each_with_the_next_seed_of_its_own_stream():
    c = collector(OWN + "Countdown", n=4)
    episodes = collect(c, 60)
    assert len({e.length for e in episodes}) > 2  # they ended at different times
    for i in range(4):
        mine = [e for e in episodes if e.env == i]
        seeds = seed_sequence(i, len(mine) + 1)
        assert [e.seed for e in mine] == seeds[:-1]
        assert c.envs.envs[i].unwrapped.resets == len(mine) + 1
        assert [e.length for e in mine] == [int(Countdown().reset(seed=s)[0][0]) for s in seeds[:-1]]
        for e in mine:  # nobody else's reset disturbed it
            assert e.obs[:, 1].tolist() == list(range(e.length + 1))
    assert c.episodes == len(episodes) and c.env_steps == 240


def test_the_policy_sees_the_new_episode_after_a_reset_and_its_own_observation_otherwise():
    c, seen = collector(OWN + "Countdown", n=3), []

    def look(obs):
        seen.append(obs.copy())
        return np.zeros((3, 2), np.float32)

    open_t = [0, 0, 0]
    for _ in range(30):
        closed = {e.env for e in c.step(look)}
        assert seen[-1][:, 1].tolist() == open_t
        open_t = [0 if i in closed else t + 1 for i, t in enumerate(open_t)]


@pytest.mark.parametrize("env", [OWN + "Countdown", "Hopper-v5"])
def test_sync_and_async_give_bit_equal_episodes(env):
    one, other = (collector(env, n=2, kind=kind) for kind in ("sync", "async"))
    a, b = collect(one, 60), collect(other, 60)
    other.envs.close()
    assert len(a) == len(b) > 2
    for x, y in zip(a, b, strict=True):
        assert (x.env, x.seed, x.terminated) == (y.env, y.seed, y.terminated)
        assert all(getattr(x, k).tobytes() == getattr(y, k).tobytes() for k in ("obs", "act", "reward"))


def test_same_seed_gives_the_same_episodes_and_another_seed_others():
    first, again, other = (collect(collector(OWN + "Walk", seed=s), 1) for s in (0, 0, 1))
    assert first == again == other == []
    first, again, other = (collect(collector(OWN + "WalkOfSeven", seed=s), 7) for s in (0, 0, 1))
    assert first[0].obs.tobytes() == again[0].obs.tobytes() != other[0].obs.tobytes()


def test_actions_are_mapped_to_the_bounds_and_stored_as_given():
    c = collector(OWN + "Countdown")  # bounds [-2, 2] and [0, 10]
    given = [[-1.0, -1.0], [0.5, 0.5], [1.0, 1.0]]
    closed = [e for a in [*given, *[[0.0, 0.0]] * 7] for e in c.step(lambda obs, a=a: np.float32([a]))]
    done = c.envs.envs[0].unwrapped.actions
    assert [x.tolist() for x in done[:3]] == [[-2.0, 0.0], [1.0, 7.5], [2.0, 10.0]]
    assert all(x.dtype == np.float32 for x in done)
    assert closed[0].act[: min(3, closed[0].length)].tolist() == given[: closed[0].length]


def test_actions_beyond_the_range_are_clipped_in_store_and_environment_alike():
    c = collector(OWN + "Countdown")
    closed = [e for _ in range(9) for e in c.step(lambda obs: np.float32([[-3.0, 7.0]]))]
    assert closed[0].act[0].tolist() == [-1.0, 1.0]
    assert c.envs.envs[0].unwrapped.actions[0].tolist() == [-2.0, 10.0]


def test_the_map_is_the_identity_to_the_bit_where_bounds_are_one():
    space = make_vector("Reacher-v5", 1, "sync", True).single_action_space
    act = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32) * np.float32(1e-7)
    assert ActionMap(space)(act).tobytes() == act.tobytes()


def test_discrete_actions_start_where_the_space_says():
    assert ActionMap(Levers.action_space)(np.array([0, 2])).tolist() == [5, 7]
    c = collector(OWN + "Levers", n=2)
    episodes = collect(c, 20)
    assert {int(a) for a in c.envs.envs[0].unwrapped.actions} == {5, 6, 7}
    assert episodes[0].act.dtype == np.int64 and set(episodes[0].act.tolist()) <= {0, 1, 2}


def test_actions_with_two_axes_are_unfolded():
    assert ActionMap(Matrix.action_space)(np.float32([[1, 1, 1, 1]])).tolist() == [[[1, 2], [3, 4]]]
    assert collect(collector(OWN + "Matrix"), 9)[0].act.shape[1:] == (4,)


def test_images_stay_uint8():
    episode = collect(collector(OWN + "Pixels"), 9)[0]
    assert episode.obs.dtype == np.uint8 and episode.obs.shape[1:] == (4, 4, 1) and episode.obs[2].max() == 2


def test_random_actions_fill_the_range_and_come_from_their_own_stream():
    c = collector(OWN + "Countdown", n=500)
    act = c.random_actions(Streams(7))
    assert act.shape == (500, 2) and act.dtype == np.float32
    assert -1 <= act.min() < -0.98 and 0.98 < act.max() < 1 and abs(act.mean()) < 0.06
    assert np.array_equal(act, c.random_actions(Streams(7)))
    streams = Streams(7)
    c.random_actions(streams)
    assert streams.state() == {"warmup": 1}


def test_a_long_episode_outgrows_its_first_arrays():
    envs = SyncVectorEnv([lambda: TimeLimit(Walk(), 300)], autoreset_mode=AutoresetMode.DISABLED)
    (episode,) = collect(Collector(envs, spec_of(envs), Streams(0)), 300)
    assert episode.length == 300
    assert episode.obs[:, 1].tolist() == list(range(301))


def test_a_closed_episode_is_not_touched_by_the_next():
    c = collector(OWN + "WalkOfSeven")
    (episode,) = collect(c, 7)
    before = episode.obs.copy()
    collect(c, 7)
    assert np.array_equal(episode.obs, before)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("NaNObservation", "environment 0 gave nan as observation entry 1, at step 3 of its episode"),
        ("NaNReward", "environment 0 gave nan as reward, at step 2 of its episode"),
    ],
)
def test_nan_from_the_environment_is_one_clear_line(env, says, kind):
    c = collector(OWN + env, n=2, kind=kind)
    with pytest.raises(UserError) as caught:
        collect(c, 7)
    c.envs.close()
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert f"seed {seed_sequence(0, 1)[0]}" in str(caught.value)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("episodic", [True, False])
@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("Crash", "environment 0 raised ZeroDivisionError: the cart fell off, at step 3 of its episode with seed {}:"),
        ("CrashAtReset", "environment 0 raised RuntimeError: no more carts, at its reset with seed"),
        ("OldStep", "environment 0 raised ValueError: not enough values to unpack (expected 5, got 4), at step 1 of"),
        ("WrongShape", "environment 0 gave an observation of shape (2,) where its space says (3,), at its reset with"),
    ],
)
def test_a_fault_in_the_environment_is_one_clear_line(env, says, kind, episodic, capfd, recwarn):
    c = collector(OWN + env, kind=kind, episodic=episodic)
    with pytest.raises(UserError) as caught:
        collect(c, 9)
    c.close()
    assert says.format(seed_sequence(0, 1)[0]) in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith("try `apportion check` on it")
    assert capfd.readouterr().err == "" and not [w for w in recwarn if "Traceback" in str(w.message)]


def test_the_environment_at_fault_is_named():
    c = collector(OWN + "Crash", n=3)
    collect(c, 1)
    for env in c.envs.envs[:2]:
        env.unwrapped.t = -9  # these are not yet where they fail
    with pytest.raises(UserError, match=r"environment 2 raised ZeroDivisionError.* at step 3 of its episode"):
        collect(c, 9)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_process_that_died_is_one_clear_line_and_can_be_closed():
    c = collector(OWN + "Dies", n=2, kind="async")
    with pytest.raises(UserError, match=r"the environments stopped working: \w+"):
        collect(c, 1)
    c.close()
    for process in c.envs.processes:
        process.join(10)
        assert not process.is_alive()


def test_ctrl_c_reaches_the_processes_of_environments_without_stopping_them():
    """A terminal sends it to the whole group; only the loop, which saves first, may answer."""
    c = collector(OWN + "WalkOfSeven", n=2, kind="async")
    collect(c, 3)
    for process in c.envs.processes:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGHUP)
    assert len(collect(c, 4)) == 2
    c.close()


def test_nan_from_the_policy_names_the_policy():
    c = collector(OWN + "Countdown", n=2)
    with pytest.raises(UserError, match="the policy, for environment 1, gave nan as action entry 0, at step 1"):
        c.step(lambda obs: np.float32([[0, 0], [np.nan, 0]]))


def test_actions_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\), expected \(2, 2\)"):
        collector(OWN + "Countdown", n=2).step(lambda obs: np.zeros((2, 3), np.float32))
