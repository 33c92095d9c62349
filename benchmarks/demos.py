"""What can be learned from robot rollouts: every method, from successes alone and with failures, beside controls.

    python benchmarks/demos.py lowdim_rollouts.hdf5                    # about an hour on one core
    python benchmarks/demos.py lowdim_rollouts.hdf5 --methods rd --seeds 1

Five folds by episode, drawn anew for each seed. The network sees the robot's own state and the task, never the objects.
How long to train is chosen for each fold on an inner split of its training episodes; nothing looks at the test fold.
With successes alone the choice may not see failures either: it goes by the loss. Judged on the test fold:

auroc    do successes rank above failures? Of the predicted return, or of the last state's potential
a step   the same of the mean reward per step: no episode ranks high or low for its length alone
r2       of that score as a prediction of the return (1 for a success, else 0)
value    within-episode correlation of what has been paid so far (or of the potential) with the script's phase and with
         the nearness of the objects to their targets; beside it the constant reward's, for which that is the time
reward   within-episode correlation of the reward with the step's gain in nearness

Writes docs/results/demos.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.config import FitConfig, to_json
from apportion.data.as_store import settled
from apportion.data.open import open_demos
from apportion.data.schema import Demo, episodes
from apportion.data.store import DemoStore, StoreWriter
from apportion.run.files import write_json
from apportion.run.rundir import cpu_name
from apportion.stats import auroc, pearson, r2
from apportion.train.fit_session import FitSession, draw, learn, make_fit
from apportion.train.fit_validate import validate
from apportion.train.ranks import Ranks

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "demos.json"
FOLDS = 5
STEPS = (500, 1000, 2000)  # of which the inner split chooses
BASE: dict[str, Any] = {"r_hidden": (64, 64), "r_lr": 1e-3, "rrd_batch_size": 256, "rrd_sample_size": 64}
METHODS: dict[str, dict[str, Any]] = {
    "rrd": {"method": "rrd"},
    "rrd-l(rd)": {"method": "rrd", "rrd_bias_correction": True},
    "rd": {"method": "rd"},
    "progress": {"method": "progress"},
    "success": {"method": "success"},
}
# from successes alone P(success | s) is 1 everywhere: there it gets the failures that can be made of them
ALONE: dict[str, dict[str, Any]] = {"success": {"rewind": True, "prefixes": True}}
CONTROLS = ("constant", "task", "length")
Row = dict[str, float]


@dataclass(frozen=True)
class Truth:
    """What the network is not shown."""

    success: np.ndarray  # (episodes,) bool
    task: np.ndarray  # (episodes,)
    length: np.ndarray  # (episodes,)
    demos: list[Demo]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = _store(args.data, Path(folder) / "store")
        truth = _truth(store)
        cells: dict[str, list[Row]] = {}
        seconds: dict[str, list[float]] = {}
        chosen: dict[str, list[int]] = {}
        for seed in range(args.seeds):
            for fold, test in enumerate(folds(truth.success, range(len(store)), FOLDS, seed)):
                train = sorted(set(range(len(store))) - set(test))
                for name in CONTROLS:
                    cells.setdefault(name, []).append(control(name, truth, train, test))
                for name in _names(args.methods, args.data_kinds):
                    start = time.process_time()
                    row, steps = _cell(store, truth, config(name, seed, args.proprio), train, test)
                    cells.setdefault(name, []).append(row)
                    chosen.setdefault(name, []).append(steps)
                    seconds.setdefault(name, []).append(time.process_time() - start)
                    print(f"seed {seed} fold {fold} {name:<26} auroc {row['auroc']:.2f} ({steps} steps)", flush=True)
    result = summary(cells, chosen, seconds, args)
    write_json(args.out, result)
    for name, figures in result["methods"].items():
        print(f"{name:<26} " + "  ".join(f"{k} {_shown(v)}" for k, v in figures["measures"].items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="lowdim_rollouts.hdf5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--data-kinds", nargs="+", choices=["alone", "failures"], default=["alone", "failures"])
    parser.add_argument("--proprio", nargs="+", default=["state"], help="what the network sees (default: state)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _names(methods: Sequence[str], kinds: Sequence[str]) -> list[str]:
    words = {"alone": "successes only", "failures": "with failures"}
    return [f"{method}, {words[kind]}" for method in methods for kind in kinds]


def config(name: str, seed: int, proprio: Sequence[str]) -> FitConfig:
    """The settings of one line of the table, the same for every fold."""
    method, kind = name.split(", ")
    alone = kind == "successes only"
    more = ALONE.get(method, {}) if alone else {}
    return FitConfig(
        data="rollouts", failures=not alone, seed=seed, proprio=tuple(proprio), **BASE, **METHODS[method], **more
    )


def folds(success: np.ndarray, among: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """`among` in `count` parts, successes and failures spread evenly."""
    rng = np.random.default_rng(seed)
    order = [int(i) for kind in (True, False) for i in rng.permutation([i for i in among if success[i] == kind])]
    return [order[part::count] for part in range(count)]


def _store(path: Path, place: Path) -> DemoStore:
    demos = open_demos(path)
    with StoreWriter(place, demos.info) as out:
        for demo in episodes(demos, "none"):
            out.add(demo)
    return DemoStore(place)


def _truth(store: DemoStore) -> Truth:
    success = np.array([entry["success"] is True for entry in store.table])
    tasks = np.unique([entry["task"] for entry in store.table], return_inverse=True)[1]
    return Truth(success, tasks, store.length, [store.read(i, "none") for i in range(len(store))])


def _cell(store: DemoStore, truth: Truth, base: FitConfig, train: list[int], test: list[int]) -> tuple[Row, int]:
    """The test fold's figures, after as many steps as an inner split of the training episodes found best."""
    inner = folds(truth.success, train, 4, base.seed)[0]
    rest = sorted(set(train) - set(inner))
    tried = [_inner_score(session) for session in _fit(store, base, rest, sorted(inner), STEPS)]
    steps = STEPS[int(np.argmax(tried))]
    session = list(_fit(store, base, train, test, (steps,)))[-1]
    return _judge(session, truth, test), steps


def _fit(store: DemoStore, base: FitConfig, train: list[int], held: list[int], stops: Sequence[int]):
    """The session at each of `stops`."""
    ready = settled(base, store.info)
    session = make_fit(ready, store, Ranks(), lambda line: None, "cpu", (train, held))
    for stop in stops:
        while session.step < stop:
            learn(session, *draw(session))
        yield session


def _inner_score(session: FitSession) -> float:
    found = validate(session)
    return found["val/auroc"] if session.config.failures else -found["val/loss"]


def _judge(session: FitSession, truth: Truth, test: list[int]) -> Row:
    model, rows, each = session.reward, [], []
    for i in test:
        demo = replace(truth.demos[i], success=None)  # no bonus: the label is not to be paid
        phi = model.potential(demo)
        reward = model.rewards(demo)
        value = np.concatenate([[0.0], np.cumsum(reward)]) if phi is None else phi
        rows.append(_hidden(demo, reward, value))
        each.append(float(reward.mean()))
    scores = np.array([model.score(truth.demos[i]) for i in test])
    a_step = _ranking(np.array(each), truth.success[test])["auroc"]
    return {**_ranking(scores, truth.success[test]), "auroc a step": a_step, **_within(rows, truth.success[test])}


def _hidden(demo: Demo, reward: np.ndarray, value: np.ndarray) -> Row:
    """Correlations within one episode of T steps; `value` has a row for each observation."""
    near, steps = nearness(demo.proprio["obj"]), demo.length
    clock = np.arange(steps, dtype=np.float64)
    return {
        "value with phase": pearson(value[:steps], demo.extra["phase"]),
        "time with phase": pearson(clock, demo.extra["phase"]),
        "value with nearness": pearson(value[:steps], near[:steps]),
        "time with nearness": pearson(clock, near[:steps]),
        "reward with gain": pearson(reward, near[1 : steps + 1] - near[:steps]),
    }


def nearness(obj: np.ndarray) -> np.ndarray:
    """Minus the distance of the objects from their targets, (O,): obj (O, 12) is object, target, object, target.

    Where the task moves one object only the second pair is 0.
    """
    pairs = obj.astype(np.float64).reshape(len(obj), 2, 2, 3)
    return -np.linalg.norm(pairs[:, :, 0] - pairs[:, :, 1], axis=-1).sum(1)


def _ranking(score: np.ndarray, success: np.ndarray) -> Row:
    ones = np.ones((1, len(score)))
    return {"auroc": float(auroc(ones, score, success)[0]), "r2": r2(success.astype(np.float64), score)}


def _within(rows: list[Row], success: np.ndarray) -> Row:
    """Means over the test episodes, and over its failures alone, where time does not stand for progress."""
    out = {}
    for kind, which in (("", np.ones(len(rows), bool)), (", failures", ~success)):
        for name in rows[0]:
            values = np.array([row[name] for row, w in zip(rows, which, strict=True) if w])
            out[name + kind] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return out


def control(name: str, truth: Truth, train: list[int], test: list[int]) -> Row:
    """What can be said of the test episodes without looking at them, learned from all training episodes."""
    won = truth.success[train].astype(np.float64)
    if name == "constant":
        score = np.full(len(test), won.mean())
    elif name == "task":
        score = np.array([won[truth.task[train] == truth.task[i]].mean() for i in test])
    else:
        slope, base = np.polyfit(truth.length[train].astype(np.float64), won, 1)
        score = base + slope * truth.length[test]
    return _ranking(score, truth.success[test])


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and its 95 % bootstrap interval over folds x seeds."""
    known = np.array([v for v in values if np.isfinite(v)])
    if len(known) < 2:
        return {"mean": float(known[0]) if len(known) else None, "low": None, "high": None}
    drawn = known[np.random.default_rng(0).integers(len(known), size=(10_000, len(known)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(known.mean()), "low": float(low), "high": float(high)}


def summary(
    cells: dict[str, list[Row]],
    chosen: dict[str, list[int]],
    seconds: dict[str, list[float]],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Everything measured, with its intervals, and every method's AUROC less each control's, fold by fold."""
    methods = {}
    for name, rows in cells.items():
        figures: dict[str, Any] = {"measures": {k: interval([row[k] for row in rows]) for k in rows[0]}}
        if name not in CONTROLS:
            figures["auroc_above"] = {
                other: interval([a["auroc"] - b["auroc"] for a, b in zip(rows, cells[other], strict=True)])
                for other in CONTROLS
            }
            figures["steps"] = chosen[name]
            figures["cpu_seconds_per_fold"] = float(np.mean(seconds[name]))
            figures["settings"] = to_json(config(name, 0, args.proprio))
        methods[name] = {**figures, "cells": rows}
    about = {"data": args.data.name, "folds": FOLDS, "seeds": args.seeds, "steps": STEPS, "proprio": args.proprio}
    machine = {"cpu": cpu_name(), "python": platform.python_version(), "torch": torch.__version__}
    return {"about": about, "machine": machine, "methods": json.loads(json.dumps(methods).replace("NaN", "null"))}


def _shown(figure: dict[str, float | None]) -> str:
    if figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.2f}" + ("" if figure["low"] is None else f" [{figure['low']:.2f}, {figure['high']:.2f}]")


if __name__ == "__main__":
    main()
