"""Runs side by side in processes: counted, reported, stopped."""

import pytest

from apportion.train.seeds import Job, _last_line, at_once, run_all


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
