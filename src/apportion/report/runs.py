"""Reading run directories: what a run left behind, and which runs are seeds of the same thing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from apportion.report.plots import Curve
from apportion.stats import median_episode
from apportion.types import UserError

Row = dict[str, Any]
# settings that change where or how often something is done, not what is learned
INCIDENTAL = {"seed", "device", "threads", "vector", "store", "log_every", "save_freq", "keep_checkpoints"}

_MADE_BY = {"OnlineConfig": "apportion train", "FitConfig": "apportion fit", "Phase2Config": "apportion power train"}


class Strip(NamedTuple):
    """Frames of the episode of median return, at which the learned reward is among the highest or the lowest."""

    frames: np.ndarray  # (m, H, W) or (m, H, W, 3) uint8, each as it was before its step
    step: np.ndarray  # (m,) ascending
    highest: np.ndarray  # (m,) bool


@dataclass(frozen=True)
class Credit:
    """Per-step rewards of one evaluation's episodes, one after the other."""

    step: int  # env steps of training when they were made
    true: np.ndarray  # (sum of lengths,)
    learned: np.ndarray  # (sum of lengths,)
    length: np.ndarray  # (episodes,)
    strip: Strip | None = None  # where the observations are images

    def median_episode(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Number, true and learned rewards of the episode of median true return (the lower one of two)."""
        number, part = median_episode(self.true, self.length)
        return number, self.true[part], self.learned[part]


@dataclass(frozen=True)
class Run:
    """One run directory as it is now; it may still be running."""

    path: Path
    config: Row
    info: Row  # run.json
    evaluations: list[Row]
    metrics: list[Row]
    timing: list[Row]
    notes: tuple[str, ...]  # what could not be read

    @property
    def env(self) -> str:
        return str(self.config["env"])

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def label(self) -> str:
        """Method and agent: "rrd sac", "rrd-l(rd) sac", "none sac (dense)", "none sac (episodic)"."""
        reward, agent = self.config["reward"], self.config["agent"]
        method = reward.get("alg", "rrd")
        if method == "rrd" and reward.get("rrd_bias_correction"):
            method = "rrd-l(rd)"
        label = f"{method} {str(agent['kind']).removesuffix('Config').lower()}"
        if method != "none":
            return label
        return label + (" (dense)" if self.config.get("env_type") == "normal" else " (episodic)")

    @property
    def step(self) -> int:
        """Env steps that the run is known to have done."""
        return max((int(r["step"]) for rows in (self.evaluations, self.metrics) for r in rows), default=0)

    @property
    def finished(self) -> bool:
        return bool(self.info.get("finished")) or self.step >= int(self.config.get("steps", 0)) > 0

    def credit(self) -> tuple[Credit | None, list[str]]:
        """The newest readable credit file and a line for each damaged one passed over."""
        notes = []
        for path in sorted((self.path / "credit").glob("step_*.safetensors"), reverse=True):
            try:
                columns = load_file(path)
                true, learned, length = columns["true"], columns["learned"], columns["length"]
                if not (len(true) == len(learned) == length.sum() and (length > 0).all() and len(length)):
                    raise ValueError("its lengths do not fit")
                if not (np.isfinite(true).all() and np.isfinite(learned).all()):
                    raise ValueError("a reward in it is no finite number")
                length = length.astype(np.int64)
                strip = _strip(columns, true, length)
                return Credit(int(path.stem.removeprefix("step_")), true, learned, length, strip), notes
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                notes.append(f"{path} is damaged ({error}): passed over")
        return None, notes


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed (and in where they ran)."""

    env: str
    label: str
    runs: tuple[Run, ...]  # in order of their seeds

    def curve(self, pick: Callable[[Run], dict[int, float]]) -> Curve | None:
        """Seeds side by side at the steps that all of them have; None where no seed has any.

        pick: step -> value of one run. Seeds without any value are left out.
        """
        series = [s for s in (pick(run) for run in self.runs) if s]
        if not series:
            return None
        steps = sorted(set.intersection(*(set(s) for s in series)))
        if not steps:
            return None
        return Curve(self.label, np.array(steps), np.array([[s[t] for t in steps] for s in series], np.float64))


def evaluation_returns(run: Run) -> dict[int, float]:
    """Step -> mean return of the evaluation's episodes; evaluations with a null among the returns are left out."""
    rows = (r for r in run.evaluations if r.get("returns") and None not in r["returns"])
    return {int(r["step"]): float(np.mean(r["returns"])) for r in rows}


def null_evaluations(run: Run) -> list[int]:
    """Steps of the evaluations of which a return is null: it was no finite number."""
    return [int(r["step"]) for r in run.evaluations if None in (r.get("returns") or ())]


def audit_values(key: str) -> Callable[[Run], dict[int, float]]:
    """Picks step -> one number of the audit ("pearson", "spearman", "r2_return")."""

    def pick(run: Run) -> dict[int, float]:
        values = {int(r["step"]): (r.get("audit") or {}).get(key) for r in run.evaluations}
        return {step: float(v) for step, v in values.items() if v is not None}

    return pick


def evaluation_values(key: str) -> Callable[[Run], dict[int, float]]:
    """Picks step -> one number of evaluations.jsonl."""
    return lambda run: {int(r["step"]): float(r[key]) for r in run.evaluations if r.get(key) is not None}


def metric_values(key: str) -> Callable[[Run], dict[int, float]]:
    """Picks step -> one column of metrics.jsonl."""
    return lambda run: {int(r["step"]): float(r[key]) for r in run.metrics if r.get(key) is not None}


def find(path: Path) -> list[Path]:
    """The runs that `path` stands for: itself, or those in it, such as seed_0, seed_1, ..., and in directories over
    several. Raises UserError if there are none.
    """
    if (path / "config.json").is_file():
        return [path]
    if not path.exists():
        raise UserError(f"{path} does not exist: give the directory of a run, as it was printed when the run began")
    inside = {file.parent for file in path.glob("*/config.json")}
    inside |= {file.parent for file in path.glob("*/*/config.json") if file.parents[1] not in inside}
    if not inside:
        raise UserError(
            f"{path} is no run and holds none (there is no config.json): give the directory that a run printed"
        )
    return sorted(inside, key=lambda p: (p.parent, len(p.name), p.name))


def read(path: Path) -> Run:
    """The run of `apportion train` in `path`, but for its credit files. Raises UserError if it cannot be one."""
    run = read_any(path)
    if not all(isinstance(run.config.get(k), dict) for k in ("reward", "agent")) or "env" not in run.config:
        raise UserError(f"{path / 'config.json'} is not the configuration of an `apportion train` run")
    return run


def read_any(path: Path) -> Run:
    """A run of any verb: its settings and lines. Raises UserError where config.json or run.json is damaged."""
    notes: list[str] = []
    config = _json(path / "config.json")
    info = _json(path / "run.json") if (path / "run.json").is_file() else {}
    evaluations, metrics, timing = (
        _rows(path / f"{name}.jsonl", notes) for name in ("evaluations", "metrics", "timing")
    )
    return Run(path, config, info, evaluations, metrics, timing, tuple(notes))


def kinds(words: Sequence[str]) -> dict[str, Path]:
    """Of the runs that a command line names: each kind of settings ("OnlineConfig", ...), and the first such run."""
    found: dict[str, Path] = {}
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") or before == "--out":
            continue
        with suppress(UserError):
            for run in find(Path(word)):
                found.setdefault(str(_json(run / "config.json").get("kind")), run)
    return found


def one_kind(words: Sequence[str]) -> str:
    """The kind of all runs that a command line names; empty where it names none. Raises UserError for several."""
    found = kinds(words)
    if len(found) > 1:
        told = ", ".join(f"{path} of {_MADE_BY.get(kind, kind)}" for kind, path in found.items())
        raise UserError(f"a report is about runs of one kind, and these are of several: {told}")
    return next(iter(found), "")


def group(
    runs: Iterable[Run],
    name: Callable[[Run], tuple[str, str]] = lambda run: (run.env, run.label),
    skip: Set[str] = INCIDENTAL,
) -> list[Group]:
    """Runs grouped by `name`, (env, label), in order of first appearance; settings in `skip` make no difference.

    Runs of one label whose settings differ become groups of their own, the differing settings added to the label:
    they are not seeds of the same thing.
    """
    by_label: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs:
        settings = json.dumps(flat(run.config, skip=skip), sort_keys=True)
        by_label.setdefault(name(run), {}).setdefault(settings, []).append(run)
    groups = []
    for (env, label), variants in by_label.items():
        flats = [json.loads(settings) for settings in variants]
        differing = [
            k for k in dict.fromkeys(k for f in flats for k in f) if any(f.get(k) != flats[0].get(k) for f in flats)
        ]
        for settings, members in zip(flats, variants.values(), strict=True):
            extra = ", ".join(f"{k.split('.')[-1]}={_short(settings.get(k))}" for k in differing)
            groups.append(Group(env, f"{label}, {extra}" if extra else label, _each_seed_once(members)))
    return groups


def _each_seed_once(runs: Sequence[Run]) -> tuple[Run, ...]:
    """In order of seeds; of several runs of one seed, which are no independent samples, the one that tells most."""
    kept: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.seed, not run.evaluations, -run.step)):
        first = kept.setdefault(run.seed, run)
        if first is not run:
            note = f"{run.path} is left out: of each seed one run counts, and {first.path} differs in nothing learned"
            kept[run.seed] = replace(first, notes=(*first.notes, note))
    return tuple(kept.values())


def _short(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def flat(tree: Row, prefix: str = "", skip: Set[str] = frozenset()) -> Row:
    """A nested dictionary as one level with dotted keys; the names in `skip` are left out of the top level."""
    out: Row = {}
    for key, value in tree.items():
        if key in skip:
            continue
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _json(path: Path) -> Row:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): the run directory is damaged") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a JSON object: the run directory is damaged")
    return data


def _strip(columns: dict[str, np.ndarray], true: np.ndarray, length: np.ndarray) -> Strip | None:
    """None in files of runs without images, and in those from before there were strips. Raises ValueError."""
    if "frames" not in columns:
        return None
    strip = Strip(columns["frames"], columns["frame_step"].astype(np.int64), columns["frame_highest"].astype(np.bool_))
    frames, step, highest = strip
    number, _ = median_episode(true, length)
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)):
        raise ValueError(f"its frames are {frames.dtype} {frames.shape}")
    if not (
        len(frames) == len(step) == len(highest) > 0 and frames.size and step[0] >= 0 and (np.diff(step) > 0).all()
    ):
        raise ValueError("its frames do not fit their steps")
    if step[-1] >= length[number]:
        raise ValueError("its frames are not of its episode of median return")
    return strip


def _rows(path: Path, notes: list[str]) -> list[Row]:
    """Rows of a JSON-lines file in order of their steps, the last one of each step; none if there is no file."""
    if not path.is_file():
        return []
    by_step: dict[int, Row] = {}
    lines = path.read_text(errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            by_step[int(row["step"])] = row
        except (ValueError, TypeError, KeyError):
            # the last line may be in the middle of being written: no news
            if number < len(lines):
                notes.append(f"{path}: line {number} is damaged and left out")
    return [by_step[step] for step in sorted(by_step)]
