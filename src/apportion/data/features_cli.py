"""`apportion data features STORE`: what is there, or one more column."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.flags import Parser, did_you_mean
from apportion.types import UserError

if TYPE_CHECKING:
    from apportion.data.features import Turn
    from apportion.data.store import DemoStore
    from apportion.nets.pooled import Encoder


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion data features`. Returns the exit code; raises UserError for slips."""
    args = _parser().parse(argv)
    if args.batch < 1:
        raise UserError(f"--batch {args.batch}: at least 1 is needed")
    if not (args.store / "store.json").is_file():
        raise UserError(f"{args.store} is no store: make one with apportion data convert {args.store} STORE --to store")
    from apportion.data.store import DemoStore

    store = DemoStore(args.store)
    if args.encoder is None and args.instructions is None:
        return _list(store)
    if args.instructions is not None and args.instructions.exists():
        raise UserError(f"--instructions {args.instructions} exists already: give another name, or remove it")
    from apportion.nets.encoders import load_encoder

    encoder = None if args.encoder is None else load_encoder(args.encoder, _device(args.device), args.output)
    if args.instructions is not None:
        _instructions(store, args.instructions, encoder)
    elif encoder is not None:
        from apportion.data.features import compute_features, open_features

        turns = _turns(store, args, one=encoder.key.get("model") == "openvla")
        column = compute_features(store, encoder, turns, args.batch, _progress())
        rows = len(open_features(store, column.key))
        print(f"{column.key}  {rows} rows of {column.size} features in {store.path}")
        print(f"use them: apportion fit --data {store.path} --features feature:{column.key}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "apportion data features",
        "Compute features of a frozen encoder, once, beside a store's columns; without --encoder, list what is there.",
    )
    add = parser.add_argument
    add("store", type=Path, metavar="STORE", help="made by apportion data convert SRC STORE --to store")
    add("--encoder", help="dinov2, dinov3, siglip, siglip2, resnet, openvla, a hub id, a folder, or module:Class")
    add("--output", choices=("vision", "projected", "hidden"), help="of openvla (default: vision)")
    add("--cameras", nargs="+", help="in this order (default: all; openvla knows one, and gets image or the first)")
    add("--turn", choices=("auto", "180", "flip", "none"), default="auto", help="images, before they are encoded")
    add("--batch", type=int, default=32, help="images at once (default: 32)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    add("--instructions", type=Path, help="instead write vectors of the instructions here, for --condition vectors")
    return parser


def _list(store: DemoStore) -> int:
    from apportion.data.features import feature_columns

    columns = feature_columns(store)
    for column in columns.values():
        cameras = ", ".join(name + ("" if turn == "none" else f" turned {turn}") for name, turn in column.turns.items())
        print(f"{column.key}  {column.encoder}, {column.size} features, {cameras}")
    if not columns:
        print(f"{store.path} has no features yet: add --encoder NAME")
    return 0


def _device(name: str) -> str:
    """Raises UserError for a device that is not there."""
    import torch

    from apportion.device import torch_device

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(torch_device(name))


def _turns(store: DemoStore, args: Namespace, one: bool) -> dict[str, Turn]:
    """Camera -> turn. `one`: without --cameras, one camera only."""
    from apportion.data.features import default_turns

    known = list(store.info.cameras)
    third_person = ["image"] if "image" in known else known[:1]
    cameras = args.cameras or (third_person if one else known)
    for name in cameras:
        if name not in known:
            raise UserError(f"--cameras {name}: the store has {', '.join(known) or 'none'}{did_you_mean(name, known)}")
    automatic = default_turns(store.info, cameras)
    return automatic if args.turn == "auto" else {name: args.turn for name in cameras}


def _instructions(store: DemoStore, path: Path, encoder: Encoder | None) -> None:
    """Instruction -> vector, as safetensors."""
    from safetensors.numpy import save

    from apportion.nets.encoders import encode_instructions
    from apportion.run.files import write_atomic

    texts = sorted({entry["language"] for entry in store.table} - {""})
    if not texts:
        raise UserError(f"{store.path}: its episodes carry no instructions")
    vectors = encode_instructions(texts, encoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save({text: row.copy() for text, row in zip(texts, vectors, strict=True)}))
    print(f"{len(texts)} instructions of {vectors.shape[1]} numbers in {path}")


def _progress() -> Callable[[int, int], None]:
    """Tells on stderr, at every twentieth, how far it is and how long it will take."""
    begun, first, told = 0.0, -1, 0

    def tell(done: int, total: int) -> None:
        nonlocal begun, first, told
        if first < 0:
            begun, first = time.monotonic(), done
        elif done * 20 // total > told and done < total:
            told = done * 20 // total
            rate = (done - first) / max(time.monotonic() - begun, 1e-9)
            left = (total - done) / rate / 60
            print(f"{done} of {total} rows, {rate:.0f} a second, {left:.0f} minutes left", file=sys.stderr)

    return tell
