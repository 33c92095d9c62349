"""The report page: runs found and grouped, results right, unfinished and damaged runs told, nothing from outside."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from apportion.config import SACConfig, TD3Config
from apportion.report import runs as report_runs
from apportion.report.html import write_report
from apportion.report.runs import evaluation_returns, find, group, read
from apportion.types import UserError
from run_dirs_for_tests import config, make_run, write_credit, write_lines

FINAL = {1000: [-20.0, -22.0], 2000: [-8.0, -6.0]}


def words(page):
    """Text of the page without tags and styles."""
    text = page.read_text()
    text = re.sub(r"<style>.*?</style>|data:image[^\"]*", "", text, flags=re.S)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
    return text.replace("&#x27;", "'").replace("\N{MINUS SIGN}", "-")


@pytest.fixture
def three_seeds(tmp_path):
    for seed, last in enumerate([[-8.0, -6.0], [-10.0, -8.0], [-7.0, -4.0]]):
        make_run(tmp_path / "many" / f"seed_{seed}", config(seed=seed), {1000: [-20.0, -22.0], 2000: last})
    return tmp_path / "many"


def test_results_table_holds_iqm_interval_seeds_and_step(three_seeds, tmp_path):
    page = write_report([three_seeds], tmp_path / "out" / "report.html")
    # means of the last evaluations: -7, -9, -5.5; their mean -7.17; the interval of three seeds is their range
    assert "RRD + SAC -7.17 -9.00 to -5.50 3 2,000 0.80 0.90" in words(page)
    names = sorted(p.name for p in page.parent.iterdir())
    assert names == [
        "report-reacher-v5-audit.png",
        "report-reacher-v5-curves.png",
        "report-reacher-v5-rrd-sac-credit.png",
        "report-reacher-v5-rrd-sac-scatter.png",
        "report-reacher-v5-training.png",
        "report.html",
    ]
    assert all((page.parent / n).read_bytes().startswith(b"\x89PNG") for n in names[:-1])


def test_a_directory_as_target_gets_report_html(tmp_path):
    run = make_run(tmp_path / "r", config(), {}, lean=True)
    assert write_report([run], run) == run / "report.html"


def test_labels_follow_method_agent_and_what_was_withheld(tmp_path):
    cases = {
        "rrd sac": config(),
        "rrd-l(rd) sac": config(rrd_bias_correction=True),
        "ircr td3": replace(config("ircr"), agent=TD3Config()),
        "none sac (episodic)": config("none"),
        "none sac (dense)": replace(config("none"), env_type="normal"),
    }
    for i, (label, settings) in enumerate(cases.items()):
        assert read(make_run(tmp_path / str(i), settings, FINAL)).label == label


def test_runs_with_other_settings_are_not_taken_for_seeds(tmp_path):
    a = make_run(tmp_path / "a", config(seed=0), FINAL)
    b = make_run(tmp_path / "b", replace(config(seed=1), device="cuda", threads=2, store="memmap"), FINAL)
    c = make_run(tmp_path / "c", config(seed=2, rrd_sample_size=32), FINAL)
    d = make_run(tmp_path / "d", replace(config(seed=3), agent=SACConfig(hidden=(64, 64))), FINAL)
    groups = group(map(read, (a, b, c, d)))
    assert [len(g.runs) for g in groups] == [2, 1, 1]
    assert groups[0].label == "rrd sac, hidden=[256, 256], rrd_sample_size=64"
    assert groups[1].label == "rrd sac, hidden=[256, 256], rrd_sample_size=32"


def test_figures_of_many_differing_settings_have_names_that_a_disk_takes(tmp_path):
    other = replace(
        config(), buffer_size=28_001, batch_size=77, eval_every=5_001, warmup=7, gamma=0.98765, timesteps=33
    )
    other = replace(other, test_rollouts=3, train_batches=44, agent=SACConfig(hidden=(1, 2, 3), pi_lr=0.000123456))
    runs = [make_run(tmp_path / name, made, FINAL) for name, made in (("a", config()), ("b", other))]
    write_report(runs, tmp_path / "page" / "report.html")
    names = [path.name for path in (tmp_path / "page").glob("*.png")]
    assert len(names) == len(set(names)) and max(map(len, names)) < 100


def test_tasks_get_sections_of_their_own(tmp_path):
    runs = [make_run(tmp_path / env, config(env=env), FINAL, lean=True) for env in ("Reacher-v5", "Swimmer-v5")]
    page = write_report(runs, tmp_path / "report.html")
    assert re.findall("<h2>(.*?)</h2>", page.read_text()) == ["Reacher-v5", "Swimmer-v5", "Settings and versions"]


def test_a_run_given_twice_counts_once(tmp_path):
    for seed in range(2):
        make_run(tmp_path / "many" / f"seed_{seed}", config(seed=seed), FINAL, lean=True)
    page = write_report([tmp_path / "many", tmp_path / "many" / "seed_1"], tmp_path / "report.html")
    assert "2 runs, reported" in words(page)
    assert "is left out" not in words(page)


def test_of_two_runs_of_one_seed_one_is_left_out_and_told(tmp_path):
    runs = [make_run(tmp_path / name, config(seed=7), FINAL, lean=True) for name in ("a", "b")]
    text = words(write_report(runs, tmp_path / "report.html"))
    assert f"{runs[1]} is left out: of each seed one run counts, and {runs[0]} differs in nothing learned" in text


def test_curve_ends_with_the_first_seed_and_says_so(tmp_path):
    make_run(tmp_path / "m" / "seed_0", config(seed=0), FINAL, lean=True)
    make_run(tmp_path / "m" / "seed_1", config(seed=1), {1000: [-30.0, -30.0]}, finished=False, lean=True)
    page = write_report([tmp_path / "m"], tmp_path / "report.html")
    text = words(page)
    assert "RRD + SAC, seed 1: unfinished, 1,000 of 2,000 steps" in text
    assert "last evaluated at steps 1,000, 2,000" in text
    assert "RRD + SAC -25.50 -30.00 to -21.00 2 1,000" in text


def test_a_run_without_evaluations_gives_a_page_that_says_so(tmp_path):
    run = make_run(tmp_path / "new", config(), {}, finished=False)
    for name in ("run.json", "metrics.jsonl", "evaluations.jsonl", "timing.jsonl"):
        (run / name).unlink()
    text = words(write_report([run], run))
    assert "no evaluation yet" in text
    assert "unfinished, 0 of 2,000 steps" in text
    assert "No run.json was left" in text


def test_a_torn_last_line_is_passed_over_in_silence_and_a_damaged_one_is_told(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL, lean=True)
    path = run / "evaluations.jsonl"
    path.write_text(path.read_text() + '{"step": 3000, "ret')
    assert evaluation_returns(read(run)) == {1000: -21.0, 2000: -7.0}
    assert read(run).notes == ()
    path.write_text('{"step": 10\n' + path.read_text())
    assert "evaluations.jsonl: line 1 is damaged" in words(write_report([run], tmp_path / "report.html"))


def test_a_step_written_twice_counts_as_last_written(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL)
    rows = [{"step": s, "returns": [r], "seeds": [0], "lengths": [1], "audit": None} for s, r in ((1, 1.0), (1, 5.0))]
    write_lines(run / "evaluations.jsonl", rows)
    assert evaluation_returns(read(run)) == {1: 5.0}


def test_a_damaged_credit_file_is_passed_over_for_the_one_before(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL)
    (run / "credit" / "step_000002000.safetensors").write_bytes(b"\x00" * 40)
    credit, notes = read(run).credit()
    assert credit is not None
    assert credit.step == 1000
    assert len(notes) == 1
    assert "step_000002000.safetensors is damaged" in words(write_report([run], tmp_path / "report.html"))


def test_the_episode_shown_is_the_one_of_median_return():
    true = np.array([5, 5, 1, 1, 1, 3, 3], np.float32)
    credit = report_runs.Credit(1, true, true + 1, np.array([2, 3, 2]))  # returns 10, 3, 6
    number, shown, learned = credit.median_episode()
    assert number == 2
    assert shown.tolist() == [3, 3]
    assert learned.tolist() == [4, 4]


def test_an_approximate_resume_is_told(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL, lean=True)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"resume": "approximate"}))
    assert "resumed approximately" in words(write_report([run], tmp_path / "report.html"))


def test_settings_that_differ_name_the_method(tmp_path):
    runs = [make_run(tmp_path / alg, config(alg), FINAL, lean=True) for alg in ("rrd", "ircr")]
    text = words(write_report(runs, tmp_path / "report.html"))
    assert "reward.alg rrd RRD + SAC ircr IRCR + SAC" in text
    assert "gamma 0.99" in text
    assert "versions.torch 2.6.0" in text


def test_a_path_that_is_no_run_is_the_users_slip(tmp_path):
    make_run(tmp_path / "runs" / "one", config(), {})
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no run and holds none"):
        find(tmp_path / "empty")
    with pytest.raises(UserError, match="is no run and holds none"):
        find(tmp_path / "runs" / "one" / "config.json")
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path)
    (tmp_path / "runs" / "one" / "config.json").write_text('{"kind": "Other"}')
    with pytest.raises(UserError, match="not the configuration"):
        write_report([tmp_path / "runs" / "one"], tmp_path)


def test_a_directory_stands_for_the_runs_in_it(tmp_path):
    names = ["demo/episodic", "demo/rrd", "many/seed_2", "many/seed_10", "one"]
    for seed, name in enumerate(names):
        make_run(tmp_path / "runs" / name, config(seed=seed), FINAL, lean=True)
    assert find(tmp_path / "runs" / "one") == [tmp_path / "runs" / "one"]
    assert find(tmp_path / "runs" / "many") == [tmp_path / "runs" / "many" / s for s in ("seed_2", "seed_10")]
    assert sorted(find(tmp_path / "runs")) == sorted(tmp_path / "runs" / name for name in names)
    each = [run for path in sorted((tmp_path / "runs").iterdir()) for run in find(path)]  # report runs/*
    assert each == [tmp_path / "runs" / name for name in ["demo/rrd", "demo/episodic", *names[2:]]]


def test_paths_may_be_strings(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL, lean=True)
    page = tmp_path / "page.html"
    assert write_report([str(run)], str(page)) == page
    assert write_report(str(run), str(page)) == page
    assert "1 run, reported" in words(page)


@pytest.mark.parametrize("out", ["/proc/x.html", "signals.py", "signals.py/page.html", "full.html"])
def test_a_page_that_cannot_be_written_is_one_line(tmp_path, out):
    run = make_run(tmp_path / "r", config(), FINAL, lean=True)
    (tmp_path / "signals.py").write_text("mine")
    (tmp_path / "full.html").mkdir()
    with pytest.raises(UserError, match="cannot be written") as caught:
        write_report([run], tmp_path / out)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "signals.py").read_text() == "mine"


def test_returns_and_rewards_that_were_not_finite_are_left_out_and_told(tmp_path):
    run = make_run(tmp_path / "r", config(), FINAL)
    null = {"step": 3000, "seeds": [1, 2], "returns": [1.0, None], "lengths": [4, 4], "audit": {"pearson": None}}
    with (run / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps(null) + "\n")
    write_credit(run / "credit" / "step_000003000.safetensors", [1.0, np.nan])
    assert evaluation_returns(read(run)) == {1000: -21.0, 2000: -7.0}
    text = words(write_report([run], tmp_path / "report.html"))
    assert "RRD + SAC, seed 0: a return is no finite number in the evaluation of step 3,000, left out" in text
    assert "step_000003000.safetensors is damaged (a reward in it is no finite number)" in text
    write_lines(run / "evaluations.jsonl", [null])
    assert "RRD + SAC no evaluation yet" in words(write_report([run], tmp_path / "report.html"))


def test_names_cannot_smuggle_markup_into_the_page(tmp_path):
    run = make_run(tmp_path / "r", config(env="mine:<script>alert(1)</script>"), FINAL, lean=True)
    text = write_report([run], tmp_path / "report.html").read_text()
    assert "<script" not in text


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_loads_nothing_from_outside(three_seeds, tmp_path):
    text = write_report([three_seeds], tmp_path / "report.html").read_text()
    parser = _Links()
    parser.feed(text)
    assert parser.found
    assert all(link.startswith("data:") for link in parser.found)
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.long
def test_the_page_opens_in_a_browser_without_an_error(three_seeds, tmp_path):
    page = write_report([three_seeds], tmp_path / "out" / "report.html")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    assert chromium, "this test opens the report in a browser: install chromium (apt-get install chromium)"
    probe = page.with_name("probe.html")
    # the page's own policy forbids scripts, so that a page around it looks into it
    probe.write_text(
        "<iframe src='report.html' width=900 height=4000></iframe><script>onload = () => {"
        "const images = [...frames[0].document.images];"
        "document.title = `${images.length} images, ${images.filter(i => i.naturalWidth > 500).length} drawn, "
        "${frames[0].document.documentElement.scrollWidth <= 900 ? 'fits' : 'too wide'}`;"
        "console.log('probe has looked')}</script>"
    )
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=180, check=True
    )
    assert "<title>5 images, 5 drawn, fits</title>" in done.stdout
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert len(console) == 1, console
    assert "probe has looked" in console[0]
    picture = tmp_path / "page.png"
    subprocess.run(
        [chromium, *flags, "--window-size=900,3200", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, timeout=180, check=True,
    )  # fmt: skip
    assert picture.stat().st_size > 100_000
