"""`apportion fit`: a reward model from recorded episodes, one flat flag per field of FitConfig."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.config import FitConfig
from apportion.flags import did_you_mean, spell, typed, walk
from apportion.presets import FIT_PRESETS
from apportion.types import UserError

PROG = "apportion fit"
_OF_METHOD = {
    "target": ("rrd", "rd"), "rrd_batch_size": ("rrd", "rd"), "rrd_sample_size": ("rrd", "rd"),
    "return": ("rrd", "rd"), "actions": ("rrd", "rd"), "batch_size": ("progress", "success"),
}  # fmt: skip
_OF_POTENTIAL = ("gamma", "success_bonus")


@dataclass(frozen=True)
class FitOptions:
    """Where the run goes."""

    name: str = ""  # directory of the run inside --runs-dir; empty: DATA-METHOD-SEED
    runs_dir: str = "runs"  # where runs are kept
    log: str = ""  # also log to tensorboard, wandb, trackio (several: with commas)

    @property
    def sinks(self) -> tuple[str, ...]:
        return tuple(name for name in self.log.split(",") if name)


@dataclass(frozen=True)
class _FitFlags:  # the fields' names head the groups of --help, and words behind a field would stand below them
    run: FitOptions
    fitting: FitConfig


@dataclass(frozen=True)
class FitRequest:
    """What one `apportion fit` command line asks for."""

    options: FitOptions
    config: FitConfig

    @property
    def run(self) -> Path:
        return Path(self.options.runs_dir) / (self.options.name or default_name(self.config))


def default_name(config: FitConfig) -> str:
    """libero_spatial-rrd-0: the data's last folder or file, the method, the seed."""
    path = Path(config.data)
    parts = [part for part in path.parts if not re.fullmatch(r"\d+\.\d+\.\d+", part)]  # RLDS: NAME/1.0.0
    stem = re.sub(r"[^\w-]+", "-", Path(parts[-1]).stem if parts else "data").strip("-") or "data"
    method = config.method + ("-lrd" if config.rrd_bias_correction else "")
    return f"{stem}-{method}-{config.seed}"


def parse_fit(argv: Sequence[str]) -> FitRequest:
    """The whole command line after the verb. Raises UserError; `--help` prints and exits."""
    preset, rest = None, list(argv)
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in FIT_PRESETS:
            raise UserError(
                f"no preset named {name!r}{did_you_mean(name, FIT_PRESETS)} (all of them: apportion presets; "
                "demonstrations are given as --data PATH)"
            )
        preset = FIT_PRESETS[name]
    wants_help = any(arg in ("-h", "--help") for arg in rest)
    hints = _hints()
    given = walk([arg for arg in rest if arg not in ("-h", "--help")], hints, PROG)
    if not wants_help and "data" not in given:
        raise UserError("--data is missing: which demonstrations? For example --data libero_spatial_no_noops")
    base = preset.config("REQUIRED") if preset else FitConfig(data="REQUIRED")
    about = (
        "Learn a reward model from recorded episodes: LIBERO, RLDS, LeRobot, Minari, or a store made by apportion data "
        f"convert. A preset comes first, if any{f'; the defaults below are {preset.about}' if preset else ''}."
    )
    args = ["--help"] if wants_help else spell(given, hints)
    parsed = typed(args, _FitFlags(FitOptions(), base), PROG, about)
    _check_flags(given, parsed.fitting)
    return FitRequest(parsed.run, parsed.fitting)


def _hints() -> dict[str, Any]:
    """Field name -> type of every flag; `return_` is called return there."""
    hints = {**typing.get_type_hints(FitConfig), **typing.get_type_hints(FitOptions)}
    return {name.rstrip("_"): hint for name, hint in hints.items()}


def _check_flags(given: dict[str, list[str]], config: FitConfig) -> None:
    """Refuse a flag that would change nothing. Raises UserError naming the first one."""
    for name in given:
        methods, flag = _OF_METHOD.get(name, (config.method,)), name.replace("_", "-")
        if config.method not in methods:
            raise UserError(f"--{flag} is a setting of {' and '.join(methods)}, and the method here is {config.method}")
        # here and not in FitConfig: runs of before, which may hold such a setting, stay readable
        if name in _OF_POTENTIAL and not config.is_potential and getattr(config, name) != getattr(FitConfig, name):
            why = f"--form raw, the default of {config.method}" if config.form == "auto" else "--form raw"
            raise UserError(f"--{flag} is a setting of --form potential and changes nothing with {why}: leave it out")


def main(argv: Sequence[str]) -> int:
    """Fit as the command line says. Returns the exit code."""
    from apportion.ending import ended, with_way_back

    request = parse_fit(argv)
    from apportion.train.offline import fit

    command = ["apportion", "fit", *argv]
    with_way_back(request.run, lambda: fit(request.config, request.run, log=request.options.sinks, command=command))
    return ended(request.run)
