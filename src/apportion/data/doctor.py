"""Before any training: can a reward be learned from these episodes, and what would each method really learn?

Pure functions from episode summaries to findings. A finding says what is so, with the numbers, and what to type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from apportion.data import shortcuts
from apportion.data.summary import Summary

Level = Literal["stop", "warning", "note", "fine"]  # stop: training would be meaningless
METHODS = ("rrd", "rrd-lrd", "rd", "progress", "success")
FEW = 10  # of the rarer outcome: below it neither training nor audit can say much


@dataclass(frozen=True)
class Finding:
    """One thing the doctor has to say."""

    level: Level
    topic: str  # constant-return, length, task, ...: for scripts
    what: str  # one or two sentences
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    remedy: tuple[str, ...] = ()  # command lines to choose from, or what to do


@dataclass(frozen=True)
class Case:
    """What all checks look at: the episodes, their returns (n,), what kind of return, the method meant, the path."""

    episodes: Sequence[Summary]
    returns: np.ndarray
    kind: str
    method: str
    path: str
    artificial: bool = False  # rewound clips, prefixes or other instructions will stand in for failures

    @property
    def lengths(self) -> np.ndarray:
        return np.array([e.length for e in self.episodes])

    @property
    def tasks(self) -> list[str]:
        return [e.task for e in self.episodes]

    @property
    def constant(self) -> bool:
        return float(np.ptp(self.returns)) == 0.0


def choose_kind(episodes: Sequence[Summary]) -> str | None:
    """The return to decompose where nobody said: success if it is known, else the sum of rewards; None: neither is."""
    if all(e.success is not None for e in episodes):
        return "success"
    return "dense" if any(e.reward_sum != 0 for e in episodes) else None


def diagnose(
    episodes: Sequence[Summary], path: str, kind: str | None = None, method: str = "rrd", artificial: bool = False
) -> tuple[list[Finding], dict[str, str]]:
    """Findings, the gravest first, and what each method would learn. `kind` None: chosen from the data.

    For kinds other than success and dense the summaries' `value` is the return. `method` is one of METHODS and decides
    what is grave; `artificial`: failures will be made of successes (`apportion fit --rewind` and its like).
    """
    kind = kind or choose_kind(episodes)
    if kind is None:
        return [_unlabelled(path)], {}
    source = {"success": lambda e: float(bool(e.success)), "dense": lambda e: e.reward_sum}.get(kind, lambda e: e.value)
    case = Case(episodes, np.array([source(e) for e in episodes], np.float64), kind, method, path, artificial)
    checks = (outcomes, per_step_constant, from_length, from_task, first_frame, rewards, tails, noops, copies, timing)
    found = [finding for check in checks for finding in check(case)]
    order = ("stop", "warning", "note", "fine")
    return sorted(found, key=lambda f: order.index(f.level)), lessons(case)


def meaningless(findings: Sequence[Finding]) -> bool:
    """Whether training would be: exit code 1."""
    return any(finding.level == "stop" for finding in findings)


def _unlabelled(path: str) -> Finding:
    return Finding(
        "stop",
        "no-return",
        "The episodes hold neither rewards nor whether they succeeded: there is no return to decompose.",
        remedy=(f"apportion data doctor {path} --return column:NAME   (or add a success column to the data)",),
    )


def outcomes(case: Case) -> list[Finding]:
    """Constant returns, only one outcome, too few of one, tasks with only one."""
    values, counts = np.unique(case.returns, return_counts=True)
    evidence: dict[str, float | int | str] = {"episodes": len(case.returns), "return": float(values[0])}
    if case.constant:
        return [_constant(case, evidence)]
    if len(values) > 2:
        spread = {"min": float(values[0]), "max": float(values[-1]), "std": float(case.returns.std())}
        return [
            Finding("fine", "returns", "The returns differ between episodes.", {"different": len(values), **spread})
        ]
    low, high = int(counts[0]), int(counts[1])
    names = (
        ("failures", "successes")
        if case.kind in ("success", "progress")
        else (f"of {values[0]:g}", f"of {values[1]:g}")
    )
    evidence = {names[0]: low, names[1]: high, "share": round(high / (low + high), 3)}
    found = []
    if min(low, high) < FEW or min(low, high) < 0.1 * (low + high):
        rarer = names[int(high < low)]
        what = f"Only {min(low, high)} of {low + high} episodes are {rarer}: what tells them apart rests on those."
        found.append(Finding("warning", "balance", what, evidence, _more(case)))
    else:
        found.append(
            Finding("fine", "balance", f"Both outcomes are there: {high} {names[1]}, {low} {names[0]}.", evidence)
        )
    one_sided = sorted({t for t in set(case.tasks) if np.ptp(_of(case, t)) == 0})
    if one_sided and len(one_sided) < len(set(case.tasks)):
        count = f"{len(one_sided)} of {len(set(case.tasks))} tasks"
        what = f"{count} have one outcome only ({', '.join(one_sided[:3])}{', ...' if len(one_sided) > 3 else ''})"
        what += ": for these the task name is all that is needed."
        found.append(Finding("warning", "one-sided-tasks", what, {"tasks": len(one_sided)}, _more(case)))
    return found


_ONLY = {1.0: "only successes, no failures", 0.0: "only failures"}


def _of(case: Case, task: str) -> np.ndarray:
    return case.returns[np.array([t == task for t in case.tasks])]


def _constant(case: Case, evidence: dict[str, float | int | str]) -> Finding:
    value, lengths = float(case.returns[0]), case.lengths
    only = _ONLY.get(value if case.kind in ("success", "progress") else -1.0)
    said = f"All {len(lengths)} returns are {value:g}{f' ({only})' if only else ''}"
    evidence |= {"shortest": int(lengths.min()), "longest": int(lengths.max())}
    if only == "only failures":
        what = f"{said}: nothing here says what success looks like, and no method can find out."
        return Finding("stop", "only-failures", what, evidence, _more(case, "DEMONSTRATIONS"))
    made = case.artificial and case.kind in ("success", "progress")
    if made:
        what = f"{said}: the only failures will be artificial ones, and whether real ones look like them nobody knows."
    elif case.method == "progress":
        what = f"{said}: progress can still learn t/T as a potential, but nothing about what failure looks like."
    elif case.method == "success":
        what = f"{said}: P(success) = {value:g} everywhere has no error at all, so nothing is learned."
    else:
        what = f"{said}: r = {value:g}/T has no error at all, so a decomposition learns the length at best."
    level: Level = "warning" if made or case.method == "progress" else "stop"
    fit = f"apportion fit --data {case.path} --method progress --rewind"
    return Finding(level, "constant-return", what, evidence, (*_more(case), *(() if made else (fit,))))


def _more(case: Case, what: str = "ROLLOUTS") -> tuple[str, ...]:
    return (f"apportion data convert {case.path} NEW --to store --add-failures {what}",)


def per_step_constant(case: Case) -> list[Finding]:
    """Whether one and the same reward for every step gives all returns: R = c T."""
    lengths = case.lengths.astype(np.float64)
    if case.constant and np.ptp(lengths) > 0:
        return []  # said already
    rate = float(case.returns @ lengths / (lengths @ lengths))
    if np.abs(case.returns - rate * lengths).max() > 1e-6 * max(1.0, float(np.abs(case.returns).max())):
        return []
    what = f"Every return is {rate:.4g} times the episode's length: the same reward for every step fits without error."
    level: Level = "warning" if case.method == "progress" else "stop"
    return [Finding(level, "constant-reward", what, {"reward": rate}, ("take another return: --return success",))]


def from_length(case: Case) -> list[Finding]:
    """Length as a shortcut to the return."""
    if case.constant or np.ptp(case.lengths) == 0:
        return []
    told = shortcuts.from_length(case.lengths, case.tasks, case.returns)
    evidence: dict[str, float | int | str] = {told.measure: round(told.value, 3), "chance": round(told.chance, 3)}
    if shortcuts.binary(case.returns):
        high = case.returns == case.returns.max()
        middle = [float(np.median(case.lengths[pick])) for pick in (high, ~high)]
        evidence |= {"median of the better": middle[0], "median of the worse": middle[1]}
    if not told.strong:
        return [_weak("length", "the length alone", told, evidence)]
    what = f"The length alone tells the return ({told.measure} {told.value:.2f}, by chance up to {told.chance:.2f}): "
    what += "a reward that only says how long the episode will be looks good here."
    remedy = "fit with --prefixes; believe no figure that does not beat the length"
    return [Finding("warning", "length", what, evidence, (remedy,))]


def _weak(name: str, what: str, told: shortcuts.Told, evidence: dict[str, float | int | str]) -> Finding:
    """About a shortcut that is not strong, or that too few episodes cannot show."""
    if told.blind:
        why = f"there are too few episodes: shuffled returns come to {told.measure} {told.chance:.2f}"
        return Finding("note", name, f"Whether {what} tells the return cannot be seen, {why}.", evidence)
    return Finding("fine", name, f"{what[0].upper()}{what[1:]} tells {told.amount} of the return.", evidence)


def from_task(case: Case) -> list[Finding]:
    """Task as a shortcut to the return."""
    told = None if case.constant else shortcuts.from_task(case.tasks, case.returns)
    if told is None:
        return []
    evidence: dict[str, float | int | str] = {
        told.measure: round(told.value, 3), "chance": round(told.chance, 3), "tasks": len(set(case.tasks)),
    }  # fmt: skip
    if not told.strong:
        return [_weak("task", "the task alone", told, evidence)]
    what = f"The task alone tells the return ({told.measure} {told.value:.2f}, by chance up to {told.chance:.2f}): "
    what += "recognising the scene is enough, what the robot does need not be looked at."
    return [Finding("warning", "task", what, evidence, _more(case))]


def first_frame(case: Case) -> list[Finding]:
    """Whether the first observation, before anything was done, gives the return away."""
    if case.constant:
        return []
    shapes = [{name: x.shape for name, x in e.start.items()} for e in case.episodes]
    shared = [name for name in shapes[0] if all(s.get(name) == shapes[0][name] for s in shapes)]
    if not shared or len(case.episodes) < FEW:
        why = f"fewer than {FEW} episodes" if shared else "the episodes share no low-dimensional observation"
        return [
            Finding("note", "first-frame", f"Whether the first frame gives the return away was not checked: {why}.")
        ]
    start = np.stack([np.concatenate([e.start[name] for name in shared]) for e in case.episodes])
    told = shortcuts.from_start(start, case.tasks, case.returns)
    evidence: dict[str, float | int | str] = {
        told.measure: round(told.value, 3), "chance": round(told.chance, 3), "columns": ", ".join(shared),
    }  # fmt: skip
    if not told.strong:
        what = f"The first observation tells {told.amount} of the return, beyond what the task tells."
        return [Finding("fine", "first-frame", what, evidence)]
    what = f"The first observation gives the return away ({told.measure} {told.value:.2f}, shuffled within tasks up to "
    what += f"{told.chance:.2f}): successes and failures begin differently, and a model can tell them without watching."
    remedy = "record failures from the same initial states as the successes; judge by change within episodes"
    return [Finding("warning", "first-frame", what, evidence, (remedy,))]


def rewards(case: Case) -> list[Finding]:
    """Whether the rewards are a flag that stays on or flickers: no return to sum up."""
    several = [e for e in case.episodes if e.flag and e.rewarded > 1]
    lost = sum(e.first_reward >= 0 and e.success is False for e in case.episodes)
    if not several or not all(e.flag for e in case.episodes):
        return []
    sums = sorted(int(e.reward_sum) for e in several)
    evidence: dict[str, float | int | str] = {
        "episodes": len(several), "sum from": sums[0], "to": sums[-1],
        "flicker": sum(e.falls > 0 for e in case.episodes), "in success once, not at the end": lost,
    }  # fmt: skip
    what = f"In {len(several)} episodes the reward is 1 on several steps: it says 'in success now', and summed up it "
    what += f"would pay {sums[0]} to {sums[-1]} for lingering."
    if case.kind == "dense":
        return [Finding("warning", "summed-flag", what, evidence, ("--return success",))]
    return [Finding("note", "summed-flag", f"{what} Success at the end is the return here.", evidence)]


def tails(case: Case) -> list[Finding]:
    """Steps after success: they look like success and nothing happens in them."""
    after = np.array([e.after_success for e in case.episodes if e.first_reward >= 0])
    if not len(after) or np.median(after) < 3:
        return []
    evidence = {"median": float(np.median(after)), "most": int(after.max()), "episodes": int((after > 0).sum())}
    what = f"Episodes go on after success was first reached, for {np.median(after):.0f} steps in the median."
    remedy = f"apportion data convert {case.path} NEW --to store --stop-at-success"
    return [Finding("note", "tail", what, evidence, (remedy,))]


def noops(case: Case) -> list[Finding]:
    """No-ops by openvla's rule, above all at the end."""
    ruled = [e for e in case.episodes if e.still >= 0]
    steps = sum(e.length for e in ruled)
    share = sum(e.still for e in ruled) / max(steps, 1)
    ends = [e.still_end for e in ruled]
    if share < 0.02 and sum(end >= 5 for end in ends) < 0.1 * max(len(ends), 1):
        return []
    evidence = {"share": round(share, 4), "longest at an end": max(ends)}
    what = f"{share:.1%} of the steps are no-ops by openvla's rule, up to {max(ends)} in a row at an end."
    remedy = f"apportion data convert {case.path} NEW --to store --drop-noops"
    return [Finding("note", "no-ops", what, evidence, (remedy,))]


def copies(case: Case) -> list[Finding]:
    """Episodes that are there twice would stand on both sides of a split."""
    extra = len(case.episodes) - len({(e.digest, e.task) for e in case.episodes})
    if not extra:
        return []
    what = f"{extra} episodes have the very actions of another one of their task: a validation set would hold copies."
    return [Finding("warning", "copies", what, {"copies": extra}, ("leave the copies out, or fit with --split task",))]


def timing(case: Case) -> list[Finding]:
    """Which action the arm's movement from one observation to the next answers to."""
    answer = response(case.episodes)
    if answer is None:
        return []
    past, now, coming = answer
    evidence: dict[str, float | int | str] = {
        "action before": round(past, 2), "this action": round(now, 2), "next action": round(coming, 2),
    }  # fmt: skip
    if coming > 0.4:
        what = "The arm seems to move before it is told to: the files hold observations from AFTER the action."
        return [Finding("warning", "timing", what, evidence, (f"apportion data doctor {case.path} --timing after",))]
    if now < 0.3 and past > 0.9:
        what = "The arm answers one step late: the files may hold observations from BEFORE the action, read as after."
        return [Finding("warning", "timing", what, evidence, (f"apportion data doctor {case.path} --timing before",))]
    return [Finding("fine", "timing", "The arm answers to the action that follows its observation.", evidence)]


def response(episodes: Sequence[Summary]) -> tuple[float, float, float] | None:
    """Weights of the action before, this action and the next one in s[t+1] - s[t], the largest scaled to 1.

    Least squares per axis, then the mean over axes. None where they explain less than half of the movement. A plain
    correlation would not do: actions are smooth, and a controller that lags makes every shift look right.
    """
    moments = np.sum([e.response for e in episodes], axis=0)
    weights = []
    for axis in moments:
        if axis[0, 0] < 20:
            continue
        centred = axis[1:, 1:] - np.outer(axis[0, 1:], axis[0, 1:]) / axis[0, 0]
        moved = centred[3, 3]
        if moved < 1e-12 or np.trace(centred[:3, :3]) < 1e-12:
            continue
        w = np.linalg.lstsq(centred[:3, :3], centred[:3, 3], rcond=1e-9)[0]
        if w @ centred[:3, 3] / moved > 0.5:
            weights.append(w / np.abs(w).max())
    if not weights:
        return None
    past, now, coming = np.mean(weights, axis=0)
    return float(past), float(now), float(coming)


def lessons(case: Case) -> dict[str, str]:
    """What each method would learn from these episodes, in words."""
    if not case.constant:
        return {
            "rrd": "which steps come with a higher return; returns differ here, so there is something to find.",
            "rrd-lrd": "the same without RRD's pull towards equal rewards within an episode; noisier.",
            "rd": "the same from whole episodes at a time, exact and slower.",
            "progress": "how far along (t/T) a good episode looks; failures enter as negatives.",
            "success": "how likely success is from here, a potential; needs both outcomes, which are there.",
        }
    value, lengths = float(case.returns[0]), case.lengths
    if value == 0:
        return dict.fromkeys(METHODS, "nothing: a reward of 0 everywhere has no error.")
    if np.ptp(lengths) == 0:
        flat = f"r = {value:g}/{lengths[0]} = {value / lengths[0]:.4g} on every step, exactly; nothing of what is done."
        rrd, free = flat, flat
    else:
        span = f"between {value / lengths.max():.4f} (T = {lengths.max()}) and {value / lengths.min():.4f}"
        rrd = (
            f"r = {value:g}/T, {span} (T = {lengths.min()}): only how long the episode is. Steps of short episodes and "
        )
        rrd += "short tasks score higher. Every step pays, so a policy that never finishes earns most."
        free = "the length as well: any rewards that add up to the return have no error, progress is not singled out."
    return {
        "rrd": rrd,
        "rrd-lrd": free,
        "rd": free,
        "progress": "how far along (t/T) a success looks: good as a potential. A failure that looks late scores high.",
        "success": "P(success) = 1 everywhere: nothing, unless failures are added or made (--rewind, --prefixes, "
        "--other-instructions).",
    }
