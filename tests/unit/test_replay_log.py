"""The replay on disk: a store that is refilled from it draws as the one that wrote it."""

import numpy as np
import pytest
import torch

from apportion.run.checkpoint import CheckpointDamaged
from apportion.store.episodes import EpisodeStore
from apportion.store.log import ReplayLog
from apportion.store.sample import transitions
from apportion.types import Episode, Spec

SPEC = Spec(obs_shape=(3,), obs_dtype="float32", act_kind="box", act_dim=2)


def episode(number):
    rng = np.random.default_rng(number)
    length = 1 + number % 4
    return Episode(
        obs=rng.normal(size=(length + 1, 3)).astype(np.float32),
        act=rng.uniform(-1, 1, size=(length, 2)).astype(np.float32),
        reward=rng.normal(size=length).astype(np.float32),
        terminated=number % 2 == 0,
        env=number % 3,
        seed=number,
    )


def fill(store, start, stop):
    for number in range(start, stop):
        assert store.add(episode(number)) == number


def same_draws(a, b):
    assert (a.first_id, a.next_id) == (b.first_id, b.next_id)
    x, y = (transitions(s, 64, 0.9, np.random.default_rng(0)) for s in (a, b))
    names = ("obs", "act", "next_obs", "reward", "discount", "episode_return", "length", "episode")
    return all(torch.equal(getattr(x, n), getattr(y, n)) for n in names)


def files(log):
    return sorted(p.name for p in log.directory.iterdir())


def test_each_write_adds_only_what_is_new(tmp_path):
    store, log = EpisodeStore(1000, SPEC), ReplayLog(tmp_path / "replay")
    assert log.write(store) == []
    fill(store, 0, 5)
    first = log.write(store)
    assert [(e["first_id"], e["count"]) for e in first] == [(0, 5)]
    assert log.write(store) == first  # nothing new, no new file
    fill(store, 5, 7)
    assert [(e["first_id"], e["count"]) for e in log.write(store)] == [(0, 5), (5, 2)]
    assert len(files(log)) == 2


def test_a_refilled_store_goes_on_exactly_like_the_one_that_was_written(tmp_path):
    store, log = EpisodeStore(40, SPEC), ReplayLog(tmp_path)
    for start in range(0, 60, 7):  # evictions all along, several chunks, the first of them partly evicted
        fill(store, start, start + 7)
        entries = log.write(store)
    assert entries[0]["first_id"] <= store.first_id and len(entries) > 1
    other, other_log = EpisodeStore(40, SPEC), ReplayLog(tmp_path)
    other_log.read(entries, other)
    assert same_draws(store, other)
    for s in (store, other):
        fill(s, 63, 75)
    assert same_draws(store, other)
    assert log.write(store) == other_log.write(other)  # the same name: the same bytes


def test_chunks_that_are_wholly_evicted_leave_the_list_and_prune_removes_their_files(tmp_path):
    store, log = EpisodeStore(12, SPEC), ReplayLog(tmp_path)
    fill(store, 0, 3)
    old = log.write(store)
    fill(store, 3, 12)
    new = log.write(store)
    assert [e["first_id"] for e in new] == [store.first_id]  # episodes that came and went in between are nowhere
    (tmp_path / "episodes_000000099_x.safetensors.77-0123abcd.tmp").write_bytes(b"half")
    log.prune({e["file"] for e in old + new})  # an older checkpoint still names the old one
    assert len(files(log)) == 2
    log.prune(e["file"] for e in new)
    assert files(log) == [new[0]["file"]]


def test_going_on_from_an_older_checkpoint_leaves_the_newer_ones_chunks_alone(tmp_path):
    store, log = EpisodeStore(1000, SPEC), ReplayLog(tmp_path)
    fill(store, 0, 3)
    older = log.write(store)
    fill(store, 3, 6)
    newer = log.write(store)
    other, other_log = EpisodeStore(1000, SPEC), ReplayLog(tmp_path)
    other_log.read(older, other)
    other.add(episode(50))  # another future
    assert other_log.write(other)[1]["file"] != newer[1]["file"]
    ReplayLog(tmp_path).verify(newer)


def test_damage_is_found_before_the_store_is_touched(tmp_path):
    store, log = EpisodeStore(1000, SPEC), ReplayLog(tmp_path)
    fill(store, 0, 3)
    log.write(store)
    fill(store, 3, 6)
    entries = log.write(store)
    path = tmp_path / entries[1]["file"]
    good = path.read_bytes()
    other = EpisodeStore(1000, SPEC)
    for data, what in ((good[:-1] + bytes([good[-1] ^ 1]), "its hash differs"), (None, "cannot be read")):
        path.write_bytes(data) if data else path.unlink()
        with pytest.raises(CheckpointDamaged, match=what):
            ReplayLog(tmp_path).read(entries, other)
        assert other.n_episodes == 0
    path.write_bytes(good)
    with pytest.raises(CheckpointDamaged, match="starts at episode 3, not at 0"):
        log.verify([{**entries[0], "first_id": 0, "count": 0}, entries[1]])
    with pytest.raises(CheckpointDamaged, match="leads out of"):
        log.verify([{**entries[0], "file": "../x"}])


def test_no_episodes_yet_is_a_state_too(tmp_path):
    store = EpisodeStore(1000, SPEC)
    fill(store, 0, 3)
    ReplayLog(tmp_path).read([], store)
    assert (store.n_episodes, store.next_id) == (0, 0)
