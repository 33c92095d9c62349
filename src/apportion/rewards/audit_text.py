"""The audit as rows to read: for the terminal and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apportion.rewards.demo_audit import CONTROLS


@dataclass(frozen=True)
class Row:
    """One figure of the model, and the same figure of each control, "" where it has none. Plain text throughout."""

    name: str
    model: str
    controls: tuple[str, str, str] = ("", "", "")  # constant, task, length
    about: str = ""  # one sentence: how to read it


HEAD = ("", "model", *CONTROLS)


def rows(found: dict[str, Any]) -> list[Row]:
    """The table of `audit_demos`. VOC stands beside its constant in every row that has it."""
    ranking, returns = found["ranking"], found["return"]
    table = [
        Row(
            "success/failure AUROC",
            interval(ranking["auroc"]),
            _controls(ranking["controls"]),
            "P(a success scores above a failure); .5 is chance",
        ),
        Row("  gain on the control", "", _controls(ranking["gain"]), "paired over episodes; above 0: better"),
        Row("Kendall tau of the score with the return", interval(ranking["kendall_tau"])),
        Row("R\N{SUPERSCRIPT TWO} of the return", interval(returns["r2"]), _controls(returns["controls"])),
        Row(
            "  explained of what the control leaves",
            "",
            _controls(returns["explained"]),
            "share of the control's squared error that the model removes",
        ),
        Row("variance of r within episodes", interval(found["variation"]["share"]), ("0", "0", ""), "R/T has 0"),
    ]
    for name, voc in found["voc"].items():
        about = "order of the summed reward in time; any positive constant has 1"
        label = {"success": "VOC on successes", "failure": "VOC on failures"}[name]
        table.append(Row(label, interval(voc["model"]), (interval(voc["constant"]), "", ""), about))
        if voc["potential"]["value"] is not None:
            table.append(Row("  of the potential", interval(voc["potential"]), (interval(voc["constant"]), "", "")))
    survival = found["survival"]
    if survival["episodes"]:
        about = "above 0 pays for not finishing" + (", but for a potential difference" * survival["telescopes"])
        table.append(
            Row("mean r before a success that ends", interval(survival["mean_reward"], "{:+.4f}"), about=about)
        )
    for name, truth in found["truth"].items():
        for kind, what in (("reward", "r"), ("summed", "summed r"), ("potential", "the potential")):
            for measure, word in (("pearson", "Pearson"), ("spearman", "Spearman")):
                control = "" if kind == "reward" else interval(truth["constant_summed"][measure])
                if kind != "potential" or truth[kind][measure]["value"] is not None:
                    row = Row(f"{word} of {what} with {name}", interval(truth[kind][measure]), (control, "", ""))
                    table.append(row)
    return table


def render(found: dict[str, Any]) -> str:
    """The audit for a terminal."""
    table = [HEAD, *((r.name, r.model, *r.controls) for r in rows(found))]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    labelled = found["successes"] + found["failures"]
    head = f"{found['episodes']} episodes, {found['steps']:,} steps: "
    head += f"{found['successes']} successes, {found['failures']} failures"
    if labelled < found["episodes"]:
        head += f", {found['episodes'] - labelled} without a label"
    head += f"; controls fitted to {found['controls_fitted_to']} training episodes; 95 % intervals over episodes"
    return "\n".join([head, "", *lines, *(f"\nwarning: {said}" for said in found["warnings"])])


def interval(figure: dict[str, float | None], form: str = "{:.2f}") -> str:
    """ "0.87 (0.79 to 0.94)", "1.00" where no resample gave anything else, "not defined" for None."""
    if figure["value"] is None:
        return "not defined"
    text = _said(figure["value"], form)
    if figure["low"] is not None and figure["high"] is not None:
        low, high = _said(figure["low"], form), _said(figure["high"], form)
        text += f" ({low} to {high})" if low != high else ""
    return text


def _said(value: float, form: str) -> str:
    text = form.format(value)
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "\N{MINUS SIGN}")


def _controls(figures: dict[str, dict[str, float | None]]) -> tuple[str, str, str]:
    constant, task, length = (interval(figures[name]) for name in CONTROLS)
    return constant, task, length
