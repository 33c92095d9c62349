"""Stacks of frames against a player who keeps a deque; and the ring on the disk against a store in memory."""

import copy
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.run.checkpoint import CheckpointDamaged
from apportion.store import ring as ring_module
from apportion.store.episodes import EpisodeStore
from apportion.store.frames import seen, seen_now
from apportion.store.log import ReplayLog
from apportion.store.ring import ObsRing
from apportion.store.sample import subsets, transitions
from apportion.types import Spec
from frames_for_tests import SIDE, SPEC, made, played

histories = st.tuples(
    st.integers(12, 60),  # capacity
    st.lists(st.tuples(st.integers(1, 11), st.booleans()), min_size=1, max_size=25),
)


def stored(capacity, lengths, frames, place):
    """A store in memory, in a ring on the disk, or as on a GPU; and its live episodes, by a model of a few lines."""
    spec = Spec((SIDE, SIDE), "uint8", "discrete", 4, frames=frames)
    with tempfile.TemporaryDirectory() as folder:  # the mapping outlives the name
        ring = ObsRing(Path(folder), capacity, spec, pytest.fail) if place == "disk" else None
    store = EpisodeStore(capacity, spec, ring=ring)
    if place == "gpu":
        store._views = None
    live = {}
    for number, (length, terminated) in enumerate(lengths):
        live[number] = made(number, length, terminated)
        assert store.add(live[number]) == number
        while sum(e.length + 1 for e in live.values()) > capacity:
            del live[min(live)]
    return store, live


@settings(max_examples=120, deadline=None)
@given(histories, st.integers(2, 5), st.sampled_from(["memory", "disk", "gpu"]), st.integers(0, 2**32 - 1))
def test_every_stack_that_is_drawn_is_what_a_player_saw(history, frames, place, seed):
    capacity, lengths = history
    store, live = stored(capacity, lengths, frames, place)
    views = {number: played(e.obs, frames) for number, e in live.items()}
    b = transitions(store, 40, 0.5, np.random.default_rng(seed), runs=4)
    for i, number in enumerate(b.episode.tolist()):
        t = int(b.obs[i, -1, 1, 0])
        np.testing.assert_array_equal(b.obs[i].numpy(), views[number][t])
        np.testing.assert_array_equal(b.next_obs[i].numpy(), views[number][t + 1])
        assert (float(b.reward[i]), int(b.act[i])) == (t + 1, t % 4)
        over = live[number].terminated and t + 1 == live[number].length
        assert float(b.discount[i]) == (0.0 if over else 0.5)
    for k in (3, None):
        s = subsets(store, 6, k, np.random.default_rng(seed))
        for i, j in np.argwhere(s.mask.numpy()):
            number, t = int(s.obs[i, j, -1, 0, 1]), int(s.obs[i, j, -1, 1, 0])
            np.testing.assert_array_equal(s.obs[i, j].numpy(), views[number][t])
            np.testing.assert_array_equal(s.next_obs[i, j].numpy(), views[number][t + 1])
            assert int(s.act[i, j]) == t % 4


@settings(max_examples=60, deadline=None)
@given(histories, st.sampled_from(["memory", "disk"]))
def test_live_episodes_come_back_frame_by_frame_wherever_they_are(history, place):
    capacity, lengths = history
    store, live = stored(capacity, lengths, 4, place)
    assert list(range(store.first_id, store.next_id)) == list(live)
    for number, e in live.items():
        np.testing.assert_array_equal(store.episode(number).obs, e.obs)
    refilled, _ = stored(capacity, [], 4, place)
    refilled.refill(store.first_id, iter(live.values()))
    assert refilled.lengths.tolist() == store.lengths.tolist()


@given(st.integers(1, 12), st.integers(2, 5))
def test_an_episode_seen_as_a_whole_step_by_step_or_from_its_end_is_the_same(length, frames):
    obs = made(3, length).obs
    expected = np.stack(played(obs, frames))
    t = np.arange(length + 1)
    np.testing.assert_array_equal(seen(obs, t, frames), expected)
    for end in t:
        np.testing.assert_array_equal(seen_now(list(obs[: end + 1]), frames), expected[end])
    np.testing.assert_array_equal(seen(obs, t, 1), obs)


events = st.lists(
    st.one_of(
        st.integers(1, 30),  # an episode of so many steps closes
        st.just("save"),
        st.just("die"),  # and go on from the newest checkpoint
        st.just("die, newest damaged"),  # from the one before
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(31, 120), st.sampled_from([25, 4, 10**9]), events)
def test_whatever_happens_a_checkpoint_finds_its_frames(capacity, spare, events):
    """With rows to spare for a few episodes, for one, and with none at all."""
    before, ring_module.SPARE = ring_module.SPARE, spare
    folder = Path(tempfile.mkdtemp())
    try:
        _live_through(folder, capacity, events)
    finally:
        ring_module.SPARE = before
        shutil.rmtree(folder)


def _live_through(folder, capacity, events):
    saved, number, life = [], 0, 0  # saved, newest last: entries, what was live, the next number
    store, model = EpisodeStore(capacity, SPEC, ring=ObsRing(folder, capacity, SPEC, pytest.fail)), {}
    log, saves_in_this_life = ReplayLog(folder), 0
    for event in events:
        if isinstance(event, int):
            model[number] = made(number + 1000 * life, event)  # in each life other frames
            assert store.add(model[number]) == number
            number += 1
            while sum(e.length + 1 for e in model.values()) > capacity:
                del model[min(model)]
        elif event == "save":
            saved = [*saved, (log.write(store), copy.copy(model), number)][-2:]
            store.promise()
            log.prune({e["file"] for entries, *_ in saved for e in entries} | set(store.files))
            saves_in_this_life += 1
        elif saved and (event == "die" or saves_in_this_life > 1):
            if event != "die":
                saved.pop()
            entries, model, number = saved[-1][0], copy.copy(saved[-1][1]), saved[-1][2]
            store = EpisodeStore(capacity, SPEC, ring=ObsRing(folder, capacity, SPEC, pytest.fail))
            log, saves_in_this_life, life = ReplayLog(folder), 0, life + 1
            log.read(entries, store)
        assert list(range(store.first_id, store.next_id)) == list(model)
        for i, expected in model.items():
            np.testing.assert_array_equal(store.episode(i).obs, expected.obs)
            assert store.episode(i).reward.tolist() == expected.reward.tolist()
    for entries, *_ in saved[-1:]:
        ReplayLog(folder).verify(entries)


def test_a_checkpoint_whose_frames_are_overwritten_is_told(tmp_path):
    """The oracle of the test above can see a loss: nothing was promised here."""
    store = EpisodeStore(40, SPEC, ring=ObsRing(tmp_path, 40, SPEC, pytest.fail))
    for number in range(4):
        store.add(made(number, 9))
    entries = ReplayLog(tmp_path).write(store)
    store.add(made(4, 9))
    with pytest.raises(CheckpointDamaged, match="observations of episode 0 are damaged, or gone"):
        ReplayLog(tmp_path).verify(entries)
