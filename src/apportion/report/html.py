"""One self-contained page about one run or many: results, pictures, settings, versions; no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from apportion.report import plots
from apportion.report.parts import Album, counted, curves_of, film, html_table, settings_section, thin, versions_section
from apportion.report.runs import (
    Credit,
    Group,
    Run,
    Strip,
    audit_values,
    evaluation_returns,
    find,
    group,
    metric_values,
    null_evaluations,
    read,
)
from apportion.report.stats import bootstrap_ci, iqm
from apportion.report.style import number, pretty
from apportion.run.files import write_atomic
from apportion.types import UserError

AUDIT = {"pearson": "Pearson", "spearman": "Spearman", "r2_return": "R² of the return"}
# columns of metrics.jsonl worth a panel, in this order; others stay in the file
TRAINING = {
    "return": "Return in training",
    "reward/R_loss": "R_loss, reward model",
    "reward/R_var": "R_var, of the estimate",
    "agent/q_loss": "Critic loss",
    "agent/pi_loss": "Policy loss",
    "agent/alpha": "Temperature",
}
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
CSS = """
:root { color-scheme: light dark; --ink: #22272e; --faint: #5f6873; --line: #e1e4e8; --paper: #fff; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e6ea; --faint: #9aa4af; --line: #363c44; --paper: #16191d; --card: #1f2329; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 56rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .4rem; } p { margin: .5rem 0; } .faint, figcaption { color: var(--faint); }
figure { margin: 1rem 0 1.8rem; } figcaption { font-size: .88rem; margin-top: .5rem; }
figure img, figure video { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; padding: 10px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; width: 100%; margin: .8rem 0; }
th, td { text-align: left; padding: .42rem .8rem .42rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
code { font-size: .88em; overflow-wrap: anywhere; }
figure video { width: auto; max-width: 100%; max-height: 44rem; margin: 0 auto; padding: 0; }
.note { border-left: 3px solid #e69f00; background: var(--card); padding: .5rem .9rem; margin: .6rem 0;
  border-radius: 0 6px 6px 0; }
"""


def write_report(runs: Path | str | Sequence[Path | str], out: Path | str) -> Path:
    """Write one HTML page about `runs` to `out` and its pictures as PNG files beside it; returns the page's path.

    runs: run directories, or directories of runs (seed_0, seed_1, ...); those that differ only in the seed are put
    together. out: the page, or a directory in which it is to be called report.html.
    Raises UserError for no runs, a path that is no run, a damaged config.json, a page that cannot be written, or a full
    disk. Unfinished runs, runs without evaluations and damaged lines or credit files are reported on the page, not
    refused.
    """
    runs = [runs] if isinstance(runs, Path | str) else runs
    if not runs:
        raise UserError("report needs at least one run directory")
    out = Path(out)
    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    paths = dict.fromkeys(p.resolve() for path in runs for p in find(Path(path)))  # each run once
    groups = group(read(path) for path in paths)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(page, _page(groups, Album(page)).encode())
    except OSError as error:
        raise UserError(
            f"{page} cannot be written ({error.strerror}): --out is a page named *.html, or a directory"
        ) from error
    return page


def _page(groups: Sequence[Group], album: Album) -> str:
    envs = list(dict.fromkeys(g.env for g in groups))
    body = []
    for env in envs:
        body += [f"<h2>{escape(env)}</h2>\n"] if len(envs) > 1 else []  # else the page's title says it
        body.append(_section(env, [g for g in groups if g.env == env], album))
    title = ", ".join(envs)
    count = sum(len(g.runs) for g in groups)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,"><title>{escape(title)}: apportion report</title><style>{CSS}</style></head><body>
<h1>{escape(title)}</h1>
<p class="faint">{counted(count, "run")}, reported by <code>apportion report</code>. Returns are those of evaluation
episodes on separate environments with fixed seeds, the policy deterministic.</p>
{"".join(body)}{settings_section(groups)}{versions_section(groups)}
</body></html>
"""


def _section(env: str, groups: Sequence[Group], album: Album) -> str:
    curves = {g.label: g.curve(evaluation_returns) for g in groups}
    parts = [_results(groups, curves)]
    credits_of = {g.label: _credits(g) for g in groups}
    notes = [note for g in groups for note in _notes(g)] + [n for _, found in credits_of.values() for n in found]
    parts += [f'<p class="note">{escape(note)}</p>\n' for note in notes]
    drawn = [c for c in curves.values() if c is not None]
    if drawn:
        fig = plots.learning_curves(drawn, title=f"{env}: return in evaluation", labels=[g.label for g in groups])
        parts.append(album.show(fig, f"{env} curves", f"Learning curves on {env}", _curve_caption(drawn)))
    parts.append(_audit(env, groups, album))
    for g in groups:
        if found := credits_of[g.label][0]:
            parts.append(_credit(env, g, found, album))
        parts.append(film(g, album.page))
    parts.append(_training(env, groups, album))
    return "".join(parts)


def _results(groups: Sequence[Group], curves: dict[str, plots.Curve | None]) -> str:
    rows = []
    for g in groups:
        curve, pearson = curves[g.label], g.curve(audit_values("pearson"))
        if curve is None:
            rows.append([pretty(g.label), "no evaluation yet", "", str(len(g.runs)), "", "", ""])
            continue
        low, high = bootstrap_ci(curve.values[:, -1])
        r2 = g.curve(audit_values("r2_return"))
        rows.append([
            pretty(g.label),
            _value(float(iqm(curve.values[:, -1]))),
            f"{_value(float(low))} to {_value(float(high))}" if np.isfinite(low) else "one seed",
            str(len(curve.values)),
            f"{int(curve.steps[-1]):,}",
            "" if pearson is None else number(float(iqm(pearson.values[:, -1]))),
            "" if r2 is None else number(float(iqm(r2.values[:, -1]))),
        ])  # fmt: skip
    head = ["method", "return (IQM)", "95 % interval", "seeds", "at step", "Pearson", "R² of return"]
    return html_table(head, rows, numeric=set(range(1, 7)))


def _notes(g: Group) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes, name = [], pretty(g.label)
    for run in g.runs:
        notes += run.notes
        if not run.finished:
            steps = int(run.config.get("steps", 0))
            notes.append(f"{name}, seed {run.seed}: unfinished, {run.step:,} of {steps:,} steps")
        if steps := ", ".join(f"{step:,}" for step in null_evaluations(run)):
            notes.append(
                f"{name}, seed {run.seed}: a return is no finite number in the evaluation of step {steps}, left out"
            )
        elif not evaluation_returns(run):
            notes.append(f"{name}, seed {run.seed}: no evaluation yet, so that it is in no curve and no result")
        if run.info.get("resume") == "approximate":
            notes.append(
                f"{name}, seed {run.seed}: resumed approximately (open episodes could not be replayed exactly)"
            )
    ends = {max(e) for e in map(evaluation_returns, g.runs) if e}
    if len(ends) > 1:
        steps = ", ".join(f"{e:,}" for e in sorted(ends))
        notes.append(
            f"{name}: its seeds were last evaluated at steps {steps}; curve and result end with the first of them"
        )
    return notes


def _curve_caption(curves: Sequence[plots.Curve]) -> str:
    text = "Each point is the mean return of one evaluation's episodes"
    if max(len(c.values) for c in curves) == 1:
        return text + ". One seed: there is no interval to draw, and another seed may differ much."
    few = ", which below four seeds is their mean" if min(len(c.values) for c in curves) < 4 else ""
    return f"{text}; the line is the interquartile mean over seeds{few}, the band its 95 % bootstrap interval."


def _audit(env: str, groups: Sequence[Group], album: Album) -> str:
    panels = {title: curves_of(groups, audit_values(key)) for key, title in AUDIT.items()}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return ""
    limits = dict.fromkeys(AUDIT.values(), (-1.0, 1.0))
    fig = plots.small_multiples(
        panels,
        title="Does the learned reward agree with the true one?",
        limits=limits,
        labels=[g.label for g in groups],
    )
    caption = (
        "The audit: correlation of learned with true per-step reward within evaluation episodes, and the share of the "
        "returns' variance that the summed learned rewards explain (cut off below -1). The learner never sees the true "
        "reward."
    )
    return album.show(fig, f"{env} audit", f"Audit of the decomposition on {env}", caption)


def _credits(g: Group) -> tuple[list[tuple[Run, Credit]], list[str]]:
    found, notes = [], []
    for run in g.runs:
        credit, damaged = run.credit()
        notes += damaged
        if credit is not None:
            found.append((run, credit))
    return found, notes


def _credit(env: str, g: Group, found: Sequence[tuple[Run, Credit]], album: Album) -> str:
    run, first = found[0]
    name = pretty(g.label)
    episode, true, learned = first.median_episode()
    note = f"episode of median return, seed {run.seed}, after {first.step:,} steps of training"
    by_hand = run.config["reward"].get("alg", "rrd") in ("uniform", "ircr")  # no model
    kind = "assigned" if by_hand else "learned"
    fig = plots.credit(true, learned, title=f"{env}: which steps earned the return? {name}", note=note, kind=kind)
    returned, predicted = (_value(float(np.sum(x, dtype=np.float64))) for x in (true, learned))
    caption = (
        f"Episode {episode + 1} of {len(first.length)} in this evaluation: {len(true):,} steps, return {returned}, "
        f"predicted {predicted}."
    )
    one = album.show(fig, f"{env} {g.label} credit", f"True and {kind} reward per step, {name} on {env}", caption)
    columns = [np.concatenate([getattr(c, k) for _, c in found]) for k in ("true", "learned", "length")]
    fig = plots.credit_scatter(*columns, title=f"{env}: {kind} against true, {name}", kind=kind)
    steps = ", ".join(f"{s:,}" for s in sorted({c.step for _, c in found}))
    of = counted(len(found), "seed")
    caption = f"All episodes of the last audited evaluation of {of} (step {steps}); dashed: equality."
    many = album.show(fig, f"{env} {g.label} scatter", f"{kind.title()} against true reward, {name} on {env}", caption)
    frames = "" if first.strip is None else _frames(env, g, first.strip, (true, learned), note, kind, album)
    return f"<h3>{escape(name)}: the {kind} reward</h3>\n{one}{frames}{many}"


def _frames(
    env: str, g: Group, strip: Strip, rewards: tuple[np.ndarray, np.ndarray], note: str, kind: str, album: Album
) -> str:
    """The film strip of the episode above it, whose true and learned rewards are `rewards`."""
    frames, step, highest = strip
    title = f"{env}: highest and lowest {kind} reward. {pretty(g.label)}"
    fig = plots.film_strip(frames, step, highest, *rewards, title=title, note=note, kind=kind)
    few = f"the {counted(int((~highest).sum()), 'step')} of lowest (orange, pointing down)"
    caption = (
        f"Observations in the same episode, right before the {counted(int(highest.sum()), 'step')} of highest "
        f"{kind} reward (blue, pointing up) and {few}, in order of time and kept apart from one another. "
        "Below, the whole episode."
    )
    return album.show(fig, f"{env} {g.label} frames", f"Frames of highest and lowest {kind} reward on {env}", caption)


def _training(env: str, groups: Sequence[Group], album: Album) -> str:
    panels = {title: [thin(c) for c in curves_of(groups, metric_values(key))] for key, title in TRAINING.items()}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return ""
    fig = plots.small_multiples(panels, labels=[g.label for g in groups])
    caption = "From metrics.jsonl. The return in training is the mean of the last ten episodes, exploration included."
    picture = album.show(fig, f"{env} training", f"Losses while training on {env}", caption)
    return f"<details><summary>Losses and other numbers of training</summary>{picture}</details>\n"


def _value(x: float) -> str:
    """A return with three to four figures."""
    if not np.isfinite(x):
        return "not a number"
    return (f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.1f}" if abs(x) >= 100 else f"{x:.2f}").replace(
        "-", "\N{MINUS SIGN}"
    )
