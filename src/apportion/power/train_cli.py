"""`apportion power train WORLD`: command lines into settings, and the run that they ask for."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.ending import ended, with_way_back
from apportion.flags import did_you_mean, spell, typed, walk
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.presets import PRESETS, compile_if_it_pays
from apportion.power.params import PowerParams
from apportion.power.runs import slug
from apportion.types import UserError

_PROG = "apportion power train"


_OF_NETWORKS = (
    "hidden", "shared_encoder", "goal_features", "dropout", "weight_decay", "q_r_output", "difference_weight",
    "lr_v_h_e", "lr_x_h", "lr_u_r", "lr_q_r", "lr_v_r", "lr_anneal", "grad_clip", "reference_lr", "v_h_e_loss",
    "x_h_batch_size",
)  # fmt: skip
_OF_ASYNC = ("actor_sync_freq", "max_lead")


@dataclass(frozen=True)
class TrainOptions:
    """Where the run goes."""

    name: str = ""  # of the run's directory (default: power-WORLD-train-SEED)
    runs_dir: str = "runs"
    log: str = ""  # also log to tensorboard, wandb, trackio


@dataclass(frozen=True)
class _Flags:
    run: TrainOptions
    learner: Phase2Config


def main(argv: Sequence[str]) -> int:
    """One command line. Returns the exit code; raises UserError for slips."""
    options, config = parse(argv)
    from apportion.train.power import train_power

    run = Path(options.runs_dir) / (options.name or default_name(config))
    sinks = tuple(name for name in options.log.split(",") if name)
    command = ["apportion", "power", "train", *argv]
    with_way_back(run, lambda: train_power(config, run, log=sinks, command=command))
    return ended(run)


def default_name(config: Phase2Config) -> str:
    """power-trivial-train-0."""
    world = config.world if ":" in config.world else Path(config.world).stem
    return f"power-{slug(world)}-train-{config.seed}"


def parse(argv: Sequence[str]) -> tuple[TrainOptions, Phase2Config]:
    """Raises UserError; `--help` prints and exits."""
    words = [re.sub(r"^--(no-)?async(?==|$)", r"--\1use-async", word) for word in argv]
    preset, words = _preset(words)
    default, hints = PRESETS[preset].config(), _hints()
    about = (
        f"Learn a robot policy that keeps people able. The defaults below are those of --preset {preset} "
        f"({PRESETS[preset].about}); the others are {', '.join(name for name in PRESETS if name != preset)}, and "
        "--preset NAME --help shows what they set. --async is short for --use-async."
    )
    if any(word in ("-h", "--help") for word in words):
        typed(["--help"], _Flags(TrainOptions(), default), f"{_PROG} WORLD", about)
    if not words or words[0].startswith("-"):
        raise UserError(
            f"which world? {_PROG} WORLD: a YAML file, a shipped name (apportion power worlds), a folder of YAML "
            "files, module:Class"
        )
    given = walk(words[1:], hints, _PROG)
    if "world" in given:
        raise UserError(f"--world is not a flag: {_PROG} WORLD says which")
    args = [*spell(given, hints), "--world", words[0]]
    found = typed(args, _Flags(TrainOptions(), default), _PROG, about)
    _refuse_idle(given, found.learner)
    return found.run, found.learner if "compile" in given else compile_if_it_pays(found.learner)


def _refuse_idle(given: Iterable[str], config: Phase2Config) -> None:
    """Raises UserError for a flag that would change nothing, or makes no sense beside the others."""
    for name in given:
        flag = f"--{name.replace('_', '-')}"
        if name in _OF_NETWORKS and config.estimators == "lookup":
            raise UserError(f"{flag} is a setting of networks, and these are tables: leave it out")
        if name == "held_out" and config.estimators == "lookup":
            raise UserError("--held-out is for networks: tables know nothing of worlds that they were not trained in")
        if name == "lr_lookup" and config.estimators != "lookup":
            raise UserError(f"{flag} is a setting of tables, and these are networks: leave it out")
        if name == "weight_clip" and config.targets != "sampled":
            raise UserError(f"{flag} is a setting of --targets sampled, and these are from the model: leave it out")
        network = name.removeprefix("lr_")
        if network in ("x_h", "u_r", "v_r") and not getattr(config, f"{network}_use_network"):
            raise UserError(
                f"{flag} is of a network that there is none of here: add --{network.replace('_', '-')}-use-network"
            )
        if name == "prior_steps" and config.human_prior != "learned":
            raise UserError(f"{flag} is a setting of --human-prior learned, and this is {config.human_prior}")
        if name in _OF_ASYNC and (not config.use_async or config.lockstep):
            raise UserError(f"{flag} is a setting of actors that run ahead (--async without --lockstep): leave it out")


def _preset(words: Sequence[str]) -> tuple[str, list[str]]:
    """The preset's name and the other words."""
    rest, name = list[str](), "default"
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag != "--preset":
            rest.append(word)
            continue
        name = value if equals else next(left, "")
    if name not in PRESETS:
        raise UserError(f"--preset {name}: no such preset{did_you_mean(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return name, rest


def _hints() -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for cls in (PowerParams, Phase2Config, TrainOptions):
        hints |= typing.get_type_hints(cls)
    names = {f.name for cls in (PowerParams, Phase2Config, TrainOptions) for f in dataclasses.fields(cls)} - {"params"}
    return {name: hint for name, hint in hints.items() if name in names}
