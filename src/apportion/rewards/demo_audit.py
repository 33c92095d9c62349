"""How good a reward learned from demonstrations is, on episodes it has not seen, and beside what needs no learning.

Every figure is a value with a 95 % bootstrap interval over episodes, None where it is not defined. Two of them are easy
to mistake for quality and never come alone: the value-order correlation (VOC) of a summed positive reward is 1 for any
constant, and a return may be predicted from the episode's length or task. So the constant, the task and the length are
fitted to the training episodes as controls and measured in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apportion.rewards.resampled import Weights, estimate, explained, kendall, mean, r2, resamples
from apportion.stats import auroc, pearson, spearman

CONTROLS = ("constant", "task", "length")
DRAWS = 1000  # resamples behind an interval
FLAT = 0.01  # below this share of the rewards' variance within episodes, a reward is R/T but for its name


@dataclass(frozen=True)
class Known:
    """What is known of an episode without any model."""

    target: float  # its return, as the model was to decompose it
    success: bool | None
    task: str
    length: int  # steps T


@dataclass(frozen=True)
class Judged(Known):
    """An episode under audit: what the model says of it."""

    terminated: bool  # it ended by itself, not by a time limit
    reward: np.ndarray  # (T,) learned per-step rewards
    score: float  # the model's prediction of the return, which ranks episodes
    potential: np.ndarray | None = None  # (T,) phi, where the model has one
    truth: dict[str, np.ndarray] = field(default_factory=dict)  # (T,) columns that a good reward should follow


def audit_demos(
    judged: Sequence[Judged], train: Sequence[Known], *, telescopes: bool, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """The audit of `judged` episodes, the controls fitted to `train`: plain data, ready for JSON.

    telescopes: the reward is a potential difference, which cannot pay for going on without end.
    Raises ValueError where one of the two lists is empty.
    """
    if not judged or not train:
        raise ValueError("an audit needs episodes to judge and episodes to fit the controls to")
    weights = resamples(len(judged), draws, seed)
    found: dict[str, Any] = {
        "episodes": len(judged),
        "steps": sum(e.length for e in judged),
        "successes": sum(e.success is True for e in judged),
        "failures": sum(e.success is False for e in judged),
        "controls_fitted_to": len(train),
        "ranking": _ranking(weights, judged, train),
        "return": _returns(weights, judged, train),
        "variation": _variation(weights, judged, telescopes),
        "voc": {name: _voc(weights, judged, train, s) for name, s in (("success", True), ("failure", False))},
        "survival": _survival(weights, judged, telescopes),
        "truth": {
            name: _truth(weights, judged, train, name) for name in dict.fromkeys(k for e in judged for k in e.truth)
        },
    }
    return {**found, "warnings": warnings(found)}


def control(name: str, train: Sequence[Known], values: np.ndarray, episodes: Sequence[Known]) -> np.ndarray:
    """What a control that saw `values` (n,) of the `train` episodes says of `episodes`, (m,).

    constant: their mean; task: the mean within the episode's task, of all where the task is new; length: the least
    squares line over T. Values that are NaN are left out.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(episodes))
    overall = float(values[known].mean())
    if name == "task":
        tasks = np.array([e.task for e in train])
        of_task = {task: float(values[known & (tasks == task)].mean()) for task in dict.fromkeys(tasks[known])}
        return np.array([of_task.get(e.task, overall) for e in episodes])
    if name == "length":
        lengths = np.array([e.length for e in train], np.float64)[known]
        centred = lengths - lengths.mean()
        spread = float(centred @ centred)
        slope = float(centred @ values[known]) / spread if spread > 0 else 0.0
        return overall + slope * (np.array([e.length for e in episodes]) - lengths.mean())
    return np.full(len(episodes), overall)


def _ranking(weights: Weights, judged: Sequence[Judged], train: Sequence[Known]) -> dict[str, Any]:
    """Success/failure AUROC of the score and of each control, what the score gains on them, and Kendall's tau."""
    labelled = np.array([e.success is not None for e in judged])
    score, success = _scores(judged), np.array([e.success is True for e in judged])

    def area(x: np.ndarray) -> np.ndarray:
        return auroc(weights[:, labelled], x[labelled], success[labelled])

    seen = np.array([np.nan if e.success is None else float(e.success) for e in train])
    model = area(score)
    areas = {name: area(control(name, train, seen, judged)) for name in CONTROLS}
    return {
        "auroc": estimate(model),
        "controls": {name: estimate(x) for name, x in areas.items()},
        "gain": {name: estimate(model - x) for name, x in areas.items()},
        "kendall_tau": estimate(kendall(weights, score, _targets(judged))),
    }


def _returns(weights: Weights, judged: Sequence[Judged], train: Sequence[Known]) -> dict[str, Any]:
    """R^2 of the predicted return, of each control, and the share the model explains of what each control leaves."""
    truth, score = _targets(judged), _scores(judged)
    said = {name: control(name, train, _targets(train), judged) for name in CONTROLS}
    return {
        "r2": estimate(r2(weights, truth, score)),
        "controls": {name: estimate(r2(weights, truth, x)) for name, x in said.items()},
        "explained": {name: estimate(explained(weights, truth, score, x)) for name, x in said.items()},
        "mean": {"true": float(truth.mean()), "predicted": float(score.mean())},
    }


def _variation(weights: Weights, judged: Sequence[Judged], telescopes: bool) -> dict[str, Any]:
    """How much rewards vary within episodes: mean standard deviation, and its share of their whole variance.

    R/T has 0 in both. The last step of a potential difference, which may carry the bonus of a success, is left out.
    """
    rewards = [_reward(e)[:-1] if telescopes and e.length > 1 else _reward(e) for e in judged]
    within = np.array([float(np.var(r)) for r in rewards])
    first = np.array([float(r.mean()) for r in rewards])
    share = weights * [len(r) for r in rewards]
    centre = (share @ first) / share.sum(1)
    between = (share * (first - centre[:, None]) ** 2).sum(1)
    inside = share @ within
    whole = inside + between
    parts = np.divide(inside, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return {"deviation": estimate(mean(weights, np.sqrt(within))), "share": estimate(parts)}


def voc(values: np.ndarray) -> float:
    """Value-order correlation: Spearman's correlation of values (T,) with time; NaN for a constant and for T < 2."""
    return spearman(np.arange(len(values)), values)


def _voc(weights: Weights, judged: Sequence[Judged], train: Sequence[Known], success: bool) -> dict[str, Any]:
    """VOC of the summed reward (and of phi) on one class of episodes, and always a constant reward's beside it."""
    series = _series(judged, train)
    of_class = np.array([e.success is success for e in judged])
    values = {kind: np.where(of_class, [voc(x) for x in xs], np.nan) for kind, xs in series.items()}
    names = {"model": "summed", "potential": "potential", "constant": "constant_summed"}
    return {"episodes": int(of_class.sum()), **{n: estimate(mean(weights, values[k])) for n, k in names.items()}}


def _survival(weights: Weights, judged: Sequence[Judged], telescopes: bool) -> dict[str, Any]:
    """Mean reward of the steps before a success that ends its episode: where it is positive, finishing costs."""
    ended = [e.success is True and e.terminated and e.length > 1 for e in judged]
    before = [float(_reward(e)[:-1].mean()) if over else np.nan for e, over in zip(judged, ended, strict=True)]
    found = estimate(mean(weights, np.array(before)))
    pays = found["value"] is not None and found["value"] > 0
    return {"mean_reward": found, "episodes": sum(ended), "telescopes": telescopes, "warning": pays and not telescopes}


def _truth(weights: Weights, judged: Sequence[Judged], train: Sequence[Known], name: str) -> dict[str, Any]:
    """Correlation within episodes with a column given as truth: of the reward (it pays where the column is high), of
    the reward summed up and of phi (they follow a column that says how far things are), of a constant summed up."""
    found: dict[str, Any] = {}
    for kind, xs in _series(judged, train).items():
        for measure in (pearson, spearman):
            values = [measure(x, e.truth[name]) if name in e.truth else np.nan for x, e in zip(xs, judged, strict=True)]
            found.setdefault(kind, {})[measure.__name__] = estimate(mean(weights, np.array(values)))
    return found


def _series(judged: Sequence[Judged], train: Sequence[Known]) -> dict[str, list[np.ndarray]]:
    """What is compared with time and truth, (T,) of each episode; without a potential, zeros, which correlate with
    nothing."""
    per_step = _constant(train)
    return {
        "reward": [_reward(e) for e in judged],
        "summed": [np.cumsum(_reward(e)) for e in judged],
        "potential": [np.zeros(e.length) if e.potential is None else e.potential for e in judged],
        "constant_summed": [per_step * _count(e) for e in judged],
    }


def warnings(found: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures, one sentence each."""
    said = []
    area, gain = found["ranking"]["auroc"], found["ranking"]["gain"]
    if not found["failures"] or not found["successes"]:
        there, lacking = ("success", "failed") if found["successes"] else ("failure", "successful")
        if found["successes"] or found["failures"]:
            said.append(
                f"Every labelled episode is a {there}: nothing here shows that the reward tells successes from "
                f"failures. Add {lacking} episodes (apportion data convert --add-failures) and audit again."
            )
        else:
            said.append("No episode says whether it succeeded: AUROC and VOC by outcome are not defined.")
    elif area["low"] is None or area["low"] <= 0.5:
        count = found["successes"] + found["failures"]
        said.append(f"On these {count} episodes the score's AUROC cannot be told from chance (.5).")
    else:
        beaten = [name for name in ("task", "length") if not _above(gain[name], 0.0)]
        said += [f"The score ranks no better than the episode's {name} alone." for name in beaten]
    left = found["return"]["explained"]["constant"]
    if left["value"] is not None and not _above(left, 0.0):
        said.append("The predicted return explains no more than the constant mean return does.")
    if (share := found["variation"]["share"]["value"]) is not None and share < FLAT:
        said.append("The reward hardly varies within an episode: it is a constant but for its name.")
    if found["survival"]["warning"]:
        said.append(
            "The reward is positive before a success that ends the episode, so an agent is paid for NOT finishing. "
            "Use it as a potential difference (--form potential), or subtract a constant."
        )
    return said


def _above(figure: dict[str, float | None], bound: float) -> bool:
    return figure["low"] is not None and figure["low"] > bound


def _constant(train: Sequence[Known]) -> float:
    """The constant control as a per-step reward: the training episodes' returns over their steps."""
    return float(_targets(train).sum()) / sum(e.length for e in train)


def _reward(episode: Judged) -> np.ndarray:
    return np.asarray(episode.reward, np.float64)


def _count(episode: Known) -> np.ndarray:
    return np.arange(1.0, episode.length + 1)


def _targets(episodes: Sequence[Known]) -> np.ndarray:
    return np.array([e.target for e in episodes], np.float64)


def _scores(judged: Sequence[Judged]) -> np.ndarray:
    return np.array([e.score for e in judged], np.float64)
