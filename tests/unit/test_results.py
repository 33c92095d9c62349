"""The numbers in README.md and docs/results.md are those of the JSON files that the benchmarks wrote."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGE, README = (ROOT / "docs" / "results.md").read_text(), (ROOT / "README.md").read_text()
TASKS = {"reacher": "sac", "halfcheetah": "sac", "cartpole": "dqn", "lunarlander": "dqn", "breakout": "dqn"}
NUMBER = r"[-+]?(?:\d[\d,]*)?\.?\d+"


def about(found, wanted):
    """Are these the numbers, each to the digits that are printed?"""
    numbers = re.findall(NUMBER, found)
    assert len(numbers) == len(wanted), (found, wanted)
    for text, number in zip(numbers, wanted, strict=True):
        assert float(text) == pytest.approx(number, abs=0.5001 * 10 ** -len(text.partition(".")[2])), (found, wanted)


def section(task):
    """What docs/results.md says of a task, from its heading to the next."""
    [found] = [part for part in re.split(r"^##+ ", PAGE, flags=re.M) if f"results/learning-{task}.png" in part]
    return found


def rows(text):
    """The cells of each row of the tables in `text`, their headings too."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("task", TASKS)
def test_learning_tables_are_what_was_measured(task):
    measured = json.loads((RESULTS / f"learning-{task}.json").read_text())
    head, *lines = rows(section(task))
    named = [re.split(r"[,:]", line[0])[0].lower() for line in lines]
    assert {"dense", "rrd", "ircr", "episodic"} <= set(named)
    for name, line in zip(named, lines, strict=True):
        method = f"{name} {TASKS[task]}"
        final = measured["final"][method]
        for what, cell in zip(head[1:], line[1:], strict=True):
            if what == "return (interval)":
                about(cell, [final["iqm"], *final["ci95"]])
            elif what == "the three seeds":
                about(cell, final["seeds"])
            elif cell:
                [control] = re.findall(r"against (\w+) \(interval\)", what)
                paired = measured["paired"][f"{method} - {control} {TASKS[task]}"]
                about(cell, [paired["mean"], *paired["ci95"]])


def test_the_readmes_table_is_what_was_measured():
    _, *lines = rows(README[README.index("three paired seeds each") : README.index("## Read on")])
    assert len(lines) == len(TASKS)
    for about_task, *cells in lines:
        [(task, agent)] = [item for item in TASKS.items() if item[0] in about_task.lower()]
        final = json.loads((RESULTS / f"learning-{task}.json").read_text())["final"]
        for method, cell in zip(("dense", "rrd", "uniform", "ircr", "episodic"), cells, strict=True):
            about(cell, [final[f"{method} {agent}"]["iqm"]])


def test_the_atari_table_is_what_was_measured():
    measured = json.loads((RESULTS / "atari-speed.json").read_text())["threads"]
    [part] = [part for part in re.split(r"^##+ ", PAGE, flags=re.M) if part.startswith("Atari\n")]
    _, theirs, *ours = rows(part)
    for threads, cell in zip(("1", "2"), theirs[1:], strict=True):
        about(cell, [measured[threads]["steps_per_second"]["stable-baselines3"]["median"]])
    for name, (_, *cells) in zip(("no reward model", "rrd", "rrd, bfloat16"), ours, strict=True):
        for threads, cell in zip(("1", "2"), cells, strict=True):
            ratio = measured[threads]["relative_to_stable_baselines3"][name]
            about(cell, [ratio["median"], ratio["quartile1"], ratio["quartile3"]])
