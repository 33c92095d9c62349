"""The reward model of demonstrations: what it sees, what it pays, and how it travels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from apportion.config import FitConfig
from apportion.data.batches import Inputs
from apportion.data.conditions import Conditions, conditions
from apportion.rewards.demo_model import DemoReward
from apportion.types import UserError
from demos_for_tests import demo, store
from rewards_for_tests import reward_model


def pixel_model(one, **settings) -> DemoReward:
    config = FitConfig(
        data="x", features="pixels", cameras=("image", "wrist_image"), image_size=84, r_hidden=(8,), **settings
    )
    inputs = Inputs((("state", 8),), config.cameras, 84, "", 0, 7)
    return DemoReward(config, inputs, Conditions("none", ("",), np.zeros((1, 0), np.float32)), torch.Generator()).eval()


def test_a_potential_reward_is_a_difference_and_a_bonus_for_a_marked_success():
    one = demo(0, 6)
    model = reward_model(one, method="success", gamma=0.9, success_bonus=2.0)
    phi = model.potential(one)
    assert phi is not None and phi.shape == (7,)
    assert ((phi > 0) & (phi < 1)).all()
    by_hand = 0.9 * phi[1:] - phi[:-1]
    by_hand[-1] += 2.0
    np.testing.assert_allclose(model.rewards(one), by_hand, rtol=1e-5)
    np.testing.assert_allclose(model.rewards(replace(one, success=False))[-1], by_hand[-1] - 2.0, rtol=1e-5)
    assert model.score(one) == pytest.approx(float(phi[-1]))
    assert model.score(replace(one, success=False)) == model.score(one)


def test_the_last_step_stands_in_for_an_observation_that_was_not_kept():
    one = demo(0, 6, after=False)
    model = reward_model(one, method="progress", gamma=0.9)
    phi = model.potential(one)
    assert phi is not None and phi.shape == (6,)
    reward = model.rewards(replace(one, success=None))
    assert reward.shape == (6,)
    np.testing.assert_allclose(reward[-1], 0.9 * phi[-1] - phi[-1], rtol=1e-5)
    raw = reward_model(one, method="rrd")
    assert raw.rewards(one).shape == (6,)
    assert raw.score(one) == pytest.approx(float(raw.rewards(one)[:-1].sum()), rel=1e-5)


def test_raw_progress_pays_the_potential_that_was_reached():
    one = demo(0, 6)
    model = reward_model(one, method="progress", form="raw")
    phi = model.potential(one)
    assert phi is not None
    np.testing.assert_array_equal(model.rewards(one), phi[1:])


def test_raw_decomposition_has_no_potential_and_its_potential_form_telescopes():
    one = demo(0, 6)
    assert reward_model(one, method="rd").potential(one) is None
    model = reward_model(one, method="rd", form="potential", gamma=1.0)
    phi = model.potential(one)
    assert phi is not None
    assert model.score(one) == pytest.approx(float(phi[-1] - phi[0]), abs=1e-5)


@pytest.mark.parametrize("method", ["rrd", "success"])
def test_a_model_comes_back_from_its_folder_as_it_was(tmp_path, method):
    one = demo(0, 6)
    model = reward_model(one, tasks=("lift the cup", "other"), method=method)
    model.scale.fill_(3.0)
    model.save(tmp_path / "run" / "reward")
    for place in (tmp_path / "run", tmp_path / "run" / "reward"):
        back = DemoReward.load(place)
        assert back.config == model.config
        np.testing.assert_array_equal(back.rewards(one), model.rewards(one))
    with pytest.raises(UserError, match="not fitted on task 'fold'"):
        back.rewards(replace(one, task="fold"))


def test_pixels_of_two_cameras_are_brought_to_size_and_travel_too(tmp_path):
    one = demo(0, 4)
    model = pixel_model(one)
    model.net.norm.observe(torch.from_numpy(one.proprio["state"]))
    reward = model.rewards(one)  # frames of 16 pixels
    assert reward.shape == (4,)
    changed = replace(one, images={**one.images, "wrist_image": 255 - one.images["wrist_image"]})
    assert not np.array_equal(model.rewards(changed), reward)
    model.save(tmp_path)
    np.testing.assert_array_equal(DemoReward.load(tmp_path).rewards(one), reward)
    with pytest.raises(UserError, match="needs the frames of camera wrist_image"):
        model.rewards(replace(one, images={"image": one.images["image"]}))


def test_slips_say_what_is_missing(tmp_path):
    one = demo(0, 4)
    model = reward_model(one, proprio=("state", "joint_state"))
    with pytest.raises(UserError, match="needs joint_state, and the episode has only state"):
        model.rewards(replace(one, proprio={"state": one.proprio["state"]}))
    with pytest.raises(UserError, match="actions of 7 entries, not 3"):
        model.rewards(replace(one, action=one.action[:, :3]))
    with pytest.raises(UserError, match="holds no reward model"):
        DemoReward.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(json.dumps({"spec": {}}))
    with pytest.raises(UserError, match="learned online"):
        DemoReward.load(tmp_path)


def test_conditions_by_task_by_words_and_by_given_vectors(tmp_path):
    texts = ["open the drawer", "close the drawer", "lift the cup"]
    opened = store(tmp_path / "s", [demo(i, 3, task=texts[i], frames=False) for i in range(3)])
    one = conditions("auto", opened, [0, 1, 2], [], "episode", "")
    assert (one.kind, one.names) == ("task", tuple(sorted(texts)))
    np.testing.assert_array_equal(one.vector("lift the cup", ""), [0, 1, 0])
    assert conditions("auto", opened, [0], [1], "episode", "").kind == "none"
    bag = conditions("auto", opened, [0, 1], [2], "task", "")
    assert (bag.kind, bag.words) == ("words", ("close", "drawer", "open", "the"))
    np.testing.assert_allclose(bag.vector("", "Open the drawer!"), [0, 1 / 3, 1 / 3, 1 / 3])
    assert bag.names == ("close the drawer", "open the drawer", "lift the cup")  # the held-out one last
    with pytest.raises(UserError, match="no word of the instruction"):
        bag.vector("", "fold socks")
    save_file({text: np.full(2, i, np.float32) for i, text in enumerate(texts)}, tmp_path / "v.safetensors")
    given = conditions("vectors", opened, [2], [0], "episode", str(tmp_path / "v.safetensors"))
    np.testing.assert_array_equal(given.vector("", "close the drawer"), [1, 1])
    assert given.names[0] == "lift the cup"
    save_file({texts[0]: np.zeros(2, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="no vector for"):
        conditions("vectors", opened, [0, 2], [], "episode", str(tmp_path / "w.safetensors"))
