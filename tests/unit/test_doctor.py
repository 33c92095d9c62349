"""The doctor's findings on episodes made to have one ailment each."""

from dataclasses import replace

import numpy as np
import pytest

from apportion.data import shortcuts
from apportion.data.doctor import diagnose, meaningless, response
from apportion.data.returns import episode_return
from apportion.data.summary import summarise
from demos_for_tests import demo, with_rewards


def found(demos, kind=None, method="rrd", artificial=False):
    """Topic -> finding, and the lessons."""
    value = (lambda d: episode_return(d, kind)) if kind else (lambda d: float("nan"))
    findings, lessons = diagnose([summarise(d, value(d)) for d in demos], "SRC", kind, method, artificial)
    return {f.topic: f for f in findings}, lessons


def mixed(count=40, **how):
    """Successes and failures in turn, of lengths that tell nothing."""
    lengths = np.random.default_rng(3).integers(10, 20, count)
    return [demo(i, int(lengths[i]), success=i % 2 == 0, frames=False, **how) for i in range(count)]


def test_only_successes_of_several_lengths_stop_a_decomposition_and_say_what_it_would_learn():
    topics, lessons = found([demo(i, 10 + 2 * i, frames=False) for i in range(6)])
    finding = topics["constant-return"]
    assert finding.level == "stop" and meaningless([finding])
    assert "All 6 returns are 1 (only successes, no failures)" in finding.what
    assert finding.evidence["shortest"] == 10 and finding.evidence["longest"] == 20
    assert finding.remedy[0] == "apportion data convert SRC NEW --to store --add-failures ROLLOUTS"
    assert finding.remedy[1] == "apportion fit --data SRC --method progress --rewind"  # fit refuses --prefixes there
    assert "r = 1/T, between 0.0500 (T = 20) and 0.1000 (T = 10)" in lessons["rrd"]
    assert "never finishes" in lessons["rrd"] and "P(success) = 1 everywhere" in lessons["success"]


def test_only_successes_of_one_length_leave_a_constant_and_nothing_else():
    _, lessons = found([demo(i, 10, frames=False) for i in range(4)])
    assert lessons["rrd"].startswith("r = 1/10 = 0.1 on every step, exactly")


@pytest.mark.parametrize(
    ("method", "artificial", "level"),
    [("rd", False, "stop"), ("success", False, "stop"), ("progress", False, "warning"), ("success", True, "warning")],
)
def test_what_stops_one_method_is_a_warning_for_another(method, artificial, level):
    topics, _ = found([demo(i, 10 + i, frames=False) for i in range(6)], method=method, artificial=artificial)
    assert topics["constant-return"].level == level


def test_only_failures_stop_every_method():
    demos = [demo(i, 10 + i, success=False, frames=False) for i in range(6)]
    for method in ("rrd", "progress", "success"):
        topics, lessons = found(demos, method=method)
        assert topics["only-failures"].level == "stop"
    assert lessons["progress"].startswith("nothing")


def test_neither_rewards_nor_outcomes_stop_with_the_flag_to_say():
    topics, _ = found([with_rewards(demo(i, frames=False), [0] * 12, success=None) for i in range(3)])
    assert topics["no-return"].level == "stop" and "--return column:NAME" in topics["no-return"].remedy[0]


def test_both_outcomes_without_shortcuts_are_fine():
    topics, _ = found(mixed())
    assert {t for t, f in topics.items() if f.level in ("stop", "warning")} == set()
    assert topics["balance"].evidence["failures"] == 20


def test_a_return_that_is_the_length_is_fitted_by_one_reward_for_every_step():
    topics, _ = found(mixed(), kind="length")
    assert topics["constant-reward"].level == "stop" and topics["constant-reward"].evidence["reward"] == -1.0


def test_failures_that_run_to_the_horizon_make_the_length_a_shortcut():
    demos = [demo(i, 10 + i % 5 if i % 2 else 30, success=i % 2 == 1, frames=False) for i in range(40)]
    topics, _ = found(demos)
    assert topics["length"].level == "warning" and topics["length"].evidence["AUROC"] == 1.0
    assert topics["length"].evidence["median of the worse"] == 30


def test_a_length_that_tells_only_within_its_task_is_found():
    demos = []
    for i in range(40):
        long, good = i % 2, i // 2 % 2
        length = (14 if good else 18) + 60 * long + i % 3
        demos.append(demo(i, length, success=bool(good), task=f"t{long}", frames=False))
    lengths, returns = np.array([d.length for d in demos]), np.array([float(d.success) for d in demos])
    assert shortcuts.from_length(lengths, ["one"] * 40, returns).value < 0.8
    assert shortcuts.from_length(lengths, [d.task for d in demos], returns).value == 1.0


def test_tasks_with_one_outcome_each_make_the_task_a_shortcut():
    demos = [replace(d, task=f"task {int(d.success)}") for d in mixed()]
    topics, _ = found([*demos, *(replace(d, task="both") for d in mixed(4))])
    assert topics["task"].level == "warning"
    assert topics["one-sided-tasks"].evidence["tasks"] == 2


def test_a_first_observation_that_gives_the_outcome_away_is_found():
    demos = mixed()
    topics, _ = found(demos)
    assert topics["first-frame"].level == "fine"
    for d in demos:
        d.proprio["joint_state"][0, 0] = 5.0 * bool(d.success)
    topics, _ = found(demos)
    assert topics["first-frame"].level == "warning" and topics["first-frame"].evidence["AUROC"] > 0.95


def test_a_first_observation_that_only_shows_the_task_is_no_leak():
    demos = [replace(d, task=f"task {int(d.success)}") for d in mixed()]
    for d in demos:
        d.proprio["joint_state"][0, 0] = 5.0 * bool(d.success)
    topics, _ = found(demos)
    assert topics["first-frame"].level == "fine"  # the finding about the task says it


def test_few_failures_are_named():
    topics, _ = found([demo(i, 10 + i % 7, success=i > 2, frames=False) for i in range(40)])
    assert topics["balance"].level == "warning" and "3 of 40 episodes are failures" in topics["balance"].what


def test_a_success_flag_that_stays_on_and_flickers_is_no_reward_to_sum():
    demos = mixed()
    demos[0] = with_rewards(demo(0, 12, frames=False), [0] * 6 + [1, 0, 1, 1, 1, 1])
    demos[1] = with_rewards(demo(1, 12, success=False, frames=False), [0] * 6 + [1, 1, 0, 0, 0, 0], success=False)
    topics, _ = found(demos)
    assert topics["summed-flag"].level == "note"
    evidence = topics["summed-flag"].evidence
    assert (evidence["sum from"], evidence["to"], evidence["flicker"]) == (2, 5, 2)
    assert evidence["in success once, not at the end"] == 1
    topics, _ = found(demos, kind="dense")
    assert topics["summed-flag"].level == "warning" and topics["summed-flag"].remedy == ("--return success",)


def test_steps_after_success_and_idle_ends_are_noted():
    demos = []
    for d in mixed():
        action = d.action.copy()
        action[-6:, :6], action[-6:, 6] = 0, 1
        reward = [0] * (d.length - 6) + [float(bool(d.success))] * 6
        demos.append(replace(with_rewards(d, reward, d.success), action=action))
    topics, _ = found(demos)
    assert topics["tail"].evidence["median"] == 5
    assert topics["no-ops"].evidence["longest at an end"] == 6 and "--drop-noops" in topics["no-ops"].remedy[0]


def test_copies_of_an_episode_are_counted():
    demos = mixed()
    topics, _ = found([*demos, demos[0], demos[4]])
    assert topics["copies"].evidence == {"copies": 2}


def test_observations_that_answer_too_early_or_late_are_told_from_those_in_time():
    demos = [demo(i, 30, frames=False) for i in range(4)]
    early = [replace(d, proprio={"state": d.proprio["state"][1:]}) for d in demos]  # of after the action
    late = [replace(d, action=d.action[1:], proprio={"state": d.proprio["state"][:-1]}) for d in demos]
    late = [replace(d, reward=d.reward[1:], extra={}) for d in late]
    expected = {"fine": (0, 1, 0), "early": (0, 0, 1), "late": (1, 0, 0)}
    for name, episodes in {"fine": demos, "early": early, "late": late}.items():
        answer = response([summarise(d) for d in episodes])
        assert answer == pytest.approx(expected[name], abs=1e-3)
    assert "--timing after" in found(early)[0]["timing"].remedy[0]
    assert "--timing before" in found(late)[0]["timing"].remedy[0]


def test_answers_are_the_same_twice():
    first, second = found(mixed())[0], found(mixed())[0]
    assert {t: f.evidence for t, f in first.items()} == {t: f.evidence for t, f in second.items()}


def test_a_rare_outcome_is_not_left_out_of_a_large_set(monkeypatch):
    monkeypatch.setattr(shortcuts, "MOST", 20)
    start = np.random.default_rng(0).normal(size=(200, 2))
    returns = np.zeros(200)
    returns[111] = 1.0
    assert 0 <= shortcuts.from_start(start, ["a"] * 200, returns).value <= 1


def test_too_few_episodes_are_no_proof_that_a_shortcut_tells_nothing():
    demos = [demo(i, 10 if i else 20, success=i > 0, frames=False) for i in range(3)]
    topics, _ = found(demos)
    assert topics["length"].level == "note" and "too few episodes" in topics["length"].what
