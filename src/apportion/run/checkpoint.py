"""Checkpoints: directories of safetensors and JSON with a manifest of hashes; complete, or not there.

Written to `step_N.tmp`, synced, then renamed. Each part is a tree of state (run/tree.py): its JSON holds the tree, with
{"$tensor": name} or {"$array": name} where safetensors hold the numbers. There is no code in a checkpoint.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from apportion.run.files import full_disk, sha256, sync_directory, write_synced
from apportion.run.tree import Tree, put_together, take_apart
from apportion.types import UserError

_NAME = re.compile(r"step_(\d{9,})(\.old)?")
_PART = re.compile(r"\w+")


class CheckpointDamaged(UserError):
    """A file of a checkpoint is missing or is not what its manifest says."""


class NonFinite(UserError):
    """A tensor that was to be saved holds NaN or infinity."""

    def __init__(self, part: str, tensor: str):
        self.part, self.tensor = part, tensor
        super().__init__(
            f"{part}: tensor {tensor} is no longer finite, so training has diverged; this checkpoint was not written "
            "and the last one is kept: lower the learning rates, or clip gradients (max_grad_norm)"
        )


# -------------------------------------------------------------------- trees


def flatten(part: str, tree: Tree) -> tuple[Tree, dict[str, Tensor]]:
    """The tree with references instead of tensors, and the tensors by name, on the CPU.

    Raises NonFinite for a floating tensor with NaN or infinity, TypeError for anything that would not come back.
    """
    tensors: dict[str, Tensor] = {}

    def put(path: str, tensor: Tensor) -> str:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFinite(part, path)
        name = path
        while name in tensors:  # "a/b" may be one key or two
            name += "'"
        tensors[name] = tensor
        return name

    try:
        return take_apart(tree, put), tensors
    except TypeError as error:
        raise TypeError(f"{part}: {error}") from error


# -------------------------------------------------------------------- writing


def save(root: Path, step: int, parts: dict[str, Tree], extra: Tree, keep: int) -> Path:
    """Writes the checkpoint of `step` and removes all but the newest `keep`; returns its directory.

    Checkpoints of later steps are removed too: a run that saves at `step` has gone on from before them (they were
    damaged), and their future is not this one's. Raises NonFinite before anything is written, UserError on a full disk.
    """
    files: dict[str, bytes] = {}
    for part, tree in parts.items():
        if not _PART.fullmatch(part):
            raise ValueError(f"a part's name is letters, digits and _, not {part!r}")
        structure, tensors = flatten(part, tree)
        files[f"{part}.json"] = json.dumps(structure).encode()
        files[f"{part}.safetensors"] = save_tensors(tensors)
    files["manifest.json"] = _manifest(step, extra, files)
    root.mkdir(parents=True, exist_ok=True)
    _clean(root)
    final = root / f"step_{step:09d}"
    temporary = root / f"{final.name}.tmp"
    before = steps(root)
    try:
        with full_disk(final, f"{before[0]} is kept" if before else "there is no earlier checkpoint"):
            temporary.mkdir()
            for name, data in files.items():  # the manifest comes last
                write_synced(temporary / name, data)
            sync_directory(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if final.exists():  # a directory cannot be replaced in one step: until the next rename, `.old` stands for it
        final.rename(root / f"{final.name}.old")
    temporary.rename(final)
    sync_directory(root)
    _prune(root, step, keep)
    return final


def _manifest(step: int, extra: Tree, files: dict[str, bytes]) -> bytes:
    listed = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files.items()}
    body = {"format": 1, "step": step, "extra": extra, "files": listed}
    return json.dumps({"body": body, "sha256": sha256(json.dumps(body).encode())}, indent=1).encode()


def _clean(root: Path) -> None:
    """Removes what a killed run left half done; only a writer may do this."""
    for path in root.glob("step_*.tmp"):
        shutil.rmtree(path)
    for path in root.glob("step_*.old"):
        final = path.with_suffix("")
        if final.exists():
            shutil.rmtree(path)
        else:
            path.rename(final)


def _prune(root: Path, step: int, keep: int) -> None:
    _clean(root)
    complete = steps(root)
    kept = [path for path in complete if _step(path) <= step][:keep]
    for path in complete:
        if path not in kept:
            # renamed first: a half-removed directory must not look like a damaged checkpoint
            doomed = path.rename(root / f"{path.name}.tmp")
            shutil.rmtree(doomed)


# -------------------------------------------------------------------- reading


def steps(root: Path) -> list[Path]:
    """Directories of complete checkpoints (not yet verified), newest first."""
    found = [path for path in root.glob("step_*") if _NAME.fullmatch(path.name) and (path / "manifest.json").is_file()]
    plain = {path.name for path in found}
    found = [path for path in found if path.suffix != ".old" or path.with_suffix("").name not in plain]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match.group(1))


def read_extra(path: Path) -> Tree:
    """What `save` was given as `extra`, without reading the tensors. Raises CheckpointDamaged."""
    return _read_manifest(path)["extra"]


def extras(root: Path) -> list[Tree]:
    """`extra` of every checkpoint whose manifest is whole, newest first: what they still need of files elsewhere."""
    found = []
    for path in steps(root):
        with suppress(CheckpointDamaged):
            found.append(read_extra(path))
    return found


def _read_manifest(path: Path) -> Tree:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        body = manifest["body"]
        if sha256(json.dumps(body).encode()) != manifest["sha256"]:
            raise ValueError("its hash differs")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CheckpointDamaged(f"{path}: damaged manifest.json ({e})") from e
    if body["format"] != 1:
        raise CheckpointDamaged(f"{path}: written in format {body['format']!r}, this version reads format 1")
    return body


def load(path: Path) -> tuple[dict[str, Tree], Tree]:
    """The parts and `extra` of one checkpoint, every file verified. Raises CheckpointDamaged."""
    if not (path / "manifest.json").is_file():
        what = "is no checkpoint: it has no manifest.json" if path.exists() else "does not exist"
        beside = ", ".join(p.name for p in steps(path.parent)) or "none"
        raise CheckpointDamaged(f"{path} {what} (complete checkpoints in {path.parent}: {beside})")
    body = _read_manifest(path)
    data: dict[str, bytes] = {}
    for name, entry in body["files"].items():
        if Path(name).name != name:
            raise CheckpointDamaged(f"{path}: file name {name!r} leads out of the checkpoint")
        try:
            data[name] = (path / name).read_bytes()
        except OSError as e:
            raise CheckpointDamaged(f"{path}: cannot read {name} ({e.strerror})") from e
        if len(data[name]) != entry["size"]:
            raise CheckpointDamaged(f"{path}: {name} has {len(data[name])} bytes instead of {entry['size']}")
        if sha256(data[name]) != entry["sha256"]:
            raise CheckpointDamaged(f"{path}: {name} is damaged (its hash differs)")
    parts = {}
    for name in data:
        if name.endswith(".json"):
            part = name.removesuffix(".json")
            try:
                parts[part] = put_together(json.loads(data[name]), load_tensors(data[f"{part}.safetensors"]))
            except (ValueError, KeyError, TypeError, SafetensorError) as e:
                raise CheckpointDamaged(f"{path}: {part} cannot be read ({e})") from e
    return parts, body["extra"]


def newest(
    root: Path, warn: Callable[[str], None], verify: Callable[[Tree], None] | None = None
) -> tuple[Path, dict[str, Tree], Tree]:
    """The newest checkpoint that is whole, with one `warn` line for each that is passed over.

    `verify` may look at `extra` and raise CheckpointDamaged (for files outside of the checkpoint: the replay log).
    Raises UserError when none is left.
    """
    complete = steps(root)
    for path in complete:
        try:
            parts, extra = load(path)
            if verify is not None:
                verify(extra)
        except CheckpointDamaged as e:
            warn(f"passing over a damaged checkpoint: {e}")
            continue
        return path, parts, extra
    found = f"all {len(complete)} checkpoints in {root} are damaged" if complete else f"no checkpoint in {root} yet"
    raise UserError(f"{found}: there is nothing to go on from; start a new run")
