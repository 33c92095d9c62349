"""Runs side by side in processes: counted, reported, stopped."""

import subprocess

import pytest

from apportion.train import seeds
from apportion.train.seeds import Job, _last_line, at_once, exit_code, read_plan, run_all, write_plan
from apportion.types import UserError


def test_a_failing_process_is_told_and_the_others_go_on(tmp_path, capsys):
    jobs = [
        Job("seed 0", ("trian",), tmp_path / "seed_0"),
        Job("seed 1", ("presets",), tmp_path / "seed_1"),
        Job("seed 2", ("--version",), tmp_path / "seed_2"),
    ]
    assert run_all(jobs, 2, threads=1, steps=10) == [2, 0, 0]
    said = capsys.readouterr()
    assert "seed 0: failed with exit code 2" in said.err
    assert "unknown verb 'trian'; did you mean train?" in said.err
    assert "seed 1: done" in said.out and "seed 2: done" in said.out
    assert "rrd-sac" in (tmp_path / "seed_1.log").read_text()


def test_as_many_at_once_as_the_processor_holds_or_as_asked_for():
    assert at_once(3, threads=1) == 3
    assert at_once(0, threads=10_000) == 1
    assert at_once(0, threads=1) >= 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"step": 1}\n{"step": 2}\n', {"step": 2}),
        ('{"step": 1}\n{"ste', {"step": 1}),  # still being written
        ('{"step": 1', {}),
        ("", {}),
    ],
)
def test_the_last_whole_line_tells_the_progress(tmp_path, text, wanted):
    (tmp_path / "metrics.jsonl").write_text(text)
    assert _last_line(tmp_path / "metrics.jsonl") == wanted
    assert _last_line(tmp_path / "missing.jsonl") == {}


def test_the_exit_code_is_2_when_nothing_but_slips_went_wrong():
    assert [exit_code(codes) for codes in ([0, 0], [2, 0, 2], [2, 1], [1, 0], [-9, 2], [130])] == [0, 2, 1, 1, 1, 1]


def jobs_in(root, *numbers, steps="100"):
    return [Job(f"seed {n}", ("train", "--steps", steps), root / f"seed_{n}") for n in numbers]


def test_the_plan_of_all_seeds_is_left_before_the_first_one_starts(tmp_path):
    root = tmp_path / "new" / "many"
    assert read_plan(root) == {}
    write_plan(root, jobs_in(root, 0, 1, 2))
    write_plan(root, jobs_in(root, 0, 1, steps="200"))  # nothing was started: the second command counts alone
    assert read_plan(root) == {"seed_0": ("train", "--steps", "200"), "seed_1": ("train", "--steps", "200")}
    (root / "seed_0").mkdir()
    (root / "seed_0" / "config.json").write_text("{}")
    write_plan(root, jobs_in(root, 7))
    assert list(read_plan(root)) == ["seed_0", "seed_1", "seed_7"]


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"seed_0": []}', '{"seed_0": ["rm"]}', '{"../x": ["train"]}'])
def test_a_damaged_plan_is_one_line_that_says_how_to_go_on(tmp_path, text):
    (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(UserError, match=r"seeds\.json cannot be read .*remove it") as caught:
        read_plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match="/proc/nowhere cannot be written"):
        write_plan(tmp_path / "/proc/nowhere", [])
    with pytest.raises(UserError, match=r"seed_0\.log cannot be written"):
        run_all([Job("seed 0", ("presets",), tmp_path / "/proc/nowhere/seed_0")], 1, threads=1, steps=10)


def test_a_job_that_cannot_be_started_stops_those_that_run(tmp_path, monkeypatch):
    stopped, stop = [], seeds._stop
    monkeypatch.setattr(seeds, "_stop", lambda running: (stop(running), stopped.extend(running)))
    (tmp_path / "file").write_text("")
    first = Job("seed 0", ("--version",), tmp_path / "seed_0")
    with pytest.raises(UserError, match="cannot be written"):
        run_all([first, Job("seed 1", ("--version",), tmp_path / "file" / "seed_1")], 2, threads=1, steps=10)
    assert [one.job for one in stopped] == [first] and stopped[0].process.returncode is not None


@pytest.mark.parametrize(
    ("returns", "said"),
    [("[1.0, 2.0]", "seed 0: 40 of 100 steps, return 3.00, evaluation 1.50\n"), ("[1.0, null]", "seed 0: 40 of 100")],
)
def test_progress_is_told_with_the_last_evaluation_if_it_is_a_number(tmp_path, capsys, monkeypatch, returns, said):
    monkeypatch.setattr(seeds, "_SAY", 0.0)
    run = tmp_path / "seed_0"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 40, "return": 3.0}\n')
    (run / "evaluations.jsonl").write_text(f'{{"step": 40, "returns": {returns}}}\n')
    with subprocess.Popen(["true"]) as process:
        seeds._say_progress(seeds._Running(Job("seed 0", (), run), process), 100)
    told = capsys.readouterr().out
    assert told.startswith(said) and ("evaluation" in told) == ("null" not in returns)
