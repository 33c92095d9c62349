"""Command lines into settings: one flat flag per field of the dataclasses in config.py, and near matches for slips.

`apportion train` is parsed in two stages: the method, the agent and the environment choose the defaults, then every
other flag changes one field of them.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import tyro

from apportion.config import AGENTS, AtariConfig, OnlineConfig, RewardConfig
from apportion.presets import PRESETS, Preset, compile_if_it_pays, default_agent, defaults, is_atari, with_rmsprop
from apportion.types import UserError

C = TypeVar("C")
TRUE, FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")
_LEARNED_ONLY = (
    "target", "rrd_batch_size", "rrd_sample_size", "rrd_ensemble", "r_lr", "r_hidden", "reward_scale",
    "episode_sampling", "return_correction",
)  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """Where the run goes and how it is started."""

    basis_alg: Literal["sac", "td3", "ddpg", "dqn"] = "sac"  # the agent
    name: str = ""  # directory of the run inside --runs-dir; empty: ENV-ALG-AGENT-SEED
    runs_dir: str = "runs"  # where runs are kept
    seeds: str = ""  # several seeds side by side, one process each: 0,1,2
    jobs: int = 0  # of these processes, so many at once; 0: as many as the processor holds
    log: str = ""  # also log to tensorboard, wandb, trackio (several: with commas)

    @property
    def sinks(self) -> tuple[str, ...]:
        return tuple(name for name in self.log.split(",") if name)

    @property
    def seed_list(self) -> list[int]:
        """The numbers of --seeds. Raises UserError for what is no list of different whole numbers."""
        parts = [part.strip() for part in self.seeds.split(",") if part.strip()]
        if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) != len(parts):
            raise UserError(f"--seeds {self.seeds}: give different whole numbers with commas between them, like 0,1,2")
        return [int(part) for part in parts]


@dataclass(frozen=True)
class TrainRequest:
    """What one `apportion train` command line asks for. `argv` is the command line with flags spelt out in full."""

    options: RunOptions
    config: OnlineConfig
    argv: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.options.name or default_name(self.config)


@dataclass(frozen=True)
class _TrainFlags:  # the fields' names head the groups of --help, and words behind a field would stand below them
    run: RunOptions
    training: OnlineConfig


def default_name(config: OnlineConfig) -> str:
    """HalfCheetah-v5-rrd-sac-0; a `module:Class` or a namespace loses what is no good in a directory's name."""
    env = re.sub(r"[^\w.-]+", "-", config.env)
    alg = config.reward.alg + ("-lrd" if config.reward.rrd_bias_correction else "")
    alg += "-episodic" if alg == "none" and config.env_type == "ep_rews" else ""
    return f"{env}-{alg}-{config.basis_alg}-{config.seed}"


def did_you_mean(word: str, known: Iterable[str], count: int = 1) -> str:
    """`; did you mean X?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(word, list(known), count, 0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def run_verb(argv: Sequence[str], verbs: Mapping[str, Callable[[list[str]], int]], group: str, text: str) -> int:
    """Runs the verb that comes first in `argv`, of `apportion GROUP VERB`; without one prints `text`. UserError."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(text, end="")
        return 0
    if words[0] not in verbs:
        raise UserError(f"unknown verb {words[0]!r}{did_you_mean(words[0], verbs)} (see apportion {group} --help)")
    return verbs[words[0]](words[1:])


class Parser(argparse.ArgumentParser):
    """argparse that raises UserError, with a near match for unknown flags, and takes no abbreviations."""

    def __init__(self, prog: str, description: str):
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments. Raises UserError for anything not known."""
        args, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].split("=")[0]
            if not flag.startswith("-"):
                raise UserError(f"unexpected argument {flag!r} (see {self.prog} --help)")
            known = [option for action in self._actions for option in action.option_strings]
            raise UserError(f"unknown flag {flag}{did_you_mean(flag, known)} (see {self.prog} --help)")
        return args


def parse_train(argv: Sequence[str]) -> TrainRequest:
    """The whole of `apportion train`'s command line after the verb. Raises UserError; `--help` prints and exits."""
    preset, rest = _preset(argv)
    rest = _reward_model(rest)
    wants_help = any(arg in ("-h", "--help") for arg in rest)
    given = walk([arg for arg in rest if arg not in ("-h", "--help")], _hints(), "apportion train")
    alg = _one(given, "alg", preset.alg if preset else "rrd")
    env = _one(given, "env", preset.env if preset else "")
    basis_alg = _one(given, "basis_alg", preset.basis_alg if preset else default_agent(env))
    variant = _one(given, "ircr_variant", preset.ircr_variant if preset else "rrd")
    config = defaults(alg, basis_alg, env or "REQUIRED", variant)
    config = preset.tune(config) if preset else config
    optimizer = _one(given, "optimizer", "adam")
    if basis_alg == "dqn" and optimizer == "rmsprop":
        config = with_rmsprop(config)
    if not wants_help:
        check_flags(given, alg, basis_alg)
        check_frames(given, env)
        check_optimizer(given, optimizer)
        if alg == "model" and "model" not in given:
            raise UserError("--alg model needs the run whose reward model pays: --reward runs/NAME says both")
        if not env:
            raise UserError("--env is missing: which environment? For example --env HalfCheetah-v5")
    args = ["--help"] if wants_help else spell(given, _hints())
    about = (
        "Train an agent on rewards that a reward method works out. A preset comes first, if any: apportion train "
        "rrd-sac --env Ant-v5 (all presets: apportion presets). The defaults below are those of "
        f"{preset.about if preset else f'--alg {alg} --basis-alg {basis_alg}'}."
    )
    flags = _TrainFlags(RunOptions(basis_alg=basis_alg), config)  # type: ignore[arg-type]
    parsed = typed(args, flags, "apportion train", about)
    spelt = [*argv[: len(argv) - len(rest)], *spell(given, _hints())]
    config = parsed.training if "compile" in given else compile_if_it_pays(parsed.training)
    return TrainRequest(parsed.run, config, tuple(spelt))


def _reward_model(argv: Sequence[str]) -> list[str]:
    """`--reward RUN` spelt out: --alg model --model RUN, its path absolute, for a run may be resumed from anywhere.

    Raises UserError for a second method, and for no RUN.
    """
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--reward=") else [word])]
    if "--reward" not in words:
        return list(argv)
    at = words.index("--reward")
    if at + 1 == len(words) or words[at + 1].startswith("--"):
        raise UserError("--reward needs the run whose reward model pays: --reward runs/NAME")
    if any(word.partition("=")[0] == "--alg" for word in words):
        raise UserError("--reward RUN and --alg exclude each other: the model's reward is the method")
    return [*words[:at], "--alg", "model", "--model", str(Path(words[at + 1]).resolve()), *words[at + 2 :]]


def _preset(argv: Sequence[str]) -> tuple[Preset | None, list[str]]:
    if not argv or argv[0].startswith("-"):
        return None, list(argv)
    if argv[0] not in PRESETS:
        raise UserError(
            f"no preset named {argv[0]!r}{did_you_mean(argv[0], PRESETS)} (all of them: apportion presets; "
            "an environment is given as --env ENV)"
        )
    return PRESETS[argv[0]], list(argv[1:])


def _hints() -> dict[str, Any]:
    """Field name -> type of every flag of `apportion train`, of all agents together."""
    hints: dict[str, Any] = {}
    for cls in (*AGENTS.values(), RewardConfig, AtariConfig, OnlineConfig, RunOptions):
        hints |= typing.get_type_hints(cls)
    return {name: hint for name, hint in hints.items() if name not in ("agent", "reward", "atari")}


def walk(argv: Sequence[str], hints: dict[str, Any], prog: str) -> dict[str, list[str]]:
    """Field name -> its values as written; a switch has one value, "true" or "false". The last mention counts.

    `hints`: field name -> type of every flag of the verb `prog`. Raises UserError for unknown flags, flags without a
    value and words that belong to no flag.
    """
    given: dict[str, list[str]] = {}
    rest = list(argv)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if not word.startswith("--"):
            raise UserError(
                f"unexpected argument {word!r}: only the first word stands alone, the rest is --flag value "
                f"(see {prog} --help)"
            )
        name = word[2:].replace("-", "_")
        switched_off = name not in hints and name.startswith("no_") and hints.get(name[3:]) is bool
        name = name[3:] if switched_off else name
        if name not in hints:
            known = ["--" + known.replace("_", "-") for known in hints]
            spelt = "--" + name.replace("_", "-")
            raise UserError(f"unknown flag {word}{did_you_mean(spelt, known)} (see {prog} --help)")
        if hints[name] is bool:
            given[name] = [_switch(word, switched_off, value if equals else None, rest)]
        elif equals:
            given[name] = value.split(",") if typing.get_origin(hints[name]) is tuple else [value]
        elif not rest or rest[0].startswith("--"):
            raise UserError(f"{word} needs a value (see {prog} --help)")
        elif typing.get_origin(hints[name]) is tuple:
            given[name] = []
            while rest and not rest[0].startswith("--"):
                given[name] += rest.pop(0).split(",")
        else:
            given[name] = [rest.pop(0)]
        if hints[name] is int:
            given[name] = [_whole(given[name][0])]
        _check(word, hints[name], given[name])
    return given


def _switch(word: str, switched_off: bool, value: str | None, rest: list[str]) -> str:
    """`--x`, `--no-x`, and, as in the older command lines, `--x=True` and `--x False`."""
    if value is None and rest and rest[0].lower() in (*TRUE, *FALSE):
        value = rest.pop(0)
    if value is not None and (switched_off or value.lower() not in (*TRUE, *FALSE)):
        raise UserError(f"{word} {value}: it is a switch: {word} turns it {'off' if switched_off else 'on'}")
    on = not switched_off if value is None else value.lower() in TRUE
    return "true" if on else "false"


def _whole(text: str) -> str:
    """1e6 and 1_000_000 are whole numbers too."""
    with contextlib.suppress(ValueError, OverflowError):
        if re.search("[eE.]", text) and float(text) == int(float(text)):
            return str(int(float(text)))
    return text


def _one(given: dict[str, list[str]], name: str, otherwise: str) -> str:
    return given[name][-1] if name in given else otherwise


def _check(word: str, hint: Any, values: list[str]) -> None:
    """Raises UserError when `values` are no values for a flag of type `hint`."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if values[0] not in choices:
            near = did_you_mean(values[0], choices)
            raise UserError(f"{word} {values[0]}: choose from {', '.join(choices)}{near}")
        return
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
    for value in values:
        try:
            kind(value)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"{word} {value}: {wanted} is wanted") from None


def check_flags(given: Iterable[str], alg: str, basis_alg: str, dash: str = "-") -> None:
    """Refuse a flag that would change nothing. `given` are field names. Raises UserError naming the first one."""
    others = {f.name: name for name, cls in AGENTS.items() for f in fields(cls)}
    own = {f.name for f in fields(AGENTS[basis_alg])}
    for name in given:
        flag = "--" + name.replace("_", dash)
        if name in others and name not in own:
            owners = " and ".join(agent for agent, cls in AGENTS.items() if name in {f.name for f in fields(cls)})
            raise UserError(f"{flag} is a setting of {owners}, and the agent here is {basis_alg}")
        if name in _LEARNED_ONLY and alg not in ("rrd", "rd"):
            raise UserError(f"{flag} is a setting of rrd and rd, which learn a reward; here the method is {alg}")
        if name == "rrd_bias_correction" and alg != "rrd":
            raise UserError(f"{flag} is a setting of rrd, and the method here is {alg}")
        if name in ("model", "model_task") and alg != "model":
            raise UserError(f"{flag} is a setting of --reward RUN, and the method here is {alg}")
        if name == "ircr_variant" and alg != "ircr":
            raise UserError(f"{flag} is a setting of ircr, and the method here is {alg}")


def check_frames(given: Iterable[str], env: str, dash: str = "-") -> None:
    """Refuse a setting of Atari games for an environment that is none. Raises UserError naming the first one."""
    names = {f.name for f in fields(AtariConfig)} & set(given)
    if names and env and not is_atari(env):
        flag = "--" + min(names).replace("_", dash)
        raise UserError(f"{flag} is a setting of Atari games, such as Assault, and {env} is none")


def check_optimizer(given: Iterable[str], optimizer: str, flag: str = "--adam-eps") -> None:
    """Refuse Adam's epsilon for RMSProp, whose own is fixed. Raises UserError."""
    if "adam_eps" in given and optimizer == "rmsprop":
        raise UserError(f"{flag} is a setting of adam, and the optimizer here is rmsprop: leave it out")


def spell(given: dict[str, list[str]], hints: dict[str, Any]) -> list[str]:
    """The command line again, every flag in its full form and with hyphens."""
    words: list[str] = []
    for name, values in given.items():
        flag = name.replace("_", "-")
        if hints[name] is bool:
            words.append(f"--{flag}" if values == ["true"] else f"--no-{flag}")
        else:
            words += [f"--{flag}", *values]
    return words


def typed(args: list[str], default: C, prog: str, about: str) -> C:
    """tyro turns words into the fields of `default` and writes the help; its boxed errors become one line."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return tyro.cli(
                type(default),
                prog=prog,
                description=about,
                args=args,
                default=default,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as exit_:
        if not exit_.code:
            raise
        words = re.sub(r"[─│╭╮╰╯]", " ", boxed.getvalue()).split()
        raise UserError(f"{' '.join(words)} (see {prog} --help)") from None


def with_seed(request: TrainRequest, seed: int) -> list[str]:
    """The command line of one seed of `--seeds`: a single run, in its own directory below the common one."""
    preset, rest = _preset(request.argv)
    given = walk(rest, _hints(), "apportion train")
    for name in ("seeds", "jobs", "seed", "name"):
        given.pop(name, None)
    words = [request.argv[0]] if preset else []
    return [*words, *spell(given, _hints()), "--name", f"{multi_name(request)}/seed_{seed}", "--seed", str(seed)]


def multi_name(request: TrainRequest) -> str:
    """Name of the directory over all seeds."""
    return request.options.name or default_name(replace(request.config, seed=0)).removesuffix("-0")


def free_path(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist: nothing is overwritten."""
    count, free = 1, path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}-{count}")
    return free
