"""`apportion check`: what it finds in environments with known faults."""

import pytest

from apportion.envs.check import Finding, check, render
from apportion.types import Episode, Spec

OWN = "envs_for_tests:"


def failed(findings: list[Finding]) -> list[str]:
    return [f.name for f in findings if f.ok is False]


def text_of(findings: list[Finding], name: str) -> str:
    return next(f.text for f in findings if f.name == name)


@pytest.mark.parametrize("env", ["Reacher-v5", "Hopper-v5", "HalfCheetah-v5", "CartPole-v1"])
def test_known_environments_pass(env):
    findings = check(env)
    assert failed(findings) == []
    assert {f.name for f in findings} >= {"spaces", "stepping", "finite", "seeding", "ending", "replay"}
    assert all("\n" not in f.text for f in findings)


@pytest.mark.parametrize("name", ["Countdown", "WalkOfSeven", "Levers", "Matrix", "Pixels", "flattened"])
def test_a_users_own_sound_environment_passes(name):
    assert failed(check(OWN + name)) == []


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("NaNObservation", ["finite"]),
        ("NaNReward", ["finite"]),
        ("RareNaN", ["finite"]),
        ("Crash", ["stepping"]),
        ("CrashAtReset", ["stepping"]),
        ("OldStep", ["stepping"]),
        ("FailsToStart", ["environment"]),
        ("WrongShape", ["observations"]),
        ("DictObservation", ["spaces"]),
        ("Unbounded", ["spaces"]),
        ("TwoDials", ["spaces"]),
        ("NeedsArgument", ["environment"]),
        ("Nothing", ["environment"]),
    ],
)
def test_each_fault_is_found_and_no_other(name, faults):
    assert failed(check(OWN + name)) == faults


@pytest.mark.parametrize(("name", "notes"), [("OwnNoise", ["seeding", "replay"]), ("Forgetful", ["replay"])])
def test_what_only_makes_resuming_approximate_is_a_note(name, notes):
    findings = check(OWN + name)
    assert failed(findings) == []
    assert [f.name for f in findings if f.ok is None] == notes
    assert all("resuming is approximate" in text_of(findings, note) for note in notes)


def test_numbers_and_endings_are_judged_over_many_episodes():
    said = text_of(check(OWN + "RareNaN"), "finite")
    assert said.startswith("in episode 41: observation entry 0 is nan after step 5")
    said = text_of(check(OWN + "CrashAtReset"), "stepping")
    assert said.startswith("in episode 2: reset raised RuntimeError: no more carts,")
    assert "286 episodes ended: truncated at step 7" in text_of(check(OWN + "WalkOfSeven"), "ending")
    assert "at steps 2 to 9" in text_of(check(OWN + "Countdown"), "ending")
    assert text_of(check(OWN + "WalkOfSeven"), "stepping") == "2002 random steps in 286 episodes"


def test_an_episode_that_never_ends_is_told_to_have_a_limit():
    findings = check(OWN + "Walk", steps=50)
    assert failed(findings) == ["ending"]
    assert "no episode ended in 50 steps" in text_of(findings, "ending")
    assert "max_episode_steps" in text_of(findings, "ending")


def test_a_known_limit_beyond_the_rollout_is_fine():
    findings = check("HalfCheetah-v5", steps=50)
    assert failed(findings) == []
    assert "the step limit is 1000" in text_of(findings, "ending")


def test_the_texts_say_what_and_where():
    assert "observation entry 1 is nan after step 3" in text_of(check(OWN + "NaNObservation"), "finite")
    assert "the reward of step 2 is nan" in text_of(check(OWN + "NaNReward"), "finite")
    assert "step 3 raised ZeroDivisionError: the cart fell off" in text_of(check(OWN + "Crash"), "stepping")
    assert "truncated at step 7" in text_of(check(OWN + "WalkOfSeven"), "ending")
    assert "is now Reacher-v5" in text_of(check("Reacher-v2"), "environment")


def test_an_observation_out_of_bounds_is_a_note_only():
    finding = next(f for f in check(OWN + "Walk", steps=150) if f.name == "observations")
    assert finding.ok is None and "step 101" in finding.text


def test_the_probe_gets_a_whole_episode_and_its_fault_is_a_finding():
    seen: list[tuple[Spec, Episode]] = []
    assert failed(check(OWN + "Countdown", probe=lambda spec, episode: seen.append((spec, episode)))) == []
    ((spec, episode),) = seen
    assert spec.act_dim == 2 and episode.terminated
    assert episode.obs.shape == (episode.length + 1, 2) and episode.reward.tolist()[:2] == [1.0, 2.0]

    def broken(spec: Spec, episode: Episode) -> None:
        raise ArithmeticError("loss is nan")

    findings = check(OWN + "Countdown", probe=broken)
    assert failed(findings) == ["update"] and "ArithmeticError: loss is nan" in text_of(findings, "update")


def test_render_is_one_line_a_finding_and_a_verdict():
    findings = [Finding("spaces", True, "fine"), Finding("ending", False, "never"), Finding("x", None, "hm")]
    assert render(findings).splitlines() == [
        "ok    spaces  fine",
        "FAIL  ending  never",
        "note  x       hm",
        "it will not work: 1 of 3 checks failed",
    ]
    assert render(findings[:1]).endswith("it will work")
