"""The command line of RRD on LIBERO: `python scripts/train.py --env libero-10 --libero_dataset_path PATH ...`.

It learns a reward model from demonstrations, no policy: `apportion fit` with the old flags. Any other --env is an
environment, and goes to `apportion.legacy`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from apportion import legacy
from apportion.config import FitConfig
from apportion.flags import Parser, did_you_mean, free_path
from apportion.legacy import run_name_of, truth
from apportion.types import UserError

_COUNTS = {"epochs": 10, "cycles": 50, "iterations": 100, "train_batches": 50}  # gradient steps: their product


@dataclass(frozen=True)
class LiberoRequest:
    """What one such command line asks for."""

    config: FitConfig
    run: Path
    notes: tuple[str, ...]  # one line each, for the user


def is_libero(argv: Sequence[str]) -> bool:
    """Does --env name a LIBERO suite?"""
    words = [word for arg in argv for word in arg.split("=", 1)]
    return any(a == "--env" and b.lower().startswith("libero") for a, b in pairwise(words))


def parse(argv: Sequence[str]) -> LiberoRequest:
    """Settings, place and notes from the old flags. Raises UserError."""
    given = {name: value for name, value in vars(_parser().parse(argv)).items() if value is not None}
    from apportion.data.open import SUITES, find_suite

    suite = given["env"].lower().replace("_", "-")
    if suite not in SUITES:
        raise UserError(
            f"--env {given['env']}: no such suite{did_you_mean(suite, SUITES)} (choose from {', '.join(SUITES)})"
        )
    if "libero_dataset_path" not in given:
        raise UserError("--libero_dataset_path is missing: the folder that holds the suite's demonstrations")
    _check(given)
    counts = {name: given.get(name, number) for name, number in _COUNTS.items()}
    epoch = counts["cycles"] * counts["iterations"] * counts["train_batches"]
    find_suite(given["libero_dataset_path"], suite)  # one line now where it is not there
    image_size = min(128, max(84, given.get("libero_image_size", 128)))
    device, lines = _device(given.get("cuda", False))
    config = FitConfig(
        data=given["libero_dataset_path"],
        suite=suite,
        skip_bad=given.get("skip_bad", False),
        method=given.get("alg", "rrd"),
        steps=counts["epochs"] * epoch,
        rrd_batch_size=given.get("rrd_batch_size", 32),
        rrd_sample_size=given.get("rrd_sample_size", 32),
        rrd_bias_correction=given.get("rrd_bias_correction", False),
        r_lr=given.get("r_lr", 3e-4),
        seed=given.get("seed", 0),
        image_size=image_size,
        proprio=tuple(name for name in given.get("proprio", "").split(",") if name),
        features=given.get("features", "auto"),
        save_freq=given.get("save_freq", 2) * epoch,
        validate_every=max(1, epoch // 10),
        log_every=max(1, min(1000, epoch // 10)),
        device=device,
    )
    name = run_name_of(given.get("tag", ""), config.seed) or run_name_of(f"{suite}-{config.method}", config.seed)
    run = free_path(Path(given.get("checkpoint_dir", "log/checkpoints")) / name)
    return LiberoRequest(config, run, (*lines, *_notes(given, counts, config, suite)))


def main(argv: Sequence[str]) -> int:
    """Fit as the old command line says. Returns the exit code."""
    if not is_libero(argv) and not any(arg in ("-h", "--help") for arg in argv):
        return legacy.main(argv)
    from apportion.ending import ended, guarded, with_way_back

    def work() -> int:
        request = parse(argv)
        from apportion.train.offline import fit

        for line in (*request.notes, f"run directory: {request.run}"):
            print(line, flush=True)
        command = ["python", "scripts/train.py", *argv]
        with_way_back(request.run, lambda: fit(request.config, request.run, command=command))
        return ended(request.run)

    return guarded(work)


def _parser() -> Parser:
    parser = Parser("scripts/train.py", "Learn a reward from LIBERO demonstrations, with the flags of RRD on LIBERO.")
    add = parser.add_argument
    add("--env", required=True, help="libero-spatial, -object, -goal, -10, -90 or -100")
    add("--libero_dataset_path", help="folder of the suite's demonstrations: LIBERO's HDF5, RLDS, LeRobot, or a store")
    add("--alg", choices=["rrd", "rd", "progress", "success"], help="method (default: rrd)")
    add("--rrd_bias_correction", type=truth, nargs="?", const=True, help="RRD-L(RD)")
    for name, number in _COUNTS.items():
        add(f"--{name}", type=int, help=f"(default: {number}); the product of the four is the gradient steps")
    add("--rrd_batch_size", type=int, help="steps per update, over all subsets (default: 32)")
    add("--rrd_sample_size", type=int, help="K, steps per subset (default: 32)")
    add("--r_lr", type=float, help="step size (default: 3e-4)")
    add("--seed", type=int)
    add("--tag", help="name of the run")
    add("--checkpoint_dir", help="directory that holds the run directories (default: log/checkpoints)")
    add("--save_freq", type=int, help="epochs between checkpoints (default: 2)")
    add("--save_final", type=truth, nargs="?", const=True, help="the last checkpoint is kept in any case")
    add("--cuda", type=truth, nargs="?", const=True, help="use the GPU, if there is one")
    add("--features", help="new: proprio, pixels, feature:KEY (default: proprio on a CPU, pixels on a GPU)")
    add("--skip_bad", type=truth, nargs="?", const=True, help="new: go on without episodes that cannot be read")
    add("--proprio", help="new: low-dimensional observations, with commas: state,joint_state")
    # the agent's, which is not trained here, and what the data says by itself
    add("--basis_alg", help=argparse.SUPPRESS)
    add("--env_type", help=argparse.SUPPRESS)
    add("--rrd_reward_only", type=truth, nargs="?", const=True, help=argparse.SUPPRESS)
    add("--batch_size", type=int, help=argparse.SUPPRESS)
    add("--libero_image_size", type=int, help="frames are brought to at most 128 pixels")
    return parser


def _check(given: dict[str, Any]) -> None:
    for name in (*_COUNTS, "save_freq", "libero_image_size"):
        if given.get(name, 1) < 1:
            raise UserError(f"--{name} {given[name]}: at least 1 is needed")
    if given.get("rrd_reward_only") is False:
        raise UserError(
            "--rrd_reward_only False: no policy is trained here; learn the reward, then apportion train --reward RUN"
        )


def _device(cuda: bool) -> tuple[str, tuple[str, ...]]:
    import torch

    if cuda and not torch.cuda.is_available():
        return "cpu", ("--cuda: PyTorch finds no GPU here: going on on the CPU",)
    return ("cuda" if cuda else "cpu"), ()


def _notes(given: dict[str, Any], counts: dict[str, int], config: FitConfig, suite: str) -> list[str]:
    product = " x ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
    notes = [f"{suite}: {config.data}", f"{config.steps:,} gradient steps = {product}"]
    if "basis_alg" in given or "batch_size" in given:
        notes.append("--basis_alg and --batch_size are the agent's: none is trained here, only the reward")
    if given.get("libero_image_size", 128) != config.image_size:
        notes.append(
            f"--libero_image_size {given['libero_image_size']}: frames, where used, come to {config.image_size}"
        )
    if config.rrd_batch_size == config.rrd_sample_size and config.method == "rrd":
        notes.append(
            f"warning: --rrd_batch_size {config.rrd_batch_size} is one subset of --rrd_sample_size "
            f"{config.rrd_sample_size}: each update learns from a single episode; a multiple is steadier"
        )
    if given.get("save_final") is False:
        notes.append("--save_final False: the last checkpoint is kept all the same; resume needs it")
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        return []  # the first of several processes says it
    return notes
