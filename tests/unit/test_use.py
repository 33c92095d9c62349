"""A fitted model in use: held-out episodes, the audit's command line, which episodes a report shows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from apportion.cli import main
from apportion.report.demo_story import choose
from apportion.train.use import audit_run, judge, open_use
from apportion.types import UserError
from demos_for_tests import demo, store
from rewards_for_tests import fitted_run, reward_model

TRAIN, VAL = [0, 1, 2, 5, 6, 7], [3, 4, 8, 9]


def made_up():
    return [replace(demo(i, 8 + i % 3, success=i % 2 == 0, frames=False), task=f"task {i % 2}") for i in range(10)]


@pytest.fixture
def arm(tmp_path):
    store(tmp_path / "arm", made_up()).close()
    return tmp_path / "arm"


@pytest.fixture
def run(arm, tmp_path):
    return fitted_run(tmp_path / "run", reward_model(demo(0), data=str(arm)), TRAIN, VAL)


def unheard(done, of):
    pass


def test_held_out_episodes_are_the_default_on_the_fits_own_data(run, arm):
    use = open_use(run, None)
    assert use.episodes(None) == VAL
    assert use.episodes("all") == list(range(10))
    assert open_use(run, arm.parent / "." / "arm").episodes("val") == VAL


def others(count):
    return [
        replace(demo(100 + i, 8 + i % 3, success=i % 2 == 0, frames=False), task=f"task {i % 2}") for i in range(count)
    ]


def test_on_other_data_nothing_is_held_out(run, tmp_path):
    store(tmp_path / "other", others(4)).close()
    use = open_use(run, tmp_path / "other")
    assert use.episodes(None) == [0, 1, 2, 3]
    assert use.changed == ""
    with pytest.raises(UserError, match=r"was fitted to .*arm, so that none"):
        use.episodes("val")


def replaced(arm, demos):
    shutil.rmtree(arm)
    store(arm, demos).close()


def test_episodes_that_were_added_or_moved_do_not_pass_for_others(run, arm):
    old = made_up()
    replaced(arm, [*others(2), *reversed(old)])
    use = open_use(run, None)
    assert use.train == [11 - i for i in reversed(TRAIN)]
    assert use.episodes(None) == [0, 1, *(11 - i for i in reversed(VAL))]
    found, _ = audit_run(use, None, [], unheard)
    assert (found["episodes"], found["held_out"], found["controls_fitted_to"]) == (6, 6, 6)
    line = "of its 12 episodes 6 were learned from, 4 held out, and 2 are new"
    assert [w for w in found["warnings"] if line in w] == found["warnings"][:1]


def test_another_set_of_the_same_size_in_the_same_place_is_all_new(run, arm):
    replaced(arm, others(10))
    use = open_use(run, None)
    assert use.train is None
    assert use.episodes(None) == list(range(10))
    found, _ = audit_run(use, None, [], unheard)
    assert "0 were learned from, 0 held out, and 10 are new" in found["warnings"][1]
    assert "holds none of the episodes that the model learned from" in found["warnings"][0]


def test_a_copy_of_the_fits_data_elsewhere_is_known_for_what_it_is(run, arm, tmp_path):
    shutil.copytree(arm, tmp_path / "copy")
    use = open_use(run, tmp_path / "copy")
    assert (use.train, use.episodes(None), use.changed) == (TRAIN, VAL, "")
    store(tmp_path / "some", [*others(1), made_up()[0]]).close()  # one of many that were learned from
    found, _ = audit_run(open_use(run, tmp_path / "some"), None, [], unheard)
    assert (found["episodes"], found["controls_fitted_to"]) == (1, 6)  # the controls still see all of the fit's data
    assert "of its 2 episodes 1 were learned from" in found["warnings"][0]


def test_two_episodes_with_the_same_actions_are_told_by_their_numbers_in_the_fits_own_data(tmp_path):
    twins = [demo(0, 6, frames=False), *made_up()[:3], demo(0, 6, frames=False)]
    store(tmp_path / "arm", twins).close()
    run = fitted_run(tmp_path / "run", reward_model(demo(0), data=str(tmp_path / "arm")), [0, 1, 2], [3, 4])
    assert open_use(run, None).episodes(None) == [3, 4]


def test_a_model_without_its_run_has_seen_nobody_knows_what(run, arm):
    (run / "split.json").unlink()
    use = open_use(run, None)
    assert (use.train, use.held_out, use.changed) == (None, None, "")


def test_a_split_that_is_not_whole_is_one_line(run):
    (run / "split.json").write_text('{"train": [0], "val": [1]}')
    with pytest.raises(UserError, match=r"split\.json cannot be read \(KeyError\('ids'\)\)"):
        open_use(run, None).episodes(None)


def test_a_fit_that_held_nothing_out_says_so(arm, tmp_path):
    run = fitted_run(tmp_path / "run", reward_model(demo(0), data=str(arm)), list(range(10)), [])
    with pytest.raises(UserError, match="held none out"):
        open_use(run, None).episodes("val")


def test_data_that_is_gone_or_shorter_is_one_line(run, arm, tmp_path):
    arm.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="not there any more: say where with --data"):
        open_use(run, None)
    store(arm, made_up()[:4]).close()
    use = open_use(run, None)
    assert (use.train, use.episodes(None)) == ([0, 1, 2], [3])
    assert use.changed == "The last 6 episodes of the fit are not in this data."


def test_an_episode_is_judged_by_the_models_own_words(run):
    use = open_use(run, None)
    episode = use.read(4)
    found = judge(use, episode, ["phase", "reward"])
    np.testing.assert_array_equal(found.reward, use.model.rewards(episode))
    assert found.score == pytest.approx(use.model.score(episode))
    assert (found.target, found.success, found.task, found.length) == (1.0, True, "task 0", 9)
    assert list(found.truth) == ["phase", "reward"]
    np.testing.assert_array_equal(found.truth["reward"], episode.reward)


def test_controls_are_fitted_to_the_training_episodes(run):
    found, judged = audit_run(open_use(run, None), None, [], unheard)
    assert (found["episodes"], found["held_out"], found["controls_fitted_to"]) == (4, 4, 6)
    # three of the six training episodes succeed, all of task 0; so do two of the four judged
    assert found["ranking"]["controls"]["task"]["value"] == 1.0
    assert found["return"]["controls"]["task"]["value"] == 1.0
    assert [e.task for e in judged] == ["task 1", "task 0", "task 0", "task 1"]


def test_figures_on_episodes_learned_from_carry_a_warning(run):
    found, _ = audit_run(open_use(run, None), "all", [], unheard)
    assert found["held_out"] == 4
    assert "6 of these 10 episodes were learned from" in found["warnings"][0]


def test_where_the_fits_data_is_gone_the_controls_say_whose_they_are(run, arm, tmp_path):
    replaced(arm, others(10))
    arm.rename(tmp_path / "moved")
    found, _ = audit_run(open_use(run, tmp_path / "moved"), None, [], unheard)
    assert found["controls_fitted_to"] == 10
    assert "fitted to the audited episodes themselves" in found["warnings"][0]


def test_the_audit_prints_a_table_or_json(run, capsys):
    assert main(["audit", str(run), "--truth", "phase"]) == 0
    text = capsys.readouterr().out
    assert "4 episodes" in text
    for words in ("success/failure AUROC", "VOC on successes", "VOC on failures", "Spearman of summed r with phase"):
        assert words in text
    lines = [line for line in text.splitlines() if line.startswith("VOC")]
    assert all("1.00" in line for line in lines)  # the constant's, beside the model's
    assert main(["audit", str(run), "--episodes", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--truth", "nothing"], "--truth nothing: the data has no such column; it has reward, phase"),
        (["--epsodes", "all"], "did you mean --episodes"),
        (["--device", "cuda:9"], "--device cuda:9 cannot be used"),
    ],
)
def test_slips_are_one_line(run, capsys, words, said):
    assert main(["audit", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_run_of_train_is_no_fitted_model(tmp_path, capsys):
    assert main(["audit", str(tmp_path)]) == 2
    assert "holds no reward model" in capsys.readouterr().err


def test_episodes_shown_are_the_best_the_worst_and_those_between_of_each_outcome():
    scores = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2]
    success = [True, True, True, True, False, False]
    assert choose(scores, success, 4) == [0, 1, 4, 5]
    assert choose(scores, success, 5) == [0, 1, 2, 4, 5]  # of 0.1 0.3 0.5 0.9: the ends, and one of the middle
    assert choose(scores, success, 99) == [0, 1, 2, 3, 4, 5]
    assert choose([0.5, 0.4], [None, None], 1) == [1]


def test_the_bonus_of_a_success_is_no_merit_of_the_model(arm, tmp_path):
    model = reward_model(made_up()[0], method="progress", data=str(arm))
    use = open_use(fitted_run(tmp_path / "shaped", model, [0], [4]), None)
    episode = use.read(4)
    assert episode.success
    found = judge(use, episode, ["reward"]).reward
    np.testing.assert_array_equal(found[:-1], model.rewards(episode)[:-1])
    assert model.rewards(episode)[-1] - found[-1] == pytest.approx(model.config.success_bonus)
