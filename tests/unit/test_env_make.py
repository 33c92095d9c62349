"""Names of environments, their specs, and the one-line errors about both."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

from apportion.envs.make import _V5_DIFFERS, check_agent, make_one, make_vector, resolve, spec_of, step_limit
from apportion.types import Spec, UserError
from envs_for_tests import Countdown

OWN = "envs_for_tests:"


def error_of(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("old", ["v2", "v3", "v4"])
@pytest.mark.parametrize(
    "name", ["Ant", "HalfCheetah", "Walker2d", "Humanoid", "Reacher", "Swimmer", "Hopper", "HumanoidStandup"]
)
def test_old_mujoco_ids_become_v5_with_one_line(name, old):
    env_id, lines = resolve(f"{name}-{old}")
    assert env_id == f"{name}-v5"
    assert len(lines) == 1 and lines[0].startswith(f"{name}-{old} is now {name}-v5: ") and "\n" not in lines[0]
    assert ("simulator" in lines[0]) == (old != "v4")


def test_current_ids_stay_and_are_silent():
    assert resolve("HalfCheetah-v5") == ("HalfCheetah-v5", [])


def test_short_names_mean_the_newest_version():
    assert resolve("Ant") == ("Ant-v5", ["Ant means Ant-v5"])


@pytest.mark.parametrize("name", ["Ant", "Humanoid", "Reacher", "HumanoidStandup", "InvertedDoublePendulum"])
def test_observation_counts_in_the_printed_lines_are_true(name):
    assert _V5_DIFFERS[name].startswith(f"{make_one(f'{name}-v5', False).observation_space.shape[0]} observations")


@pytest.mark.parametrize("name", ["HalfCheetah", "Swimmer", "Hopper"])
def test_where_the_line_says_same_observations_they_are(name, recwarn):
    new = make_one(f"{name}-v5", False).observation_space.shape  # first: it also keeps MuJoCo from writing a log file
    assert "same observations" in _V5_DIFFERS[name]
    assert gym.make(f"{name}-v4").observation_space.shape == new


@pytest.mark.parametrize("typed", ["HalfCheeta-v5", "halfcheetah", "HalfCheetah-v7", "Half-Cheetah"])
def test_unknown_environments_get_near_matches_in_their_newest_version(typed):
    message = error_of(lambda: resolve(typed))
    assert repr(typed) in message and "HalfCheetah-v5" in message and "HalfCheetah-v4" not in message


def test_an_environment_like_no_other_is_said_to_be_so():
    assert "no registered name is near it" in error_of(lambda: resolve("Qqqqqqqqqqqq-v0"))


def test_module_and_class_name_a_users_own_environment():
    env = make_one(OWN + "Countdown", False)
    assert isinstance(env.unwrapped, Countdown)
    assert step_limit(env) is None


def test_a_function_that_makes_an_environment_will_do():
    env = make_one(OWN + "flattened", False)
    assert spec_of(env).obs_shape == (2,)
    assert step_limit(env) == 5


def count_steps(env: gym.Env) -> int:
    env.reset(seed=0)
    for t in range(1, 100):
        if env.step(env.action_space.low)[3]:
            return t
    return 0


def test_the_step_limit_in_a_users_own_spec_is_applied_once():
    env = make_one(OWN + "WalkOfSeven", False)
    layers, layer = [], env
    while isinstance(layer, gym.Wrapper):
        layers.append(type(layer))
        layer = layer.env
    assert layers.count(TimeLimit) == 1
    assert count_steps(env) == 7
    assert count_steps(make_one(OWN + "Walk", False)) == 0


def test_max_steps_truncates_sooner_but_never_later():
    assert count_steps(make_one(OWN + "WalkOfSeven", False, max_steps=3)) == 3
    assert count_steps(make_one(OWN + "WalkOfSeven", False, max_steps=30)) == 7


def test_module_and_id_imports_the_module_that_registers_it(tmp_path, monkeypatch):
    (tmp_path / "registers_one.py").write_text(
        "from gymnasium import register\nregister('MyOwn-v3', 'envs_for_tests:Countdown', max_episode_steps=4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("registers_one:MyOwn-v3") == ("MyOwn-v3", [])
    assert step_limit(make_one("registers_one:MyOwn-v3", True)) == 4
    assert "did you mean MyOwn-v3" in error_of(lambda: resolve("registers_one:MyOwn-v2"))


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "lies_here.py").write_text("from envs_for_tests import Countdown\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert resolve("lies_here:Countdown")[0] is Countdown


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("nosuchmodule:Env", "there is no module 'nosuchmodule'"),
        (OWN + "Countdwn", "did you mean Countdown"),
        (OWN + "not_an_env", "made a int, not a gymnasium.Env"),
        (OWN + "NeedsArgument", "without arguments"),
        (":Env", "module:Class"),
        ("envs_for_tests:", "module:Class"),
    ],
)
def test_slips_in_module_and_class_are_one_line(env, says):
    assert says in error_of(lambda: make_one(env, False))


def test_a_module_with_a_missing_dependency_names_the_dependency(tmp_path, monkeypatch):
    (tmp_path / "needs_much.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "needs 'a_package_that_is_not_there'" in error_of(lambda: resolve("needs_much:Env"))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def broken(:", "importing 'own_module' raised SyntaxError: invalid syntax (own_module.py, line 1)"),
        ("raise OSError('no licence')", "importing 'own_module' raised OSError: no licence"),
        ("from math import taw", "importing 'own_module' raised ImportError: cannot import name 'taw'"),
        ("from envs_for_tests import FailsToStart as Env", "cannot be made: RuntimeError: no such port"),
        ("import gymnasium\nclass Env(gymnasium.Env): pass", "cannot be made: AttributeError"),
        ("def Env(): return {}['a']", "cannot be made: KeyError: 'a'"),
    ],
)
def test_whatever_the_users_own_code_raises_is_one_line(code, says, tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_module", raising=False)
    assert says in error_of(lambda: make_one("own_module:Env", False))
    monkeypatch.delitem(sys.modules, "own_module", raising=False)


@pytest.mark.parametrize("backend", ["bad", "disabled"])
def test_a_renderer_that_mujoco_does_not_know_is_one_line_or_no_matter(backend, tmp_path):
    script = """
from apportion.envs.make import make_one
from apportion.types import UserError
try:
    make_one("Hopper-v5", False)
    print("made")
except UserError as error:
    print(error)
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MUJOCO_GL": backend}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=env)
    says = "MUJOCO_GL is bad: unset it, or try egl" if backend == "bad" else "made"
    assert says in done.stdout and done.stdout.count("\n") == 1, done.stderr


def test_a_missing_package_comes_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)  # as where it is not installed
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    message = error_of(lambda: make_one("LunarLander-v3", False))
    assert "LunarLander-v3 needs a package" in message and "pip install" in message and "box2d" in message


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vectors_do_not_reset_by_themselves(kind):
    envs = make_vector(OWN + "Countdown", 2, kind, episodic=True)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    assert envs.num_envs == 2
    envs.close()


def test_spec_of_a_mujoco_task_and_of_a_vector_of_it():
    spec = Spec((11,), "float32", "box", 3, (-1.0,) * 3, (1.0,) * 3)
    assert spec_of(make_one("Hopper-v5", True)) == spec
    assert spec_of(make_vector("Hopper-v5", 2, "sync", True)) == spec


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("Countdown", Spec((2,), "float32", "box", 2, (-2.0, 0.0), (2.0, 10.0))),
        ("Matrix", Spec((2,), "float32", "box", 4, (0.0,) * 4, (1.0, 2.0, 3.0, 4.0))),
        ("Pixels", Spec((4, 4, 1), "uint8", "box", 2, (-2.0, 0.0), (2.0, 10.0))),
        ("Levers", Spec((2,), "float32", "discrete", 3, act_start=5)),
    ],
)
def test_spec_of_own_environments(name, spec):
    assert spec_of(make_one(OWN + name, True)) == spec


@pytest.mark.parametrize(
    ("space", "dtype", "pixel_max"),
    [
        (spaces.Box(0, 1, (10, 10, 4), np.bool_), "uint8", 1),  # MinAtar's
        (spaces.Box(0, 15, (8, 8, 1), np.uint8), "uint8", 15),
        (spaces.Box(0, 255, (8, 8, 1), np.uint8), "uint8", 255),
        (spaces.Box(0, 1, (8, 8, 1), np.float32), "float32", 255),
    ],
)
def test_the_largest_value_of_a_pixel_is_that_of_the_space(space, dtype, pixel_max):
    class Image(Countdown):
        observation_space = space

    spec = spec_of(Image())
    assert (spec.obs_shape, spec.obs_dtype, spec.pixel_max) == (space.shape, dtype, pixel_max)
    assert spec.frames == 1 and spec_of(Image(), frames=3).frames == 3
    assert spec.is_image == (dtype == "uint8")


@pytest.mark.parametrize("shape", [(4, 84, 84), (3, 64, 48), (1, 10, 10)])
def test_channels_in_front_are_refused(shape):
    class Image(Countdown):
        observation_space = spaces.Box(0, 255, shape, np.uint8)

    with pytest.raises(UserError, match=r"channels first: images have them last here \(np.moveaxis\(obs, 0, -1\)\)"):
        spec_of(Image())
    spec = spec_of(Image(), shape[0], stacked=True)
    assert (spec.obs_shape, spec.frames) == (shape[1:], shape[0])
    with pytest.raises(UserError, match="are no stacks of 5 frames"):
        spec_of(Image(), 5, stacked=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [("DictObservation", "FlattenObservation"), ("Unbounded", "is unbounded"), ("TwoDials", "only Box and Discrete")],
)
def test_spaces_that_cannot_be_handled_say_what_to_do(name, says):
    message = error_of(lambda: spec_of(make_one(OWN + name, False)))
    assert says in message and "--env yourmodule:make_env" in message


def test_agents_refuse_the_wrong_kind_of_action():
    box, discrete = spec_of(make_one(OWN + "Countdown", True)), spec_of(make_one(OWN + "Levers", True))
    for agent in ("sac", "td3", "ddpg"):
        check_agent(box, agent)
        assert "use dqn" in error_of(lambda agent=agent: check_agent(discrete, agent))
    check_agent(discrete, "dqn")
    assert "use sac, td3 or ddpg" in error_of(lambda: check_agent(box, "dqn"))


def test_mujoco_leaves_no_log_file_and_no_line_about_old_models_but_real_faults_are_shown(tmp_path):
    script = """
from apportion.envs.make import make_vector, make_one
envs = make_vector("HalfCheetah-v5", 2, "async", True)
envs.reset(seed=0)
envs.step(envs.action_space.sample())
envs.close()
env = make_one("HalfCheetah-v5", False)
env.reset(seed=0)
print("QUIET SO FAR", flush=True)
env.unwrapped.data.qvel[:] = 1e20
env.step(env.action_space.sample())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    before, _, after = done.stdout.partition("QUIET SO FAR")
    assert done.returncode == 0
    assert before == ""
    assert "simulation is unstable" in after
    assert list(Path(tmp_path).iterdir()) == []


def test_a_users_own_mujoco_warning_handler_stays():
    import mujoco

    heard: list[str] = []
    mujoco.set_mju_user_warning(heard.append)
    try:
        make_one("HalfCheetah-v5", False)
        assert mujoco.get_mju_user_warning() is not None
    finally:
        mujoco.set_mju_user_warning(None)
