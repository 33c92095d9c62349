"""Do the methods learn what they should, on small worlds where the answer is known?"""

from dataclasses import replace

import numpy as np
import pytest

from apportion.config import FitConfig
from apportion.data.as_store import settled
from apportion.data.rlds import RldsSet
from apportion.data.schema import Demo, Source, episodes
from apportion.data.write_rlds import write_rlds
from apportion.stats import pearson
from apportion.train.fit_session import draw, learn, make_fit
from apportion.train.fit_validate import survival, validate
from apportion.train.ranks import Ranks
from demos_for_tests import info, store

pytestmark = pytest.mark.unchecked


def world(index: int, length: int, success: bool | None = None, kind: str = "dense") -> Demo:
    """States that jump at random. Reward: x if the lever is up, else -x/2. The gate: a place (y > .8) that decides."""
    rng = np.random.default_rng([7, index])
    state = rng.uniform(-1, 1, (length + 1, 3)).astype(np.float32)
    state[:, 2] = np.linspace(0, 1, length + 1) if kind == "line" else state[:, 2]
    if success is not None:
        state[:, 1] = np.where(np.arange(length + 1) == length, 0.9 if success else -0.9, state[:, 1] * 0.5)
    action = np.where(rng.random((length, 1)) < 0.5, -1.0, 1.0).astype(np.float32)
    reward = np.where(action[:, 0] > 0, state[:-1, 0], -state[:-1, 0] / 2).astype(np.float32)
    return Demo(
        images={},
        proprio={"state": state},
        action=action,
        reward=reward,
        terminated=bool(success),
        truncated=not success,
        success=success,
        language="",
        task="one",
        source=Source("world", index),
    )


def through_rlds(path, demos):
    """The same episodes, written as RLDS and read back; their last step pays nothing."""
    for demo in demos:
        demo.reward[-1] = 0
    write_rlds(demos, info(demos[0]), path)
    return list(episodes(RldsSet(path)))


def fitted(tmp_path, demos, steps, **settings):
    base = FitConfig(data="world", r_hidden=(32,), r_lr=3e-3, val_share=0.1, steps=steps, **settings)
    opened = store(tmp_path / "s", demos)
    session = make_fit(settled(base, opened.info), opened, Ranks(), lambda line: None, "cpu")
    for _ in range(steps):
        learn(session, *draw(session))
    return session


@pytest.mark.parametrize("method", ["rd", "rrd"])
def test_rewards_are_recovered_from_returns_alone(tmp_path, method):
    demos = through_rlds(tmp_path / "world", [world(i, 8 + i % 5) for i in range(400)])
    settings = {"method": method, "return_": "dense", "rrd_batch_size": 192, "rrd_sample_size": 6}
    session = fitted(tmp_path, demos, 800, **settings)
    reward = session.reward
    seen = slice(0, -1)  # RLDS keeps no observation after the last action
    within = [pearson(d.reward[seen], reward.rewards(replace(d, success=None))[seen]) for d in demos[:60]]
    assert np.mean(within) > 0.95
    assert validate(session)["val/loss"] < 0.1  # in units of the variance of R/T


def test_success_alone_teaches_rrd_the_constant_one_over_t(tmp_path):
    demos = [world(i, 10, success=True) for i in range(60)]
    session = fitted(tmp_path, demos, 400, method="rrd", rrd_batch_size=60, rrd_sample_size=5)
    reward = np.concatenate([session.reward.rewards(d) for d in demos])
    assert reward.mean() == pytest.approx(0.1, abs=0.005)
    assert reward.std() < 0.02  # and falling: 1/T is the only reward without any error
    assert survival(reward) is not None


def test_success_with_failures_separates_them(tmp_path):
    demos = [world(i, 10, success=i % 2 == 0) for i in range(120)]
    session = fitted(tmp_path, demos, 300, method="success", difference=False)
    assert validate(session)["val/auroc"] > 0.95
    phi = np.array([session.reward.score(d) for d in demos])
    assert phi[0::2].mean() > phi[1::2].mean() + 0.5


def test_progress_is_regressed_and_failures_get_none(tmp_path):
    demos = [world(i, 10, success=True, kind="line") for i in range(60)]
    session = fitted(tmp_path, demos, 300, method="progress", difference=False)
    phi = session.reward.potential(demos[0])
    assert phi is not None
    np.testing.assert_allclose(phi, np.linspace(0, 1, 11), atol=0.1)


def test_rewound_clips_teach_that_going_back_is_no_success(tmp_path):
    demos = [world(i, 10, success=True, kind="line") for i in range(60)]
    session = fitted(tmp_path, demos, 400, method="success", rewind=True)
    forth = demos[0]
    back = replace(forth, proprio={"state": forth.proprio["state"][::-1].copy()})
    there, here = session.reward.potential(forth), session.reward.potential(back)
    assert there is not None and here is not None
    assert there[5:].mean() > 0.6
    assert here[1:].mean() < 0.4
