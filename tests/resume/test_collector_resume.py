"""An interrupted collector goes on as if nothing had happened, or says that it cannot."""

import numpy as np
import pytest
import torch

from apportion.envs.collect import Collector
from apportion.envs.make import make_vector, spec_of
from apportion.rng import Streams
from apportion.run import checkpoint
from apportion.types import Episode, UserError

OWN = "envs_for_tests:"


def build(env: str, n: int, kind: str, streams: Streams, warn=None) -> Collector:
    envs = make_vector(env, n, kind, True)
    return Collector(envs, spec_of(envs), streams, warn or (lambda line: pytest.fail(line)))


def collect(c: Collector, steps: int) -> list[Episode]:
    return [e for _ in range(steps) for e in c.step(lambda obs: c.random_actions(c.streams))]


def resumed(c: Collector, env: str, kind: str, warn=None) -> tuple[Collector, bool]:
    streams = Streams(c.streams.seed)
    streams.load_state(c.streams.state())
    other = build(env, c.num_envs, kind, streams, warn)
    return other, other.load_state(c.state())


def same(a: list[Episode], b: list[Episode]) -> bool:
    return len(a) == len(b) and all(
        (x.env, x.seed, x.terminated) == (y.env, y.seed, y.terminated)
        and all(getattr(x, k).tobytes() == getattr(y, k).tobytes() for k in ("obs", "act", "reward"))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("env", "before", "after"),
    [
        ("Reacher-v5", 70, 60),  # one whole episode, then 20 of 50 steps: 30 are left until the truncation
        ("HalfCheetah-v5", 40, 30),
        ("Hopper-v5", 37, 60),
        (OWN + "WalkOfSeven", 10, 20),
        (OWN + "Levers", 5, 20),
        (OWN + "Matrix", 5, 20),
        (OWN + "Pixels", 5, 20),
    ],
)
def test_an_episode_is_taken_up_in_its_middle_bit_for_bit(env, before, after, kind):
    whole = build(env, 2, kind, Streams(3))
    collect(whole, before)
    other, exact = resumed(whole, env, kind)
    assert exact
    assert same(collect(whole, after), collect(other, after))
    assert other.env_steps == whole.env_steps == 2 * (before + after)
    assert other.episodes == whole.episodes
    assert other.streams.state() == whole.streams.state()
    whole.envs.close()
    other.envs.close()


def test_the_steps_left_until_truncation_are_right():
    whole = build("Reacher-v5", 1, "sync", Streams(0))
    collect(whole, 20)
    other, _ = resumed(whole, "Reacher-v5", "sync")
    assert collect(other, 29) == []
    (episode,) = collect(other, 1)
    assert episode.length == 50 and not episode.terminated


def test_the_withheld_return_includes_the_part_before_the_interruption():
    whole = build(OWN + "WalkOfSeven", 1, "sync", Streams(0))
    collect(whole, 4)
    other, _ = resumed(whole, OWN + "WalkOfSeven", "sync")
    (a,), (b,) = collect(whole, 3), collect(other, 3)
    assert a.episode_return == b.episode_return != 0


def test_a_collector_that_has_been_used_can_be_set_back():
    c = build("Hopper-v5", 2, "sync", Streams(1))
    collect(c, 30)
    state, counters = c.state(), c.streams.state()
    first = collect(c, 40)
    c.streams.load_state(counters)
    assert c.load_state(state)
    assert same(first, collect(c, 40))


def test_state_before_the_first_step_resumes_too():
    c = build(OWN + "Countdown", 2, "sync", Streams(1))
    other, exact = resumed(c, OWN + "Countdown", "sync")
    assert exact
    assert same(collect(c, 20), collect(other, 20))


def test_the_state_is_a_snapshot():
    c = build(OWN + "WalkOfSeven", 1, "sync", Streams(1))
    collect(c, 3)
    state = c.state()
    raw, obs = state["raw"].copy(), state["open"]["0"]["obs"].copy()
    collect(c, 7)
    assert np.array_equal(state["raw"], raw) and np.array_equal(state["open"]["0"]["obs"], obs)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("env", ["Countdown", "Levers", "Pixels", "WalkOfSeven"])
def test_the_state_survives_a_checkpoint_on_disk(env, steps, tmp_path):
    c = build(OWN + env, 2, "sync", Streams(1))
    collect(c, steps)
    path = checkpoint.save(tmp_path, steps, {"collector": c.state(), "streams": c.streams.state()}, {}, keep=1)
    parts, _ = checkpoint.load(path)
    streams = Streams(1)
    streams.load_state(parts["streams"])
    other = build(OWN + env, 2, "sync", streams)
    assert other.load_state(parts["collector"])
    assert same(collect(c, 20), collect(other, 20))


def test_arrays_may_come_back_as_tensors():
    c = build(OWN + "WalkOfSeven", 1, "sync", Streams(1))
    collect(c, 3)
    state = c.state()
    state["raw"] = torch.from_numpy(state["raw"])
    state["open"]["0"] = {k: torch.from_numpy(v) if k != "seed" else v for k, v in state["open"]["0"].items()}
    streams = Streams(1)
    streams.load_state(c.streams.state())
    other = build(OWN + "WalkOfSeven", 1, "sync", streams)
    assert other.load_state(state)
    assert same(collect(c, 9), collect(other, 9))


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("env", ["OwnNoise", "Forgetful"])
def test_an_environment_that_does_not_repeat_itself_is_noticed_and_begun_afresh(env, kind):
    lines: list[str] = []
    whole = build(OWN + env, 2, kind, Streams(0))
    collect(whole, 10)  # one whole episode of 7, then 3 steps
    other, exact = resumed(whole, OWN + env, kind, lines.append)
    assert not exact
    assert len(lines) == 2 and "environment 0 did not repeat its open episode" in lines[0] and "step 3" in lines[0]
    episodes = collect(other, 7)
    assert [e.length for e in episodes] == [7, 7]  # begun afresh, nothing of the dropped part in it
    assert [e.seed for e in episodes] != [whole._open[i].seed for i in range(2)]
    whole.envs.close()
    other.envs.close()


def test_only_the_environment_that_differs_loses_its_episode():
    lines: list[str] = []
    whole = build(OWN + "WalkOfSeven", 2, "sync", Streams(0))
    collect(whole, 3)
    state = whole.state()
    state["raw"][1, 0] += 1e-12  # as if environment 1 had gone another way
    streams = Streams(0)
    streams.load_state(whole.streams.state())
    other = build(OWN + "WalkOfSeven", 2, "sync", streams, lines.append)
    assert not other.load_state(state)
    assert len(lines) == 1 and "environment 1" in lines[0]
    (a,) = collect(other, 4)
    assert a.env == 0 and a.length == 7
    assert collect(whole, 4)[0].obs.tobytes() == a.obs.tobytes()


def test_another_number_of_environments_is_refused():
    c = build(OWN + "Countdown", 2, "sync", Streams(0))
    collect(c, 1)
    with pytest.raises(UserError, match="2 environments, this run 3"):
        build(OWN + "Countdown", 3, "sync", Streams(0)).load_state(c.state())
