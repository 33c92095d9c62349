"""`apportion power compare`: its table, its JSON and its slips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apportion.power.compare_cli import main
from apportion.types import UserError

WORLD = """\
map: |
  We We We We We
  We Ay Ro .. We
  We Ay .. Ae We
  We We We We We
orientations: [e, n, w]
max_steps: 2
"""


@pytest.fixture
def world(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    path.write_text(WORLD)
    return str(path)


def test_the_table_names_every_policy_and_the_user(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([world, "--cache", "none", "--user", "1", "--steps", "2", "--sweep", "xi=2,4"]) == 0
    text = capsys.readouterr().out
    ours, theirs = text.split("by the others' measures")[0].split("at whose cost: who has less")
    for part in (ours, theirs):
        for policy in ("power", "power xi=2", "power xi=4", "ave", "joint-empowerment", "do-nothing", "uniform"):
            assert f"\n{policy} " in part
    assert "while human 1, the user, has more, each by over 0.001 bits" in text
    assert "share: of what power (beta_r 10) gains over acting at random" in text


def test_the_json_holds_what_the_table_shows(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([world, "--cache", "none", "--json", "--baselines", "empowerment", "--beta-r", "20", "--steps", "1"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in told["policies"]] == ["power", "empowerment", "do-nothing", "uniform"]
    assert told["params"]["beta_r"] == 20.0 and told["steps"] == 1 and told["horizon"] == 2
    assert told["policies"][0]["share"] == 1.0 and told["policies"][2]["gain_bits"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--baselines", "avee"], "no baseline 'avee'; did you mean ave?"),
        (["--user", "2"], "user 2: two has humans 0 to 1"),
        (["--steps", "0"], "0 steps of empowerment: at least 1"),
        (["--xi", "0.5"], "xi 0.5 is out of range"),
        (["--sweep", "beta_h=5,20"], "beta_h changes the humans"),
    ],
)
def test_slips_are_told_in_one_line(world: str, flags: list[str], line: str) -> None:
    with pytest.raises(UserError, match=line.replace("?", r"\?")):
        main([world, "--cache", "none", *flags])
