"""The Python in the pages about human power runs as it is printed."""

import re
from pathlib import Path

import pytest
from test_power_pettingzoo import Gate, restore

from apportion.cli import main
from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.pettingzoo import ParallelWorld
from apportion.power.solve import solve

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("power.md", "guides/worlds.md", "guides/seeing-power.md", "guides/baselines.md")
OWN = {  # what a page leaves to its reader
    "env": Gate(),
    "put_into_state": restore,
    "ParallelWorld": ParallelWorld,
    "enumerate_world": enumerate_world,
    "PowerParams": PowerParams,
    "solve": solve,
}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.S | re.M)


def test_there_are_blocks_to_run():
    assert [len(blocks(page)) for page in PAGES] == [2, 1, 1, 0]


@pytest.mark.parametrize(("page", "number"), [(page, i) for page in PAGES for i in range(len(blocks(page)))])
def test_a_block_of_python_runs(page, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks(page)[number]
    if "runs/power-trivial" in code:
        assert main(["power", "solve", "trivial", "--cache", "none"]) == 0
    names = dict(OWN) if "ParallelWorld" in code else {}
    exec(compile(code, f"{page}, block {number}", "exec"), names)
    if "human_policy" in code:  # as the comment says: (n, H, G, A)
        found = names["solution"].human_policy(4, names["states"])
        assert found.shape == (len(names["states"]), 1, 5, 4) and names["start"].bits.shape == (1, 1)
