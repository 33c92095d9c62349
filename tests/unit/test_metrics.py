"""Means of metrics, and lines of JSON that survive a kill."""

import json
import resource

import pytest
import torch

from apportion.run.cadence import crossed
from apportion.run.metrics import Accumulator, JsonLines, read_lines
from apportion.types import UserError


def t(x):
    return torch.tensor(x)


def test_means_are_per_name_over_the_calls_that_had_it():
    acc = Accumulator()
    acc.add({"q_loss": t(1.0), "pi_loss": t(10.0)})
    acc.add({"q_loss": t(2.0)})  # the policy steps every second update
    acc.add({"q_loss": t(6.0), "pi_loss": t(20.0), "late": t(5.0)})
    assert acc.flush() == {"q_loss": 3.0, "pi_loss": 15.0, "late": 5.0}
    assert acc.flush() == {}
    acc.add({"q_loss": t(4.0)})
    assert acc.flush() == {"q_loss": 4.0}


def test_a_tensor_that_is_overwritten_later_was_already_counted():
    acc, out = Accumulator(), torch.tensor(1.0)
    acc.add({"x": out})
    out.fill_(100.0)
    acc.add({"x": out})
    out.fill_(0.0)
    assert acc.flush() == {"x": 50.5}


def test_other_types_and_gradients_do_no_harm():
    acc = Accumulator()
    for _ in range(2):
        acc.add({
            "bf16": torch.tensor(1.5, dtype=torch.bfloat16), "f64": torch.tensor(2.5, dtype=torch.float64),
            "int": torch.tensor(3), "grad": torch.tensor(2.0, requires_grad=True) * 2,
        })  # fmt: skip
    assert acc.flush() == {"bf16": 1.5, "f64": 2.5, "int": 3.0, "grad": 4.0}


def test_half_a_mean_survives_a_checkpoint():
    acc, other = Accumulator(), Accumulator()
    acc.add({"b": t(1.0)})
    acc.add({"b": t(3.0), "a": t(5.0)})
    other.load_state(acc.state())
    for x in (acc, other):
        x.add({"a": t(7.0), "b": t(5.0)})
    assert list(other.flush().items()) == [("b", 3.0), ("a", 6.0)] == list(acc.flush().items())


def write(path, *at, truncate=None):
    lines = JsonLines(path, truncate)
    for step in at:
        lines.write({"step": step, "x": step / 2})
    lines.close()


def test_each_line_is_on_its_way_before_write_returns(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl", None)
    lines.write({"step": 1, "x": 0.1})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 1, "x": 0.1}\n'
    lines.close()


def test_resume_drops_later_lines_and_a_torn_last_one(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 10, 20, 30)
    with path.open("a") as file:
        file.write('{"step": 40, "x"')  # killed in the middle of a line
    assert [x["step"] for x in read_lines(path)] == [10, 20, 30]
    write(path, 21, truncate=20)
    assert [x["step"] for x in read_lines(path)] == [10, 20, 21]
    assert all(json.loads(x) for x in path.read_text().splitlines())


def test_a_torn_line_goes_even_when_nothing_else_does(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, 10)
    path.write_text(path.read_text() + '{"step": 20}')  # whole, but its end of line is missing
    write(path, 20)
    assert path.read_text() == '{"step": 10, "x": 5.0}\n{"step": 20, "x": 10.0}\n'


def test_resumed_and_uninterrupted_files_are_equal_byte_for_byte(tmp_path):
    write(tmp_path / "a", 10, 20, 30, 40)
    write(tmp_path / "b", 10, 20, 30)
    write(tmp_path / "b", 30, 40, truncate=20)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_file_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []


def test_what_is_not_finite_becomes_null_so_that_any_reader_can_read_on(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = JsonLines(path)
    lines.write({"step": 1, "x": float("nan"), "audit": {"r": [float("inf"), 1.0]}})
    lines.close()
    assert path.read_text() == '{"step": 1, "x": null, "audit": {"r": [null, 1.0]}}\n'


def test_a_line_without_a_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a step"):
        JsonLines(tmp_path / "m.jsonl").write({"x": 1})


def test_a_full_disk_leaves_whole_lines_and_says_so_in_one(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = JsonLines(path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))  # the kernel refuses byte 101
    try:
        with pytest.raises(UserError, match=r"cannot write .*m\.jsonl: .*; the lines before it are kept; make room"):
            for step in range(100):
                lines.write({"step": step})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    lines.close()
    assert [x["step"] for x in read_lines(path)] == list(range(8))  # 12 bytes each
    assert path.stat().st_size == 96


@pytest.mark.parametrize(
    ("before", "now", "every", "due"),
    [(0, 1, 1, True), (0, 9, 10, False), (9, 10, 10, True), (10, 11, 10, False), (8, 35, 10, True), (0, 5, 0, False)],
)
def test_due_when_a_multiple_was_passed(before, now, every, due):
    assert crossed(before, now, every) is due
