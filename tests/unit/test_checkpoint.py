"""Checkpoints: what goes in comes out, and what is damaged, half written or not finite never passes for one."""

import json
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from apportion.run.checkpoint import CheckpointDamaged, NonFinite, extras, load, newest, read_extra, save, steps
from apportion.types import UserError


def tree(value=1.0):
    return {"net": {"weight": torch.full((3, 2), value), "bias": torch.tensor(value)}, "count": 3}


def save_some(root, *at, keep=10):
    for step in at:
        save(root, step, {"agent": tree(step), "collector": {}}, {"step": step}, keep)


def flip_byte(path, at=-5):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def no_warning(line):
    raise AssertionError(line)


def names(root):
    return sorted(p.name for p in root.iterdir())


@contextmanager
def files_limited_to(size):
    """A real failing write: the kernel refuses to let any file grow beyond `size` bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_every_kind_of_leaf_comes_back_as_it_went_in(tmp_path):
    flat = torch.arange(6.0)
    part = {
        "views": {"a": flat[:3], "b": flat[3:], "transposed": flat.view(2, 3).T},  # share one storage
        "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "none": torch.zeros(0, 4),
        "array": np.arange(4, dtype=np.int64),
        "zero-dim array": np.array(2.5),
        "flags": np.array([True, False]),
        "plain": [1, 2.5, "x", True, None, float("inf")],
        "nested": [{"t": torch.ones(2)}],
        "empty": {},
        "a/b": torch.tensor(1.0),
        "a": {"b": torch.tensor(2.0)},
        "env/0": 5,
    }
    path = save(tmp_path, 12, {"all": part, "empty": {}}, {"note": [1, {"x": None}]}, keep=1)
    parts, extra = load(path)
    got = parts["all"]
    assert parts["empty"] == {} and extra == {"note": [1, {"x": None}]} == read_extra(path)
    assert list(got) == list(part)  # order too: metrics are written in it
    assert got["views"]["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert got["bf16"].dtype == torch.bfloat16 and got["bf16"].tolist() == [1.5, -2.0]
    assert got["scalar"].shape == () and got["scalar"].item() == 7 and got["none"].shape == (0, 4)
    assert isinstance(got["array"], np.ndarray) and got["array"].tolist() == [0, 1, 2, 3]
    assert got["zero-dim array"].shape == () and got["zero-dim array"] == 2.5 and got["flags"].tolist() == [True, False]
    assert got["plain"] == part["plain"] and got["empty"] == {} and got["env/0"] == 5
    assert got["nested"][0]["t"].tolist() == [1, 1]
    assert (got["a/b"].item(), got["a"]["b"].item()) == (1.0, 2.0)
    got["views"]["a"][0] = 9  # what was loaded may be changed in place
    assert got["views"]["b"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("leaf", [(1, 2), {1: 2}, {"$tensor": "x"}, np.float32(1), {3}])
def test_what_would_not_come_back_is_refused(tmp_path, leaf):
    with pytest.raises(TypeError, match="part"):
        save(tmp_path, 1, {"part": {"leaf": leaf}}, {}, keep=1)
    assert steps(tmp_path) == []


def test_the_newest_come_first_and_only_so_many_are_kept(tmp_path):
    save_some(tmp_path, 5, 100, 20_000, 1_234_567_890, keep=2)
    assert [p.name for p in steps(tmp_path)] == ["step_1234567890", "step_000020000"]
    assert names(tmp_path) == ["step_000020000", "step_1234567890"]
    path, parts, extra = newest(tmp_path, no_warning)
    assert path == steps(tmp_path)[0] and extra == {"step": 1_234_567_890}
    assert parts["agent"]["net"]["bias"].item() == 1_234_567_890


@pytest.mark.parametrize("file", ["agent.safetensors", "agent.json", "manifest.json", "collector.json"])
def test_a_flipped_byte_in_the_newest_is_passed_over_with_one_line(tmp_path, file):
    save_some(tmp_path, 1, 2)
    flip_byte(tmp_path / "step_000000002" / file, at=-1 if file == "collector.json" else -20)
    lines = []
    path, parts, extra = newest(tmp_path, lines.append)
    assert path.name == "step_000000001" and extra == {"step": 1} and parts["agent"]["net"]["bias"].item() == 1
    assert len(lines) == 1 and "\n" not in lines[0] and "step_000000002" in lines[0]


def test_every_single_byte_of_a_checkpoint_matters(tmp_path):
    path = save(tmp_path, 1, {"p": {"x": torch.tensor([1.0])}}, {"a": 1}, keep=1)
    for file in sorted(path.iterdir()):
        good = file.read_bytes()
        for at in range(len(good)):
            file.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
            try:
                parts, extra = load(path)
            except CheckpointDamaged:
                continue
            # what got through changed nothing: white space in the manifest
            assert parts["p"]["x"].tolist() == [1.0] and extra == {"a": 1}
            assert file.name == "manifest.json" and good[at : at + 1].isspace()
        file.write_bytes(good)


def test_a_missing_or_cut_file_is_damage(tmp_path):
    save_some(tmp_path, 1)
    file = steps(tmp_path)[0] / "agent.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointDamaged, match=r"agent\.safetensors has \d+ bytes instead of"):
        load(steps(tmp_path)[0])
    file.unlink()
    with pytest.raises(CheckpointDamaged, match=r"cannot read agent\.safetensors"):
        load(steps(tmp_path)[0])


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(tmp_path):
    save_some(tmp_path, 1, 2)
    there = r"\(complete checkpoints in .*: step_000000002, step_000000001\)"
    with pytest.raises(CheckpointDamaged, match=f"step_000000003 does not exist {there}"):
        load(tmp_path / "step_000000003")
    (tmp_path / "step_000000003").mkdir()
    with pytest.raises(CheckpointDamaged, match=f"step_000000003 is no checkpoint: it has no manifest.json {there}"):
        load(tmp_path / "step_000000003")


def test_a_manifest_cannot_lead_out_of_the_checkpoint(tmp_path):
    from apportion.run.files import sha256

    save_some(tmp_path, 1)
    manifest = steps(tmp_path)[0] / "manifest.json"
    body = json.loads(manifest.read_bytes())["body"]
    body["files"]["../../secret.json"] = {"size": 0, "sha256": ""}
    manifest.write_text(json.dumps({"body": body, "sha256": sha256(json.dumps(body).encode())}))
    with pytest.raises(CheckpointDamaged, match="leads out of the checkpoint"):
        load(steps(tmp_path)[0])


def test_what_the_kept_checkpoints_need_is_listed_without_the_damaged(tmp_path):
    save_some(tmp_path, 1, 2, 3)
    flip_byte(tmp_path / "step_000000002" / "manifest.json", at=-20)
    assert extras(tmp_path) == [{"step": 3}, {"step": 1}]


def test_when_none_is_left_the_user_is_told(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        newest(tmp_path, no_warning)
    save_some(tmp_path, 1, 2)
    for path in steps(tmp_path):
        flip_byte(path / "agent.json")
    with pytest.raises(UserError, match="all 2 checkpoints in"):
        newest(tmp_path, lambda line: None)


def test_a_checkpoint_whose_replay_is_damaged_is_passed_over(tmp_path):
    save_some(tmp_path, 1, 2)

    def verify(extra):
        if extra["step"] == 2:
            raise CheckpointDamaged("replay chunk gone")

    lines = []
    assert newest(tmp_path, lines.append, verify)[0].name == "step_000000001"
    assert lines == ["passing over a damaged checkpoint: replay chunk gone"]


def test_a_half_written_checkpoint_is_ignored_and_swept_up_by_the_next_save(tmp_path):
    save_some(tmp_path, 1)
    half = tmp_path / "step_000000002.tmp"
    half.mkdir()
    (half / "agent.safetensors").write_bytes(b"half")
    no_manifest = tmp_path / "step_000000003"
    no_manifest.mkdir()
    assert newest(tmp_path, no_warning)[0].name == "step_000000001"
    assert half.exists()  # a reader leaves it: it may be a living writer's
    save_some(tmp_path, 2)
    assert not half.exists()
    assert [p.name for p in steps(tmp_path)] == ["step_000000002", "step_000000001"]


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 7, {"p": {"x": 1}}, {}, keep=1)
    save(tmp_path, 7, {"p": {"x": 2}}, {}, keep=1)
    assert names(tmp_path) == ["step_000000007"]
    assert load(steps(tmp_path)[0])[0] == {"p": {"x": 2}}


def test_killed_between_the_two_renames_of_a_replacement_nothing_is_lost(tmp_path):
    save(tmp_path, 7, {"p": {"x": 1}}, {}, keep=1)
    (tmp_path / "step_000000007").rename(tmp_path / "step_000000007.old")
    assert newest(tmp_path, no_warning)[1] == {"p": {"x": 1}}
    save(tmp_path, 8, {"p": {"x": 2}}, {}, keep=2)
    assert names(tmp_path) == ["step_000000007", "step_000000008"]


def test_going_on_from_before_a_damaged_checkpoint_removes_it_not_the_new_one(tmp_path):
    save_some(tmp_path, 100, 200, 300, keep=3)
    flip_byte(tmp_path / "step_000000300" / "agent.json")
    save_some(tmp_path, 250, keep=1)  # would be the second newest
    assert names(tmp_path) == ["step_000000250"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_that_is_not_finite_is_named_and_the_old_checkpoint_stays(tmp_path, bad, dtype):
    save_some(tmp_path, 1, keep=1)
    before = {f.name: f.read_bytes() for f in steps(tmp_path)[0].iterdir()}
    poisoned = {"critic": {"0.weight": torch.tensor([1.0, bad], dtype=dtype)}}
    with pytest.raises(NonFinite, match=r"agent: tensor critic/0\.weight is no longer finite") as e:
        save(tmp_path, 2, {"collector": {}, "agent": poisoned}, {}, keep=1)
    assert (e.value.part, e.value.tensor) == ("agent", "critic/0.weight")
    assert names(tmp_path) == ["step_000000001"]
    assert {f.name: f.read_bytes() for f in steps(tmp_path)[0].iterdir()} == before


def test_an_array_that_is_not_finite_is_refused_too(tmp_path):
    with pytest.raises(NonFinite, match="agent: tensor mean"):
        save(tmp_path, 2, {"agent": {"mean": np.array([np.nan])}}, {}, keep=1)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_is_kept(tmp_path):
    save_some(tmp_path, 1, keep=1)
    with files_limited_to(4096), pytest.raises(UserError, match=r"step_000000002.*step_000000001 is kept") as e:
        save(tmp_path, 2, {"agent": {"big": torch.zeros(5000)}}, {}, keep=1)
    assert "\n" not in str(e.value)
    assert names(tmp_path) == ["step_000000001"]
    assert newest(tmp_path, no_warning)[2] == {"step": 1}
    save_some(tmp_path, 2, keep=1)  # with room again it goes on
    assert names(tmp_path) == ["step_000000002"]


def test_no_pickle_is_in_a_checkpoint(tmp_path):
    save_some(tmp_path, 1)
    assert {f.suffix for f in steps(tmp_path)[0].iterdir()} == {".json", ".safetensors"}
