"""The example that records failures, on a stand-in for the simulator with its interface."""

import importlib.util
from pathlib import Path

import numpy as np

from apportion.data.schema import Source, checked
from apportion.data.store import DemoStore, StoreWriter
from demos_for_tests import info

PATH = Path(__file__).parents[2] / "examples" / "record_libero_failures.py"
spec = importlib.util.spec_from_file_location("record", PATH)
assert spec and spec.loader
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)


class StandIn:
    """Success is x above 0.5; observations have robosuite's names."""

    def reset(self):
        self.x = None

    def set_init_state(self, state):
        self.x = float(state[0])
        return self.obs()

    def step(self, action):
        assert np.abs(action[:6]).max() <= 1
        self.x += 0.1 * action[0]
        return self.obs(), float(self.check_success()), self.check_success(), {}

    def check_success(self):
        return self.x > 0.5

    def obs(self):
        frame = np.full((8, 8, 3), int(100 * abs(self.x)) % 256, np.uint8)
        return {
            "agentview_image": frame, "robot0_eye_in_hand_image": frame,
            "robot0_eef_pos": np.array([self.x, 0, 0]), "robot0_eef_quat": np.array([1.0, 0, 0, 0]),
            "robot0_gripper_qpos": np.zeros(2), "robot0_joint_pos": np.zeros(7),
        }  # fmt: skip


def test_a_rollout_is_an_episode_that_a_store_takes(tmp_path):
    actions = np.zeros((10, 7))
    actions[:, 0], actions[:, 6] = 0.9, -1
    about = {"task": "reach", "language": "reach", "source": Source("reach_demo.hdf5", 0, "demo_0")}
    good = record.rollout(StandIn(), np.zeros(3), actions, np.zeros((10, 7)), about)
    push = np.zeros((10, 7))
    push[:, 0] = -0.9
    bad = record.rollout(StandIn(), np.zeros(3), actions, push, about)
    assert good.success and not bad.success and good.reward.tolist() == [0] * 5 + [1] * 5
    assert checked(good).observations == 11 and np.allclose(good.proprio["state"][0, 3:6], [np.pi, 0, 0])
    with StoreWriter(tmp_path / "out", info(good)) as out:
        out.add(good)
        out.add(bad)
    assert len(DemoStore(tmp_path / "out")) == 2


def test_noise_is_held_and_spares_the_gripper():
    noise = record.held_noise(np.random.default_rng(0), 25, 0.5)
    assert noise.shape == (25, 7) and not noise[:, 6].any()
    assert (noise[:10] == noise[0]).all() and (noise[10] != noise[9])[:6].all()
