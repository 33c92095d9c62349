"""The live table and the plain lines, with a clock that the test sets."""

import io

import pytest
from rich.console import Console

from apportion.run.progress import Progress, number


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plain(total=10_000, **more):
    out, clock = io.StringIO(), Clock()
    return (
        Progress(total, "rrd sac on Reacher-v5", console=Console(file=out, width=80), clock=clock, **more),
        out,
        clock,
    )


def test_plain_lines_come_every_few_seconds_and_at_the_end():
    progress, out, clock = plain()
    with progress:
        for step in range(1000, 10_001, 1000):
            clock.now += 1.0
            progress.update(step, {"return": -step / 1000, "episodes": step // 50})
    lines = out.getvalue().splitlines()
    assert lines[0] == "rrd sac on Reacher-v5"
    assert [line.split(" of ")[0] for line in lines[1:]] == ["steps 1,000", "steps 6,000", "steps 10,000"]
    assert lines[2] == "steps 6,000 of 10,000 (60%)  steps/s 1,000  time left 0:04  episodes 120  return -6"
    assert "\x1b" not in out.getvalue()


def test_speed_and_time_left_are_shown_from_when_they_are_known():
    progress, out, clock = plain(every=0.0)
    with progress:
        progress.update(100, {"episodes": 2})
        clock.now += 1.0
        progress.update(200, {"episodes": 4})
    assert out.getvalue().splitlines()[1:] == [
        "steps 100 of 10,000 (1%)  episodes 2",
        "steps 200 of 10,000 (2%)  steps/s 200  time left 0:49  episodes 4",
    ]


def test_updates_without_values_print_nothing():
    progress, out, _ = plain()
    with progress:
        progress.update(5000)
    assert out.getvalue() == "rrd sac on Reacher-v5\n"


def test_a_resumed_run_measures_its_speed_from_where_it_goes_on():
    progress, _, clock = plain(first_step=8000)
    with progress:
        clock.now += 10
        progress.update(8100, {"return": 1.0})
        assert progress.steps_per_second == 10.0


def test_the_speed_is_that_of_the_last_half_minute():
    progress, _, clock = plain(total=10**6)
    with progress:
        step = 0
        for second in range(100):
            clock.now += 1
            step += 10 if second < 50 else 200
            progress.update(step)
        assert progress.steps_per_second == 200.0


def test_messages_and_long_lines_are_not_broken_or_taken_for_markup():
    progress, out, _ = plain()
    text = "passing over a damaged checkpoint: [red]x[/red] " + "y" * 100
    with progress:
        progress.message(text)
    assert out.getvalue().splitlines()[1] == text


def test_the_speed_of_the_warm_up_promises_nothing():
    progress, out, clock = plain(warmup=5_000)
    with progress:
        for step, seconds in ((4_000, 4.0), (5_000, 1.0), (5_100, 5.0)):  # 1,000 steps a second, then 10
            clock.now += seconds
            progress.update(step, {"return": 0.0})
            clock.now += 5
    lines = out.getvalue().splitlines()
    assert lines[1] == "steps 4,000 of 10,000 (40%)  steps/s 1,000  learning from step 5,000  return 0"
    assert "time left" not in lines[2]
    assert lines[3] == "steps 5,100 of 10,000 (51%)  steps/s 10  time left 8:10  return 0"


def test_the_live_table_shows_everything_and_says_what_the_learner_does_not_see():
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    with Progress(
        10_000, "rrd sac", of_return="true, hidden from the learner", console=console, clock=clock
    ) as progress:
        clock.now += 2
        progress.update(2_500, {"agent/q_loss": 0.0123, "reward/R_loss": 1.5, "return": -8.25, "episodes": 50})
        progress.update(2_500, {"evaluation/return": -7.0})
        progress.message("note: saved")
    last = out.getvalue().rsplit("rrd sac", 1)[1]
    rows = [" ".join(line.strip(" │\r").split()) for line in last.splitlines() if "│" in line]
    assert rows == [
        "steps │ 2,500 of 10,000 (25%)",
        "steps/s │ 1,250",
        "time left │ 0:06",
        "episodes │ 50",
        "return (true, hidden from the learner) │ -8.25",
        "evaluation return │ -7",
        "agent/q_loss │ 0.0123",
        "R_loss │ 1.5",
    ]
    assert "note: saved" in out.getvalue()


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (12345.6, "12,346"),
        (12.345, "12.35"),
        (0.012345, "0.01235"),
        (7, "7"),
        (64.0, "64"),
        (float("nan"), "nan"),
        (-8.0, "-8"),
        ("full", "full"),
    ],
)
def test_numbers_are_short(x, text):
    assert number(x) == text
