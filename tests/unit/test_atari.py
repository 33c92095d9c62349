"""Atari games against the emulator itself and against ale-py's own vector environment, and the errors about them."""

import subprocess
import sys

import ale_py
import numpy as np
import pytest
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

from apportion.config import AtariConfig, DQNConfig, OnlineConfig
from apportion.envs.atari import GAMES, LIMIT, game_of, make_atari, rom_of, shrinker
from apportion.envs.collect import Collector
from apportion.envs.make import frames_of, make_one, make_vector, resolve, spec_of, step_limit
from apportion.rng import Streams
from apportion.train.environments import env_spec, one_env, training_envs
from apportion.types import Spec, UserError

PLAIN = AtariConfig(noop=0)
STICKY = AtariConfig(sticky=True)


def error_of(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def raw(game: str) -> ale_py.ALEInterface:
    """The emulator as ale-py gives it, `game` begun."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(rom_of(game)))
    ale.reset_game()
    return ale


def play(env, seed: int, actions) -> tuple[list[np.ndarray], list[float]]:
    """Frames (T + 1) and rewards (T) of an episode, up to its end."""
    frames, rewards = [env.reset(seed=seed)[0]], []
    for action in actions:
        frame, reward, terminated, truncated, _ = env.step(action)
        frames.append(frame)
        rewards.append(reward)
        if terminated or truncated:
            break
    return frames, rewards


def actions_of(env, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, env.action_space.n, n)


def idle_frames(env, seed: int) -> int:
    env.reset(seed=seed)
    return env.unwrapped._ale.getEpisodeFrameNumber()


def test_shrinking_takes_the_mean_over_the_area_of_each_pixel():
    tall = np.zeros((168, 84), np.uint8)
    tall[0], tall[1], tall[3] = 10, 30, 100  # pairs of rows: 20, 50
    assert shrinker(168, 84)(tall)[:3, 7].tolist() == [20, 50, 0]
    rows = np.repeat(np.arange(210, dtype=np.uint8)[:, None], 84, axis=1)
    # 2.5 rows a pixel: (0 + 1 + 2/2) / 2.5 = .8, (2/2 + 3 + 4) / 2.5 = 3.2, then 5 more every second pixel
    assert shrinker(210, 84)(rows)[:4, 0].tolist() == [1, 3, 6, 8]
    assert (shrinker(210, 160)(np.full((210, 160), 255, np.uint8)) == 255).all()


def test_a_step_is_four_emulated_frames_and_shows_the_brighter_of_the_last_two():
    env, ale = make_atari("Pong", PLAIN, clip=False), raw("Pong")
    shrink, meant = shrinker(210, 160), ale.getMinimalActionSet()
    env.reset(seed=0)
    flickers = 0
    for action in actions_of(env, 120):
        frame, reward, *_ = env.step(action)
        points, screens = 0, []
        for _ in range(4):
            points += ale.act(meant[action])
            screens.append(ale.getScreenGrayscale())
        assert (frame == shrink(np.maximum(screens[2], screens[3]))).all()
        assert reward == points
        flickers += (screens[2] > screens[3]).any()
    assert flickers > 10 and ale.getEpisodeFrameNumber() == 480  # the maximum made a difference


def agree_with_ale_py(game: str, steps: int) -> float:
    """Plays another episode first. Returns the largest share of pixels of a frame that differ, by 1 at most."""
    env = make_atari(game, PLAIN, clip=False)
    play(env, 5, actions_of(env, steps, seed=5))
    actions = actions_of(env, steps)
    frames, rewards = play(env, 0, actions)
    peer = AtariVectorEnv(rom_of(game), 1, stack_num=1, noop_max=0, use_fire_reset=False, reward_clipping=False)
    theirs = [peer.reset(seed=0)[0]]
    over = False
    for t, reward in enumerate(rewards):
        frame, their_reward, terminated, _, _ = peer.step(actions[t : t + 1])
        theirs.append(frame)
        assert their_reward[0] == reward and not over, (game, t)
        over = bool(terminated[0])
    assert over == (len(rewards) < steps), game
    peer.close()
    kept = len(frames) - over  # ale-py shows an older frame when a game is over
    apart = np.abs(np.stack(frames[:kept]).astype(int) - np.concatenate(theirs[:kept])[:, 0])
    assert apart.max() <= 1, game
    return float((apart > 0).mean(axis=(1, 2)).max())


@pytest.mark.parametrize("game", ["Assault", "Breakout"])  # Breakout is over soon with random actions
def test_frames_rewards_and_endings_are_those_of_ale_pys_own_vector_environment(game):
    assert agree_with_ale_py(game, 300) < 0.02  # halves are rounded otherwise


@pytest.mark.long
@pytest.mark.parametrize("game", GAMES)
def test_every_game_of_the_list_opens_and_agrees_with_ale_py(game):
    assert agree_with_ale_py(game, 150) < 0.02
    assert spec_of(make_one(game, True)).obs_shape == (84, 84)


def test_idle_frames_are_drawn_anew_for_each_seed_from_1_to_the_maximum():
    env = make_atari("Pong", AtariConfig(noop=3), clip=False)
    assert {idle_frames(env, seed) for seed in range(30)} == {1, 2, 3}
    env = make_atari("Pong", AtariConfig(noop=30), clip=False)
    drawn = [idle_frames(env, seed) for seed in range(40)]
    assert min(drawn) >= 1 and max(drawn) <= 30 and len(set(drawn)) > 15
    assert drawn[7] == idle_frames(env, 7)
    assert idle_frames(make_atari("Pong", PLAIN, clip=False), 0) == 0


def test_episodes_without_a_seed_go_on_drawing():
    env = make_atari("Pong", AtariConfig(noop=30), clip=False)
    env.reset(seed=0)
    assert len({idle_frames(env, None) for _ in range(10)}) > 3


@pytest.mark.parametrize("atari", [AtariConfig(), STICKY], ids=["plain", "sticky"])
def test_seed_and_actions_give_the_same_episode_bit_for_bit_whatever_was_played_before(atari):
    fresh, used = (make_atari("Qbert", atari, clip=False) for _ in range(2))
    actions = actions_of(fresh, 250)
    play(used, 8, actions[::-1])
    (frames, rewards), (again, rewards_again) = play(fresh, 3, actions), play(used, 3, actions)
    assert np.array_equal(frames, again) and rewards == rewards_again
    assert sum(rewards) > 0
    other, _ = play(used, 4, actions)
    assert not np.array_equal(frames[:100], other[:100])


def test_sticky_actions_repeat_a_quarter_of_the_emulated_frames_actions():
    """Against the emulator, told by hand what the seed makes of the actions."""
    atari = AtariConfig(sticky=True, noop=0)
    env, ale = make_atari("Breakout", atari, clip=False), raw("Breakout")
    meant, rng = ale.getMinimalActionSet(), np.random.Generator(np.random.PCG64(6))
    env.reset(seed=6)
    held, repeated, total = ale_py.Action.NOOP, 0, 0
    for action in actions_of(env, 100):
        frame, _, over, _, _ = env.step(action)
        if over:
            break
        for u in rng.random(4):
            repeated, total = repeated + (u < 0.25), total + 1
            held = held if u < 0.25 else meant[action]
            before = ale.getScreenGrayscale()
            ale.act(held)
        assert (frame == shrinker(210, 160)(np.maximum(before, ale.getScreenGrayscale()))).all()
    assert total == 400 and 70 < repeated < 130
    plain = make_atari("Breakout", PLAIN, clip=False)
    assert not np.array_equal(play(plain, 6, actions_of(env, 100))[0], play(env, 6, actions_of(env, 100))[0])


def test_rewards_become_their_sign_only_if_asked():
    points, signs = (make_one("Assault", False, clip=clip) for clip in (False, True))
    actions = actions_of(points, 300)
    (frames, rewards), (same_frames, clipped) = play(points, 1, actions), play(signs, 1, actions)
    assert set(rewards) == {0.0, 21.0} and clipped == np.sign(rewards).tolist()
    assert np.array_equal(frames, same_frames)


def test_a_limit_truncates_and_a_lost_life_ends_nothing():
    env = make_atari("Breakout", AtariConfig(), clip=False, limit=20)
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(20)]
    assert ends[-1] == (False, True) and not any(t or u for t, u in ends[:-1])
    env = make_atari("Breakout", AtariConfig(), clip=False)
    env.reset(seed=0)
    lives = [5]
    while lives[-1] > 0:
        *_, terminated, truncated, _ = env.step(1)  # starts balls, never moves
        lives.append(env.unwrapped._ale.lives())
        assert terminated == (lives[-1] == 0) and not truncated
    assert set(lives) == {5, 4, 3, 2, 1, 0}


def test_half_an_hour_of_play_is_the_limit_and_a_shorter_one_can_be_asked_for():
    assert LIMIT * 4 == 30 * 60 * 60
    assert step_limit(make_one("Pong", True)) == LIMIT
    assert step_limit(make_one("Pong", True, max_steps=50)) == 50


def test_an_open_episode_is_taken_up_again_exactly():
    env, other = (make_one("Assault", True, atari=STICKY) for _ in range(2))
    actions = actions_of(env, 150)
    frames, rewards = play(env, 11, actions)
    play(other, 12, actions)
    assert np.array_equal(other.replay([(11, actions[:100])]), frames[100])
    assert np.array_equal([other.step(a)[0] for a in actions[100:]], frames[101:])
    assert rewards == [0.0] * 150  # withheld: the game is not over


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_games_side_by_side_show_what_they_show_alone(kind):
    envs = make_vector("Breakout", 2, kind, False, atari=STICKY, clip=True)
    try:
        assert spec_of(envs, frames=4) == Spec((84, 84), "uint8", "discrete", 4, frames=4, pixel_max=255)
        actions = np.stack([actions_of(make_one("Breakout", False), 40, seed=s) for s in (0, 1)], axis=1)
        first, _ = envs.reset(seed=[5, 6], options={"reset_mask": np.ones(2, np.bool_)})
        side_by_side = [first.copy(), *(envs.step(a)[0].copy() for a in actions)]
    finally:
        envs.close()
    for i, seed in enumerate((5, 6)):
        alone, _ = play(make_one("Breakout", False, atari=STICKY, clip=True), seed, actions[:, i])
        assert np.array_equal(alone, [frames[i] for frames in side_by_side])


def test_pictures_are_in_colour_and_drawing_changes_nothing():
    drawn, plain = (make_one("Assault", False, render_mode=mode) for mode in ("rgb_array", None))
    drawn.reset(seed=2), plain.reset(seed=2)
    for action in actions_of(drawn, 30):
        assert (drawn.step(action)[0] == plain.step(action)[0]).all()
        picture = drawn.render()
    assert picture.shape == (210, 160, 3) and picture.dtype == np.uint8
    assert (picture[..., 0] != picture[..., 1]).any()


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("Assault", "Assault"),
        ("ALE/Assault-v5", "Assault"),
        ("AssaultNoFrameskip-v4", "Assault"),
        ("AssaultDeterministic-v0", "Assault"),
        ("MsPacman-v4", "MsPacman"),
        ("ALE/Frogger-v5", "Frogger"),
        ("Frogger", None),
        ("Assault-ram-v4", None),
        ("Pong-v7", None),
        ("MinAtar/Breakout-v1", None),
        ("Hopper-v5", None),
        ("my.module:Pong", None),
    ],
)
def test_names_of_games(env, game):
    assert game_of(env) == game
    assert frames_of(env, AtariConfig(frames=3)) == (3 if game else 1)
    if game:
        _, lines = resolve(env)
        assert len(lines) == 1 and lines[0].startswith(f"{env} means ") and game in lines[0]


def test_all_games_of_the_list_are_known_to_ale_py():
    assert len(GAMES) == len(set(GAMES)) == 62
    assert all(roms.get_rom_path(rom_of(game)).exists() for game in GAMES)


@pytest.mark.parametrize("env", ["Asault", "assault", "ALE/Asault-v5", "ALE/Assault-ram-v5"])
def test_an_unknown_game_gets_near_names(env):
    message = error_of(lambda: make_one(env, False))
    assert "did you mean Assault" in message or ", Assault" in message


def test_a_game_like_no_other_is_said_to_be_unknown():
    assert "there is no Atari game 'Qqqqqqqqq'" in error_of(lambda: resolve("ALE/Qqqqqqqqq-v5"))


def test_a_missing_or_damaged_rom_is_one_line_and_nothing_else(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    missing = error_of(lambda: make_one("Assault", False))
    (tmp_path / "assault.bin").write_bytes(b"not a game")
    damaged = error_of(lambda: make_one("Assault", False))
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / "gone"))
    gone = error_of(lambda: make_one("Assault", False))
    for message in (missing, damaged, gone):
        assert "Assault cannot be played, its ROM is missing or damaged" in message and "ALE_ROMS_DIR" in message
    assert capfd.readouterr() == ("", "")


def test_without_ale_py_the_line_to_install_it_is_given(monkeypatch):
    for name in ("ale_py", "ale_py.roms", "ale_py.registration"):
        monkeypatch.setitem(sys.modules, name, None)
    message = error_of(lambda: make_one("Assault", False))
    assert message == "Assault is an Atari game and needs ale-py: pip install 'apportion[atari]'"


def test_ale_py_is_imported_for_games_alone_and_prints_nothing():
    script = """
import sys
from apportion.envs.make import make_one, resolve, spec_of
spec_of(make_one("CartPole-v1", True)), resolve("Assault")
assert "ale_py" not in sys.modules
make_one("Assault", True, render_mode="rgb_array").reset(seed=0)
assert "ale_py" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_window_of_its_own_is_refused():
    assert "rgb_array" in error_of(lambda: make_one("Assault", False, render_mode="human"))


@pytest.mark.parametrize("env_type", ["ep_rews", "normal"])
def test_a_run_is_paid_the_games_points_at_the_end_or_their_sign_at_once_and_judged_by_its_points(env_type):
    config = OnlineConfig("Assault", agent=DQNConfig(), env_type=env_type)
    envs, streams = training_envs(config), Streams(0)
    collector = Collector(envs, env_spec(config, envs), streams)
    episodes = []
    while not episodes:
        episodes = collector.step(lambda obs: collector.random_actions(streams))
    collector.close()
    reward = episodes[0].reward
    if env_type == "ep_rews":  # an enemy of Assault is 21 points
        assert not reward[:-1].any() and reward[-1] > 0 and reward[-1] % 21 == 0
    else:
        assert set(reward.tolist()) == {0.0, 1.0}
    judged = one_env(config)
    _, points = play(judged, 0, np.random.default_rng(0).integers(7, size=600))
    assert set(points) == {0.0, 21.0}
