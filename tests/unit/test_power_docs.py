"""The Python in the pages about human power runs as it is printed."""

import json
import re
from pathlib import Path

import pytest

from apportion.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("power.md", "guides/worlds.md", "guides/seeing-power.md", "guides/baselines.md")


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.S | re.M)


def test_there_are_blocks_to_run():
    assert [len(blocks(page)) for page in PAGES] == [3, 1, 1, 0]


@pytest.mark.parametrize(("page", "number"), [(page, i) for page in PAGES for i in range(len(blocks(page)))])
def test_a_block_of_python_runs(page, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks(page)[number]
    if "runs/power-trivial" in code:
        assert main(["power", "solve", "trivial", "--cache", "none"]) == 0
    names = {}
    exec(compile(code, f"{page}, block {number}", "exec"), names)
    if "human_policy" in code:  # as the comment says: (n, H, G, A)
        found = names["solution"].human_policy(4, names["states"])
        assert found.shape == (len(names["states"]), 1, 5, 4) and names["start"].bits.shape == (1, 1)
    if "ParallelWorld" in code:
        assert names["solution"].at(0).bits.shape == (1, 2)
    if "states.json" in code:  # as its comment says
        capsys.readouterr()
        assert main(["power", "query", "trivial", "--states", "states.json", "--cache", "none"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert [state["step_count"] for state in answer["other_states"]] == [0]
        Path("answer.json").write_text(json.dumps(answer))
        assert main(["power", "query", "trivial", "--states", "answer.json", "--compare", "--cache", "none"]) == 0
