"""The page about learned human power: stages, errors, what is missing, and an episode."""

import base64
import json
import re
import shutil

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from apportion.cli import main
from apportion.report import plots
from apportion.report.power_training import write_training_report
from apportion.types import UserError
from pages_for_tests import browsing
from power_runs_for_tests import trained
from run_dirs_for_tests import config, make_run

pytestmark = pytest.mark.unchecked

LITTLE = ("step", "share", "pi_r/tv_mean")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds, held against the exact solution on the way."""
    root = tmp_path_factory.mktemp("report")
    for seed in (0, 1):
        trained(root / f"runs/seed_{seed}", "trivial", horizon="5", check_every=1000, seed=seed)
    return root / "runs"


@pytest.fixture(scope="module")
def page(runs):
    return write_training_report([runs], runs.parent / "page.html")


def copied(run, path, **settings):
    """A copy with other settings and little to draw."""
    shutil.copytree(run, path)
    kept = json.loads((path / "config.json").read_text()) | settings
    (path / "config.json").write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))
    rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
    (path / "evaluations.jsonl").write_text("".join(json.dumps({k: r[k] for k in LITTLE}) + "\n" for r in rows))
    (path / "metrics.jsonl").write_text("")
    return path


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("apportion.report.power_training._LONGEST", 1)  # steps of the episode


def cells(text, row=0):
    """The texts of a row of the first table."""
    table = re.search(r"<table>(.*?)</table>", text, re.S)[1]
    return re.findall(r"<td.*?>(.*?)</td>", re.findall(r"<tr>(.*?)</tr>", table, re.S)[row + 1])


def test_seeds_are_one_row_with_their_errors_at_the_end(page, runs):
    found = cells(page.read_text())
    assert found[:3] == ["tables", "2", "2,000"]
    last = [json.loads((runs / f"seed_{i}/evaluations.jsonl").read_text().splitlines()[-1]) for i in (0, 1)]
    assert float(found[3]) == pytest.approx(np.mean([row["share"] for row in last]), abs=1e-4)
    assert float(found[4]) == pytest.approx(np.mean([row["pi_r/tv_mean"] for row in last]), rel=0.1)
    assert page.read_text().count("<tr>") > 1 and "2 runs of <code>apportion power train</code>" in page.read_text()


def test_pictures_are_in_the_page_and_beside_it(page):
    text = page.read_text()
    assert text.count("data:image/svg+xml;base64,") == 5  # share, errors, schedules, losses, values
    names = {path.name for path in page.parent.glob("page-*.png")}
    assert names == {f"page-trivial-{what}.png" for what in ("share", "errors", "schedules", "losses", "values")}
    assert "0 V_h^e; 3 + Q_r; 4 beta_r grows; 5 full" in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_a_single_check_is_no_curve_but_a_table(runs, tmp_path, short):
    copy = tmp_path / "copy"
    shutil.copytree(runs / "seed_0", copy)
    last = (copy / "evaluations.jsonl").read_text().splitlines()[-1]
    (copy / "evaluations.jsonl").write_text(last + "\n")
    text = write_training_report([copy], tmp_path).read_text()
    assert "Checked once; with --check-every STEPS" in text
    assert "V_h^e, largest</td>" in text and f"{json.loads(last)['v_h_e/max']:.1e}" in text


def test_an_episode_is_played_on_the_page(page):
    gif = re.search(r"data:image/gif;base64,([\w+/=]+)", page.read_text())[1]
    assert base64.b64decode(gif) == (page.parent / "page-trivial-episode.gif").read_bytes()
    assert "human \N{MINUS SIGN}" in page.read_text()  # bits, in words


def test_what_is_missing_is_said(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs / "seed_0", copy)
    (copy / "evaluations.jsonl").write_text("")
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    (copy / "metrics.jsonl").write_text("\n".join(lines[:4]) + "\n")
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(info | {"finished": False, "resume": "approximate"}))
    text = write_training_report([copy], tmp_path).read_text()
    assert cells(text)[3] == "no check"
    assert "unfinished, " in text and "of 2,000 steps" in text and "its actors ran ahead" in text
    assert f"apportion power evaluate trivial --policy {copy}" in text
    assert "image/gif" not in text and f"apportion power play {copy} --film" in text  # its people are not worked out
    assert text.count("data:image/svg+xml;base64,") == 3


def test_runs_with_other_settings_are_rows_of_their_own_and_their_stages_are_not_mixed(runs, tmp_path, short):
    found = [copied(runs / "seed_0", tmp_path / str(n), warmup_v_h_e_steps=n) for n in (100, 200)]
    text = write_training_report(found, tmp_path).read_text()
    assert cells(text)[0] == "warmup_v_h_e_steps=100" and cells(text, 1)[0] == "warmup_v_h_e_steps=200"
    assert "Human power, learned by tables: 2 runs" in text
    assert "stages differ" in text and "beta_r grows" not in text


def test_two_runs_of_one_seed_are_no_two_seeds(runs, tmp_path, short):
    found = [copied(runs / "seed_0", tmp_path / name) for name in ("a", "b")]
    text = write_training_report(found, tmp_path).read_text()
    assert cells(text)[1] == "1"
    assert f"{found[1]} is left out: of each seed one run counts, and {found[0]} differs in nothing learned" in text


def test_of_two_runs_of_one_seed_the_one_that_was_checked_is_kept(runs, tmp_path, short):
    unchecked, checked = (copied(runs / "seed_0", tmp_path / name) for name in ("a", "b"))
    (unchecked / "evaluations.jsonl").write_text("")
    assert "no check" not in cells(write_training_report([unchecked, checked], tmp_path).read_text())


def test_runs_of_other_lengths_are_rows_of_their_own(runs, tmp_path, short):
    found = [runs / "seed_0", copied(runs / "seed_0", tmp_path / "longer", num_episodes=41)]
    text = write_training_report(found, tmp_path).read_text()
    assert [cells(text, row)[0].split("=")[0] for row in (0, 1)] == ["num_episodes"] * 2


def test_a_setting_that_an_earlier_version_did_not_have_is_at_its_default(runs, tmp_path, short):
    found = [copied(runs / "seed_0", tmp_path / "a", held_out=None), copied(runs / "seed_1", tmp_path / "b")]
    assert "held_out" not in (found[0] / "config.json").read_text()
    assert cells(write_training_report(found, tmp_path).read_text())[1] == "2"  # seeds of one row


def test_worlds_that_were_held_out_have_a_row_and_a_curve_of_their_own(runs, tmp_path, short):
    copy = copied(runs / "seed_0", tmp_path / "seed_0")
    rows = [json.loads(line) for line in (copy / "evaluations.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(row | {"held_out/share": 0.25}) + "\n" for row in rows)
    (copy / "evaluations.jsonl").write_text(text)
    found = write_training_report([copy], tmp_path).read_text()
    assert cells(found, 1)[0] == "tables, held-out worlds" and cells(found, 1)[3] == "0.2500"


def test_bands_are_shaded_where_they_are_and_an_axis_may_be_logarithmic():
    steps = np.array([0, 50, 100])
    curve = plots.Curve("a", steps, np.array([[1.0, 0.1, 0.01]]))
    bands = [plots.Band(0, 20, "0", "#eeeeee"), plots.Band(20, 60, "4", "#ffeecc"), plots.Band(60, 900, "5", "")]
    fig = plots.small_multiples({"x": [curve], "y": [curve]}, bands=bands, log={"y"})
    for ax, scale in zip(fig.axes, ("linear", "log"), strict=True):
        spans = [p for p in ax.patches if isinstance(p, Rectangle)]
        assert [(p.get_x(), p.get_width()) for p in spans] == [(0, 20), (20, 40)]
        assert ax.get_xlim() == (0, 100) and ax.get_yscale() == scale
        assert [text.get_text() for text in ax.texts] == ["0", "4", "5"]


# ---------------------------------------------------------------- the verbs


def test_both_verbs_write_it(runs, tmp_path, capsys, short):
    run = copied(runs / "seed_0", tmp_path / "run")
    for words in (["report"], ["power", "report"]):
        out = tmp_path / f"{len(words)}.html"
        assert main([*words, str(run), "--out", str(out)]) == 0
        assert f"report: {out}" in capsys.readouterr().out
        assert "Human power, learned by tables: 1 run of" in out.read_text()


def test_runs_of_several_kinds_are_refused_in_one_line(runs, tmp_path, capsys):
    make_run(tmp_path / "agent", config("rrd", 0), {1000: [1.0]}, lean=True)
    for words in (["report"], ["power", "report"]):
        assert main([*words, str(tmp_path / "agent"), str(runs)]) == 2
        err = capsys.readouterr().err.strip()
        assert "runs of one kind" in err and "apportion train" in err and "apportion power train" in err
        assert "\n" not in err


def test_report_finds_the_page_of_a_solved_world_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["power", "solve", "trivial", "--horizon", "2", "--cache", "none"]) == 0
    assert main(["report", "runs/power-trivial", "--courses", "1"]) == 0
    assert "report: runs/power-trivial/report.html" in capsys.readouterr().out


def test_slips_are_one_line(runs, tmp_path):
    make_run(tmp_path / "agent", config("rrd", 0), {1000: [1.0]}, lean=True)
    with pytest.raises(UserError, match="no run of apportion power train"):
        write_training_report([tmp_path / "agent"], tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        write_training_report([runs], tmp_path / "agent/config.json/page.html")


@pytest.fixture(scope="module")
def browser():
    yield from browsing()


@pytest.mark.long
def test_the_page_loads_in_a_browser_and_asks_for_nothing(page, browser):
    tab = browser.new_page()
    noise, asked = [], []
    tab.on("console", lambda line: noise.append(line.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    sizes = tab.evaluate("() => [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(sizes) == 6 and all(sizes)
    assert tab.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert noise == [] and all(url.startswith(("file:", "data:")) for url in asked)
    tab.close()
