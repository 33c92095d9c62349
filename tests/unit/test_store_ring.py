"""Frames in a file: how large it is, what a checkpoint carries, what is put aside, what damage looks like."""

import json
import resource
from itertools import product

import numpy as np
import pytest

from apportion.run.checkpoint import CheckpointDamaged
from apportion.store import log as log_module
from apportion.store import ring as ring_module
from apportion.store.episodes import EpisodeStore
from apportion.store.log import ReplayLog
from apportion.store.ring import HEADER, NAME, ObsRing, open_ring
from apportion.types import Episode, Spec, UserError
from frames_for_tests import SPEC, made

ATARI = Spec((84, 84), "uint8", "discrete", 6, frames=4)


def on_disk(folder, capacity: int, spec: Spec = SPEC) -> EpisodeStore:
    return EpisodeStore(capacity, spec, ring=ObsRing(folder, capacity, spec, pytest.fail))


def fill(store: EpisodeStore, lengths, first: int | None = None) -> None:
    for number, length in enumerate(lengths, start=store.next_id if first is None else first):
        store.add(made(number, length))


def save(store: EpisodeStore, log: ReplayLog, *kept) -> list[dict]:
    """As a session does; `kept`: entries of checkpoints that stay."""
    entries = log.write(store)
    store.promise()
    log.prune({e["file"] for x in (*kept, entries) for e in x} | set(store.files))
    return entries


def taken_up(folder, capacity: int, entries: list[dict]) -> EpisodeStore:
    store = on_disk(folder, capacity)
    ReplayLog(folder).read(entries, store)
    return store


def numbers_shown(store: EpisodeStore) -> list[int]:
    """What the frames of the live episodes say of themselves."""
    obs = [store.episode(n).obs for n in range(store.first_id, store.next_id)]
    assert all((x[:, 0] == x[0, 0]).all() and x[:, 1, 0].tolist() == list(range(len(x))) for x in obs)
    return [int(x[0, 0, 0]) * 256 + int(x[0, 0, 1]) for x in obs]


def test_the_stacks_of_an_episodes_first_steps_by_hand():
    store = EpisodeStore(20, SPEC)  # 3 frames are seen
    store.add(made(0, 3))
    store.add(made(1, 3))
    obs, act = store.take(np.array([4, 5, 6]), np.array([0, 1, 2]))  # the second episode begins in row 4
    assert obs[0, :, :, 1, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2]]
    assert obs[1, :, :, 1, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3]]
    assert (obs[:, :, :, 0, 1] == 1).all()  # none of them of the first episode
    assert act.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="where its episode begins"):
        store.take(np.array([4]))


def test_each_frame_is_fetched_once_for_both_halves_of_a_transition():
    store = EpisodeStore(20, SPEC)
    store.add(made(0, 9))
    obs, _ = store.take(np.array([5]), np.array([5]))
    assert obs.untyped_storage().nbytes() == 4 * 9  # k + 1 frames of 9 bytes
    assert obs[0, 0, 1:].data_ptr() == obs[1, 0, :2].data_ptr()


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_frames_cost_5_percent_more_than_themselves_at_most(place, tmp_path):
    """A million frames are 7.056 GB; everything here grows in proportion but for the file's header."""
    frames = 2000
    store = on_disk(tmp_path, frames, ATARI) if place == "disk" else EpisodeStore(frames, ATARI)
    for _ in range(frames // 2):  # the shortest episodes: as many table entries as there can be
        obs = np.zeros((2, 84, 84), np.uint8)
        store.add(Episode(obs, np.zeros(1, np.int64), np.zeros(1, np.float32), True, 0, 0))
    assert store.n_episodes == frames // 2
    assert frames * 84 * 84 < store.nbytes < 1.05 * frames * 84 * 84
    if place == "disk":
        held = (tmp_path / NAME).stat()
        assert held.st_size < 1.05 * frames * 84 * 84
        assert held.st_blocks * 512 >= held.st_size  # the space is there, not only promised


def test_a_checkpoint_of_frames_on_the_disk_writes_none_of_them_again(tmp_path):
    store, log = on_disk(tmp_path, 1000, ATARI), ReplayLog(tmp_path)
    obs = np.random.default_rng(0).integers(256, size=(301, 84, 84), dtype=np.uint8)
    for _ in range(5):  # the last ones go around the end
        store.add(Episode(obs, np.zeros(300, np.int64), np.zeros(300, np.float32), True, 0, 0))
    entries = save(store, log)
    assert {p.name for p in tmp_path.iterdir()} == {NAME, *(e["file"] for e in entries)}
    assert sum((tmp_path / e["file"]).stat().st_size for e in entries) < 20_000  # 3 x 300 x 12 bytes, and names


@pytest.mark.parametrize("spare", [25, 8])
def test_the_last_two_checkpoints_stay_whole_whatever_closes_next(spare, tmp_path, monkeypatch):
    """All lengths of the next episodes: rows meet in every way, around the end too."""
    monkeypatch.setattr(ring_module, "SPARE", spare)
    monkeypatch.setattr("os.fsync", lambda file: None)  # hundreds of times, and nobody pulls the plug here
    for case, lengths in enumerate(product((1, 3, 6), repeat=3)):
        folder = tmp_path / str(case)
        store, log = on_disk(folder, 24), ReplayLog(folder)
        fill(store, (4, 4, 4, 5, 3))
        older = save(store, log)
        live = [list(range(store.first_id, store.next_id))]
        fill(store, lengths[:1])
        newer = save(store, log, older)
        live.append(list(range(store.first_id, store.next_id)))
        fill(store, lengths[1:])
        for entries in (older, newer):
            ReplayLog(folder).verify(entries)
        assert numbers_shown(taken_up(folder, 24, newer)) == live[1]
        assert numbers_shown(taken_up(folder, 24, older)) == live[0]


def test_what_was_put_aside_goes_when_no_checkpoint_needs_it(tmp_path):
    store, log = on_disk(tmp_path, 20), ReplayLog(tmp_path)
    fill(store, (4, 4, 4, 4))
    first = save(store, log)
    fill(store, (4, 4))
    aside = sorted(tmp_path.glob("episodes_aside_*"))
    assert [p.name[-13:-12] for p in aside] == ["0", "1"]
    second = save(store, log, first)
    assert sorted(tmp_path.glob("episodes_aside_*")) == aside  # the first checkpoint still needs them
    save(store, log, second)
    assert list(tmp_path.glob("episodes_aside_*")) == []


def test_a_checkpoint_is_due_before_the_spare_rows_are_used_up_and_never_before_the_ring_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(ring_module, "WORTH", 4)
    store, log = on_disk(tmp_path, 250), ReplayLog(tmp_path)  # 10 rows to spare: due after more than 4
    save(store, log)
    while store.first_id == 0:  # 50 episodes of 5 rows, then the first one goes
        assert not store.save_due
        fill(store, [4])
    assert store.save_due
    save(store, log)
    assert not store.save_due
    fill(store, [2])  # 3 rows
    assert not store.save_due
    fill(store, [2])
    assert store.save_due
    assert list(tmp_path.glob("episodes_aside_*")) == []


def test_few_spare_rows_do_not_mean_many_checkpoints(tmp_path):
    store, log = on_disk(tmp_path, 100), ReplayLog(tmp_path)
    for _ in range(3):
        fill(store, [9] * 30)
        assert not store.save_due  # episodes are put aside instead
        save(store, log)
    assert not EpisodeStore(100, SPEC).save_due


def damaged(folder) -> list[dict]:
    store, log = on_disk(folder, 30), ReplayLog(folder)
    fill(store, (9, 9, 9, 9))  # of these the last three are live, in rows 10 to 30 and 0 to 9
    return save(store, log)


def test_a_bit_that_differs_in_a_live_frame_is_found_and_one_beside_them_is_not(tmp_path):
    entries = damaged(tmp_path)
    obs = open_ring(tmp_path / NAME)
    assert obs.shape == (31, 3, 3)
    obs[9, 1, 1] ^= 1  # between the newest episode's last row, 8, and the oldest's first
    ReplayLog(tmp_path).verify(entries)
    for row, number in ((10, 1), (29, 2), (30, 3), (8, 3)):
        obs[row, 2, 2] ^= 1
        with pytest.raises(CheckpointDamaged, match=f"{NAME}: observations of episode {number} are damaged") as caught:
            ReplayLog(tmp_path).read(entries, on_disk(tmp_path, 30))
        assert "\n" not in str(caught.value)
        obs[row, 2, 2] ^= 1
    ReplayLog(tmp_path).verify(entries)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), f"has {HEADER + 31 * 9 - 5} bytes instead of"),
        (lambda path: path.write_bytes(b""), "its header cannot be read"),
        (lambda path: path.write_bytes(b"\xff" * HEADER), "its header cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"[31", b"[32", 1)), "bytes instead of"),
    ],
)
def test_a_ring_that_is_missing_cut_or_overwritten_is_one_line(spoil, says, tmp_path):
    entries = damaged(tmp_path)
    spoil(tmp_path / NAME)
    with pytest.raises(CheckpointDamaged) as caught:
        ReplayLog(tmp_path).verify(entries)
    assert says in str(caught.value) and NAME in str(caught.value) and "\n" not in str(caught.value)


def test_the_file_is_one_that_others_can_read(tmp_path):
    from safetensors.numpy import load_file

    fill(on_disk(tmp_path, 30), (9, 9))
    assert np.array_equal(load_file(tmp_path / NAME)["obs"][:10], made(0, 9).obs)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_vectors_lie_on_the_disk_as_well(dtype, tmp_path):
    spec = Spec((5,), dtype, "box", 1)
    store = on_disk(tmp_path, 30, spec)
    obs = np.arange(50).reshape(10, 5).astype(dtype)
    for _ in range(4):
        store.add(Episode(obs, np.zeros((9, 1), np.float32), np.zeros(9, np.float32), True, 0, 0))
    assert np.array_equal(store.episode(3).obs, obs)
    pair, _ = store.take(np.array([30, 0]))
    assert np.array_equal(pair[:, :, 0].numpy(), np.array([[0, 5], [5, 10]], dtype))


def test_a_full_disk_is_told_when_the_file_is_made_and_nothing_stays(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
    try:
        with pytest.raises(
            UserError, match=r"--store memmap: .* takes 0.01 GB, more than its disk will hold"
        ) as caught:
            on_disk(tmp_path, 1000, ATARI)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "--buffer-size" in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_where_space_cannot_be_reserved_it_is_said_and_the_file_works(tmp_path, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")
    said = []
    store = EpisodeStore(30, SPEC, ring=ObsRing(tmp_path, 30, SPEC, said.append))
    fill(store, (9, 9))
    assert numbers_shown(store) == [0, 1]
    assert len(said) == 1 and "cannot be reserved" in said[0]


def test_chunks_of_frames_in_memory_are_small_files_and_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "CHUNK_BYTES", 20 * 9)  # 20 frames
    store, log = EpisodeStore(200, SPEC), ReplayLog(tmp_path)
    fill(store, (9, 9, 9, 30, 2, 2, 2))  # 10 + 10 rows fit, then 10, then 31 by itself, then 3 + 3 + 3
    entries = log.write(store)
    assert [(e["first_id"], e["count"]) for e in entries] == [(0, 2), (2, 1), (3, 1), (4, 3)]
    assert log.write(store) == entries
    other = EpisodeStore(200, SPEC)
    ReplayLog(tmp_path).read(entries, other)
    assert numbers_shown(other) == list(range(7))
    assert json.dumps(entries)  # goes into a manifest


@pytest.mark.parametrize(
    ("capacity", "spec"), [(20, Spec((3, 4), "uint8", "discrete", 4, frames=3)), (50, SPEC)], ids=["shape", "size"]
)
def test_a_ring_of_other_observations_is_left_alone(capacity, spec, tmp_path):
    fill(on_disk(tmp_path, 20), [5])
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(UserError, match="the environment has changed since; bring it back, or start a new run"):
        on_disk(tmp_path, capacity, spec)
    assert (tmp_path / NAME).read_bytes() == before
