"""One self-contained page about runs of `apportion power train`: stages, losses, values, and errors on the way."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from apportion.config import from_json, to_json
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.stages import Stage, stages
from apportion.power.own import own_faults
from apportion.power.rollout import ENDLESS
from apportion.power.runs import slug
from apportion.report import plots
from apportion.report.html import CSS
from apportion.report.page import opening, write_text
from apportion.report.parts import Album, counted, curves_of, html_table, settings_section, thin, versions_section
from apportion.report.runs import (
    INCIDENTAL,
    Group,
    Run,
    evaluation_values,
    find,
    group,
    metric_values,
    read_any,
)
from apportion.report.stats import iqm
from apportion.report.style import number, pretty
from apportion.types import UserError

KIND = Phase2Config.__name__
_SKIP = INCIDENTAL | {"check", "check_every", "check_states", "actors"}
_TABLES = {"lookup": "tables", "networks": "networks"}
_TINTS = ("#e9edf1", "#f4f6f8", "#e9edf1", "#f4f6f8", "#fdf0d8", "")  # of the stages; the ramp stands out
HELD_OUT, _UNSEEN = "held_out/", ", held-out worlds"  # columns about worlds that were not learned from
_LONGEST = 60  # steps of an episode that is shown
# columns of metrics.jsonl, and what to call them
SCHEDULES = {"beta_r": "beta_r", "epsilon": "epsilon, share of exploration", "lr_factor": "learning rates, factor"}
LOSSES = {f"loss/{name}": f"Loss of {shown}" for name, shown in (
    ("v_h_e", "V_h^e"), ("x_h", "X_h"), ("u_r", "U_r"), ("q_r", "Q_r"), ("v_r", "V_r"),
)}  # fmt: skip
VALUES = {
    "value/v_h_e": "V_h^e, mean", "value/x_h": "X_h, mean", "value/u_r": "U_r, mean", "value/q_r": "Q_r, mean",
    "policy/entropy_bits": "Entropy of pi_r, bits", "states": "States met",
}  # fmt: skip
# columns of evaluations.jsonl
ERRORS = {
    "v_h_e/mean": "V_h^e, mean error", "x_h/mean": "X_h, mean error", "log_q_r/mean": "log(-Q_r), mean error",
    "v_h_e/max": "V_h^e, largest", "x_h/max": "X_h, largest", "log_q_r/max": "log(-Q_r), largest",
    "pi_r/tv_mean": "pi_r, total variation", "pi_r/tv_max": "pi_r, largest",
    "pi_r/tv_occupancy": "pi_r, where the solution goes",
}  # fmt: skip


def write_training_report(runs: Sequence[Path], out: Path) -> Path:
    """Write one HTML page about `runs` to `out`, and its pictures as PNG files beside it; returns the page's path.

    runs: run directories, or directories over several; those that differ only in the seed are put together.
    out: the page, or a directory in which it is to be called report.html.
    Raises UserError for no runs, runs of another verb, a damaged config.json, or a page that cannot be written.
    """
    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    found = [_read(path) for path in dict.fromkeys(p.resolve() for path in runs for p in find(path))]
    groups = _distinct(group(found, _name, _SKIP))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror}): --out is a page named *.html") from error
    write_text(page, _page(groups, Album(page)))
    return page


def _read(path: Path) -> Run:
    """With all settings of this version: those that an earlier one did not have are at their defaults."""
    run = read_any(path)
    if run.config.get("kind") != KIND:
        raise UserError(f"{path} is no run of apportion power train")
    return replace(run, config=to_json(_config(run)))


def _name(run: Run) -> tuple[str, str]:
    """(world, tables or networks)."""
    config = _config(run)
    world = config.world if ":" in config.world else Path(config.world).stem
    return world, _TABLES[config.estimators]


def _distinct(groups: list[Group]) -> list[Group]:
    """The groups, without what the labels of all of them begin with."""
    heads = {g.label.partition(", ")[0] for g in groups}
    if len(heads) > 1 or not all(", " in g.label for g in groups):
        return groups
    return [replace(g, label=g.label.partition(", ")[2]) for g in groups]


def _config(run: Run) -> Phase2Config:
    try:
        return from_json(Phase2Config, run.config)
    except UserError as error:
        raise UserError(f"{run.path / 'config.json'}: {error}") from error


def _page(groups: Sequence[Group], album: Album) -> str:
    worlds = list(dict.fromkeys(g.env for g in groups))
    body = []
    for world in worlds:
        body += [f"<h2>{escape(world)}</h2>\n"] if len(worlds) > 1 else []
        body.append(_section(world, [g for g in groups if g.env == world], album))
    title, many = ", ".join(worlds), counted(sum(len(g.runs) for g in groups), "run")
    by = " and ".join(dict.fromkeys(_name(run)[1] for g in groups for run in g.runs))
    return f"""{opening(f"{title}: apportion report", CSS)}<body>
<h1>{escape(title)}</h1>
<p class="faint">Human power, learned by {by}: {many} of <code>apportion power train</code>.</p>
{"".join(body)}{settings_section(groups)}{versions_section(groups)}
</body></html>
"""


def _section(world: str, groups: Sequence[Group], album: Album) -> str:
    bands, told = _bands(groups)
    notes = [f'<p class="note">{escape(note)}</p>\n' for g in groups for note in _notes(g)]
    learned = [
        _multiples(world, groups, album, bands, "schedules", SCHEDULES, told, metric_values),
        _multiples(world, groups, album, bands, "losses", LOSSES, "Mean of the training steps since the line before.",
                   metric_values, log=True),
        _multiples(world, groups, album, bands, "values", VALUES, _batches(groups), metric_values),
    ]  # fmt: skip
    return "".join([
        _results(groups), *notes, _share(world, groups, album, bands, told), _errors(world, groups, album, bands),
        "<h2>How it was learned</h2>\n" if any(learned) else "", *learned, _episode(groups, album),
    ])  # fmt: skip


# ---------------------------------------------------------------- stages


def _bands(groups: Sequence[Group]) -> tuple[list[plots.Band], str]:
    """The stages, shaded, and what they are, in words; none where runs differ in them."""
    plans = {_plan(run) for g in groups for run in g.runs}
    if len(plans) > 1:
        return [], "The runs' stages differ, so that none are drawn."
    (plan,) = plans
    shown = [stage for stage in plan if stage.steps]
    bands = [plots.Band(s.first, s.end, str(s.number), _TINTS[s.number]) for s in shown]
    names = "; ".join(f"{s.number} {s.name}" for s in shown)
    return bands, f"Shaded: the stages of training ({names})."


def _plan(run: Run) -> tuple[Stage, ...]:
    return stages(_config(run))


# ---------------------------------------------------------------- results


def _results(groups: Sequence[Group]) -> str:
    columns = {"share": "share", "pi_r/tv_mean": "pi_r: TV", "v_h_e/mean": "V_h^e: error", "x_h/mean": "X_h: error",
               "log_q_r/mean": "log(-Q_r): error", "v_r/start": "V_r of the policy"}  # fmt: skip
    rows = []
    for g, prefix in ((g, prefix) for g in groups for prefix in ("", HELD_OUT)):
        shown = {key: g.curve(evaluation_values(prefix + key)) for key in columns}
        found = [c for c in shown.values() if c is not None]
        if prefix and not found:
            continue
        step = f"{int(found[0].steps[-1]):,}" if found else f"{max(run.step for run in g.runs):,}"
        cells = ["" if c is None else _figure(float(iqm(c.values[:, -1]))) for c in shown.values()]
        label = pretty(g.label) + (_UNSEEN if prefix else "")
        told = cells if found else ["no check", *[""] * (len(columns) - 1)]
        rows.append([label, str(len(g.runs)), step, *told])
    return html_table(["learner", "seeds", "at step", *columns.values()], rows, numeric=set(range(1, 9)))


def _figure(x: float) -> str:
    if not np.isfinite(x):
        return "undefined"
    return f"{x:.1e}" if 0 < abs(x) < 1e-3 else f"{x:.4f}" if abs(x) < 10 else f"{x:.4g}"


def _notes(g: Group) -> list[str]:
    notes, name = [], pretty(g.label)
    for run in g.runs:
        notes += run.notes
        who, steps = f"{name}, seed {run.seed}", _config(run).steps
        if not run.finished:
            notes.append(f"{who}: unfinished, {run.step:,} of {steps:,} steps")
        if not run.evaluations:
            notes.append(
                f"{who}: not held against the exact solution; where its world can be solved, apportion power evaluate "
                f"{run.config.get('world')} --policy {run.path} does that"
            )
        if run.info.get("resume") == "approximate":
            notes.append(f"{who}: resumed approximately, since its actors ran ahead of the learner")
    return notes


def _batches(groups: Sequence[Group]) -> str:
    """The caption of values, whose means depend on which states the batches had."""
    backward = any(_config(run).replay == "backward" for g in groups for run in g.runs)
    waves = ", each of one time: from the last step to the first and again, hence the waves" if backward else ""
    return f"Means over the batches that were learned from{waves}."


def _share(world: str, groups: Sequence[Group], album: Album, bands: list[plots.Band], told: str) -> str:
    curves = curves_of(groups, evaluation_values("share"))
    unseen = curves_of(groups, evaluation_values(f"{HELD_OUT}share"))
    curves += [replace(curve, label=curve.label + _UNSEEN) for curve in unseen]
    if not curves:
        return ""
    if all(len(curve.steps) < 2 for curve in curves):
        return '<p class="note">Checked once; with --check-every STEPS the way there is drawn as well.</p>\n'
    fig = plots.learning_curves(
        curves,
        title=f"{world}: worth of the learned policy",
        ylabel="share of the optimum",
        labels=[*(g.label for g in groups), *(c.label for c in curves)],
        bands=bands,
        marks={"the exact solution": 1.0, "acting uniformly": 0.0},
    )
    caption = (
        "Exact V_r of the learned policy at the start, on the way from the uniform policy's (0) to the solution's (1). "
        "It is what the networks or tables say with beta_r at its final value, also while the schedule's is lower. The "
        f"solution is soft: a sharper policy can come to more than 1. {told}"
    )
    return album.show(fig, f"{world} share", f"Share of the optimum on {world}", caption)


def _errors(world: str, groups: Sequence[Group], album: Album, bands: list[plots.Band]) -> str:
    curves = {title: [g.curve(evaluation_values(key)) for g in groups] for key, title in ERRORS.items()}
    known = [c for found in curves.values() for c in found if c is not None]
    if all(len(c.steps) < 2 for c in known):  # one look is no curve
        cells = {t: ["" if c is None else _figure(float(iqm(c.values[:, -1]))) for c in f] for t, f in curves.items()}
        rows = [[title, *row] for title, row in cells.items() if any(row)]
        heads = ["error", *(pretty(g.label) for g in groups)]
        return html_table(heads, rows, numeric=set(range(1, len(heads)))) if rows else ""
    caption = (
        "Learned against exact values, over all states at all times that can be reached: mean and largest absolute "
        "errors, and the total variation of the robot's policy, also weighted by how often the exact policy comes by. "
        "Logarithmic."
    )
    return _multiples(world, groups, album, bands, "errors", ERRORS, caption, evaluation_values, log=True)


def _multiples(
    world: str,
    groups: Sequence[Group],
    album: Album,
    bands: list[plots.Band],
    what: str,
    columns: Mapping[str, str],
    caption: str,
    pick: Any,
    log: bool = False,
) -> str:
    """One panel for each of `columns` that any run has."""
    panels = {title: [thin(c) for c in curves_of(groups, pick(key))] for key, title in columns.items()}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return ""
    positive = {title for title, curves in panels.items() if all((c.values > 0).any() for c in curves)}
    fig = plots.small_multiples(
        panels, labels=[g.label for g in groups], bands=bands, log=positive if log else (), title=what.capitalize()
    )
    return album.show(fig, f"{world} {what}", f"{what.capitalize()} on {world}", caption)


# ---------------------------------------------------------------- an episode


def _episode(groups: Sequence[Group], album: Album) -> str:
    """A film of the first run, if it can be made in seconds; else how to make it."""
    run = groups[0].runs[0]
    heading = "<h2>An episode</h2>\n"
    hint = f"<p><code>apportion power play {escape(str(run.path))} --film</code> plays one.</p>\n"
    config = _config(run)
    known = bool(run.evaluations) or config.human_prior not in ("exact", "shortest-path")
    if not known:  # the people's policies take as long to work out as before training
        return heading + hint
    from apportion.power.grid.film import write_film
    from apportion.power.learn.opened import open_trained
    from apportion.power.learn.play import as_shown, play

    try:
        passed_over: list[str] = []
        place = album.page.with_name(f"{album.page.stem}-{slug(groups[0].env)}-episode.gif")
        with own_faults(config.world, config.human_prior):
            opened = open_trained(run.path, warn=passed_over.append)
            played = play(opened, steps=min(opened.world.horizon or ENDLESS, _LONGEST), greedy=True)
            film = write_film(*as_shown(opened.world, played.course), place)
    except UserError as error:
        return f'{heading}<p class="note">No episode is shown: {escape(str(error))}</p>\n'
    data = base64.b64encode(film.read_bytes()).decode()
    bits = played.course.bits
    names = [opened.world.agents[h] for h in opened.world.humans]
    told = ", ".join(f"{n} {number(a)} bits at first, {number(b)} at most" for n, a, b in zip(
        names, bits[0], bits.max(0), strict=True))  # fmt: skip
    caption = (
        f"{pretty(groups[0].label)}, seed {run.seed}, after {opened.step:,} steps; the robot takes its most probable "
        f"actions, people act by the run's own prior. Below: their power as learned ({told})."
    )
    caption += "".join(f" {line[0].upper()}{line[1:]}." for line in passed_over)
    image = f'<img alt="An episode of the learned policy" src="data:image/gif;base64,{data}" style="max-width: 34rem">'
    return f"{heading}<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>\n{hint}"
