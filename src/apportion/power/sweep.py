"""One world solved for several values of its parameters: a table, and pictures of what changes at the start."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from apportion.power.compiled import Compiled
from apportion.power.files import params_json
from apportion.power.params import PowerParams, check, with_values
from apportion.power.solution import Solution, short, told_apart
from apportion.power.solve import solve
from apportion.report.style import DASHES, FAINT, SPARE, save, styled
from apportion.run.files import write_json
from apportion.types import UserError

LEAST_BITS = 0.1  # that the axis of people's power spans


def parse_sweep(words: Sequence[str], base: PowerParams, horizon: int | None) -> list[dict[str, Any]]:
    """`xi=1,2,4 beta_r=5,10`, also cut at the commas: every combination, as {name: value}, the last name's fastest.

    Raises UserError for unknown names and values out of range, before anything is solved.
    """
    values: dict[str, list[str]] = {}
    name = ""
    for part in ",".join(words).split(","):
        before, equals, after = part.partition("=")
        name, value = (before.replace("-", "_"), after) if equals else (name, before)
        if name == "horizon":
            raise UserError(
                "--sweep horizon: it is no parameter of the equations, and no sweep goes over it: solve once for each, "
                "with --horizon N --name NAME"
            )
        if not name or not value:
            raise UserError(f"--sweep {' '.join(words)}: a name and its values are wanted, like xi=1,2,4")
        values.setdefault(name, []).append(value)
    points = []
    for combination in itertools.product(*values.values()):
        params = with_values(base, dict(zip(values, combination, strict=True)))
        check(params, horizon)
        points.append({name: getattr(params, name) for name in values})
    return points


def run_sweep(
    compiled: Compiled,
    base: PowerParams,
    points: Sequence[dict[str, Any]],
    solve_one: Callable[[PowerParams], Solution] | None = None,
    file: Path | None = None,
    done: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row for each point: its parameters and what holds at the start. With `file`, an interrupted sweep goes on."""
    content = {"digest": compiled.digest, "base": params_json(base)}
    rows = _rows(file, content)
    known = {json.dumps(row["params"]): row for row in rows}
    out = []
    for point in points:
        params = with_values(base, point)
        key = {name: params_json(params)[name] for name in point}
        row = known.get(json.dumps(key))
        if row is None:
            row = {"params": key, **at_start((solve_one or (lambda p: solve(compiled, p)))(params))}
            rows.append(row)
            if file is not None:
                write_json(file, {**content, "rows": rows})
        out.append(row)
        if done is not None:
            done(row)
    return out


def _rows(file: Path | None, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of an earlier sweep of the same world and base. Raises UserError if the file is of another one."""
    if file is None or not file.exists():
        return []
    try:
        found = json.loads(file.read_text())
        same = {name: found[name] for name in content} == content
        rows = found["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): remove it") from None
    if not same:
        there, here = ({**each, "params": each["base"]} for each in (found, content))
        other, name = told_apart(there, here, _named(file))
        raise UserError(f"{file} holds a sweep of something else ({other}): give another --name, like --name {name}")
    return rows


def _named(file: Path) -> str:
    """NAME of runs/power-NAME-sweep/sweep.json."""
    return file.parent.name.removeprefix("power-").removesuffix("-sweep")


def at_start(solution: Solution) -> dict[str, Any]:
    """The values of the initial state."""
    start = solution.at(0)
    row = {
        "V_r": float(start.v[0]),
        "U_r": float(start.u[0]),
        "X_h": start.x[0].tolist(),
        "bits": start.bits[0].tolist(),
        "pi_r": start.pi[0].tolist(),
    }
    statement = solution.record.get("statement")
    return row if statement is None else {**row, "statement": statement}


def plot_sweep(
    rows: Sequence[dict[str, Any]], name: str, humans: Sequence[str], actions: Sequence[str], title: str
) -> Figure:
    """Power in bits of each human, and the robot's probabilities, at the start, against the parameter `name`.

    At most the eight likeliest joint actions have a line of their own.
    """

    @styled
    def draw() -> Figure:
        figure = Figure(figsize=(8.3, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        values = [short(row["params"][name]) for row in rows]
        numeric = all(isinstance(row["params"][name], int | float) for row in rows)
        at = np.array([float(value) for value in values]) if numeric else np.arange(len(values))
        for i, human in enumerate(humans):
            left.plot(at, [row["bits"][i] for row in rows], label=human, **_line(i))
        probabilities = np.array([row["pi_r"] for row in rows])
        for i, a in enumerate(np.argsort(-probabilities.max(0), kind="stable")[:8]):
            right.plot(at, probabilities[:, a], label=actions[a], **_line(i))
        low, high = left.get_ylim()
        if high - low < LEAST_BITS:  # or what hardly changes would look as if it did
            left.set_ylim((low + high - LEAST_BITS) / 2, (low + high + LEAST_BITS) / 2)
        left.set(xlabel=name, ylabel="power in bits", title="What people can do")
        right.set(xlabel=name, ylabel="probability", title="What the robot does first", ylim=(-0.02, 1.02))
        for axes in (left, right):
            if len(axes.lines) > 1 or axes is right:
                axes.legend()
            if not numeric or len(at) <= 8:
                axes.set_xticks(at, values)
        figure.text(1.0, 0.0, title, color=FAINT, fontsize=8, ha="right", va="bottom")
        return figure

    return draw()


def _line(i: int) -> dict[str, Any]:
    """Of two curves one upon the other, the dashes let both be seen."""
    return {"marker": "o", "color": SPARE[i % len(SPARE)], "dashes": DASHES[i % len(DASHES)]}


def save_plots(
    rows: Sequence[dict[str, Any]], folder: Path, humans: Sequence[str], actions: Sequence[str], world: str
) -> list[Path]:
    """One picture against the first parameter for each combination of the others."""
    first, *others = rows[0]["params"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(" ".join(f"{name}={short(row['params'][name])}" for name in others), []).append(row)
    out = []
    for words, group in groups.items():
        path = folder / ("sweep.png" if not words else f"sweep-{words.replace(' ', '-')}.png")
        title = f"{world}, {words}" if words else world
        out.append(save(plot_sweep(group, first, humans, actions, title), path))
    return out
