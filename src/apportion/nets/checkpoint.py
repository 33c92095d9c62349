"""Pretrained weights: a folder, or a model of the Hugging Face hub, as safetensors and JSON. Never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apportion.types import UserError

INSTALL = "pip install 'apportion[encoders]'"


@dataclass(frozen=True)
class Checkpoint:
    """One pretrained model. Its folder holds what has been asked for so far."""

    name: str  # as the user gave it: folder or hub id
    folder: Path
    hub: bool
    config: dict[str, Any]  # config.json

    @property
    def kind(self) -> str:
        """dinov2, siglip, openvla, ..."""
        return str(self.config.get("model_type", ""))

    def file(self, name: str) -> Path:
        """One file. Raises UserError if there is none of this name."""
        path = self.folder / name
        if not path.is_file() and self.hub:
            _download(self.name, [name])
        if not path.is_file():
            raise UserError(f"--encoder {self.name}: it has no {name}; download the whole model again")
        return path

    def json(self, name: str) -> dict[str, Any]:
        return _read_json(self.file(name))

    def shards(self) -> dict[str, str]:
        """Tensor -> file, where the weights are in several files; empty where they are in one."""
        index = self.folder / "model.safetensors.index.json"
        if not index.is_file():
            return {}
        table = _read_json(index).get("weight_map", {})
        if any(Path(name).name != name for name in table.values()):
            raise UserError(f"{index} names files outside of its folder")
        return table

    def weights(self, prefixes: tuple[str, ...] = ("",)) -> list[Path]:
        """The files that hold the tensors whose names begin so. Raises UserError if there are none."""
        shards = self.shards()
        names = {file for tensor, file in shards.items() if tensor.startswith(prefixes)} or {"model.safetensors"}
        if self.hub and not all((self.folder / name).is_file() for name in names):
            _download(self.name, sorted(names))
        missing = [name for name in sorted(names) if not (self.folder / name).is_file()]
        if missing:
            raise UserError(
                f"--encoder {self.name}: its weights are missing ({', '.join(missing)}): download the model again, or "
                "save it as safetensors (other formats can run code and are not read)"
            )
        return [self.folder / name for name in sorted(names)]


def open_checkpoint(name: str) -> Checkpoint:
    """The model `name`: a folder, or an id of the hub, whose JSON files are fetched now and its weights when needed.

    Raises UserError where there is none, or the hub cannot be reached.
    """
    need_transformers()
    path = Path(name).expanduser()
    local = path.is_dir()
    if not local and (path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise UserError(f"--encoder {name}: there is no such folder; give one with config.json and *.safetensors in it")
    folder = path if local else _download(name, ["*.json"])
    if not (folder / "config.json").is_file():
        raise UserError(f"--encoder {name}: there is no config.json in it: is this a model in the hub's format?")
    return Checkpoint(name, folder, not local, _read_json(folder / "config.json"))


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """Its tokenizer.json. Raises UserError if it cannot be read."""
    from tokenizers import Tokenizer

    path = checkpoint.file("tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise UserError(f"{path} cannot be read: {error}") from error


def digest(files: list[Path]) -> str:
    """sha256 over the contents of the files, in this order."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def need_transformers() -> None:
    """Raises UserError with the line to type where transformers is not installed; keeps it quiet where it is."""
    if find_spec("transformers") is None:
        raise UserError(f"encoders need transformers: {INSTALL}")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
        return data
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _download(name: str, patterns: list[str]) -> Path:
    """The hub's folder with these files, from its cache where they are there. Raises UserError in one line."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except errors.HFValidationError:
        raise UserError(f"--encoder {name}: neither a folder nor the name of a model on the hub") from None
    except errors.GatedRepoError:
        raise UserError(
            f"--encoder {name}: its owner asks for consent first: agree on its page on the hub, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"--encoder {name}: there is no such folder here and no such model on the hub") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"--encoder {name}: not in the hub's cache here, and the hub cannot be reached: fetch it where there is a "
            f"network (`hf download {name} --local-dir DIR`) and give --encoder DIR, or copy the cache (HF_HOME) and "
            "set HF_HUB_OFFLINE=1"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise UserError(f"--encoder {name}: the hub says {' '.join(str(error).split())[:200]}") from error
