"""From the name of an environment to environments ready for the collector, and what an agent must know of them."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, cast

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.registration import find_highest_version, load_env_creator, registry
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from apportion.config import AtariConfig
from apportion.envs.atari import GAMES, game_of, make_atari, rom_of
from apportion.envs.episodic import EpisodicReward, Replayable
from apportion.envs.faults import said
from apportion.types import Spec, UserError

Factory = Callable[..., gym.Env]

# What version 5 of each MuJoCo task changed, after the version histories in Gymnasium's sources.
_V5_DIFFERS = {
    "Ant": "105 observations (v2-3: 111, v4: 27), contact cost in the reward (v4: no), no survival reward once fallen",
    "HalfCheetah": "same observations and reward",
    "Walker2d": "both feet now have friction 1.9 (before: right foot 0.9), no survival reward once fallen",
    "Humanoid": "348 observations (before: 376), contact cost in the reward (v4: no), no survival reward once fallen",
    "Reacher": "10 observations (before: 11), distance measured after the step instead of before",
    "Swimmer": "same observations and reward",
    "Hopper": "same observations, no survival reward once fallen",
    "HumanoidStandup": "348 observations (before: 376), same reward",
    "Pusher": "denser object, distances measured after the step instead of before",
    "InvertedPendulum": "same observations, no survival reward once fallen",
    "InvertedDoublePendulum": "9 observations (before: 11), no survival reward once fallen",
}
_POWER = "power:"
_OLD_MUJOCO = re.compile(r"(\w+)-v([234])")
_ATARI = AtariConfig()
_WRAP = "in a wrapper (on the command line: in a function that returns the wrapped one, --env yourmodule:make_env)"


def resolve(env: str) -> tuple[str | Factory, list[str]]:
    """The registered id, or the class or function, that `env` means; and lines to print about what was changed.

    `env` is a Gymnasium id, an id without its version, an older id of a MuJoCo task, `module:Id-v0` (imports `module`,
    which registers the id), `module:Class` (a class or function that makes an environment without arguments), an Atari
    game (see `game_of`), or `power:WORLD` or `power:RUN`, a world of humans and robots as its robots see it.
    Raises UserError, with near matches, if there is no such environment.
    """
    if env.startswith(_POWER) and env != _POWER:
        from apportion.power.learn.gym_view import make_env

        return functools.partial(make_env, env.removeprefix(_POWER)), []
    if ":" in env:
        return _from_module(env), []
    game = game_of(env)
    if game is not None:
        if game not in GAMES:
            rom_of(game)
        return functools.partial(make_atari, game, _ATARI, clip=False), [_atari_line(env, game)]
    old = _OLD_MUJOCO.fullmatch(env)
    if old and old[1] in _V5_DIFFERS and f"{old[1]}-v5" in registry:
        simulator = ", newer simulator" if int(old[2]) < 4 else ""
        return f"{old[1]}-v5", [f"{env} is now {old[1]}-v5: {_V5_DIFFERS[old[1]]}{simulator}"]
    if env in registry:
        return env, []
    namespace, _, name = env.rpartition("/")
    newest = find_highest_version(namespace or None, name)
    if newest is not None:
        return f"{env}-v{newest}", [f"{env} means {env}-v{newest}"]
    raise UserError(f"unknown environment {env!r}: {_near(env)} Your own is named as module:Class")


def _atari_line(env: str, game: str) -> str:
    meant = f"the Atari game {game}" if env == game else game
    return f"{env} means {meant}: grey frames of 84 x 84, 4 emulated frames a step, sticky actions only if asked for"


def make_one(
    env: str,
    episodic: bool,
    index: int = 0,
    render_mode: str | None = None,
    max_steps: int = 0,
    atari: AtariConfig = _ATARI,
    clip: bool = False,
) -> Replayable:
    """One environment, its reward withheld until the end if `episodic`, cut (truncated) after `max_steps` unless 0.

    `index` is its place in a vector. `atari`, and `clip` (rewards become their sign), are for Atari games alone. Raises
    UserError for an unknown environment, a missing package, and whatever else keeps it from being made.
    """
    target, _ = resolve(env)
    if (game := game_of(env)) is not None:
        target = functools.partial(make_atari, game, atari, clip=clip)
    try:
        with _quiet_mujoco(target):
            made = _make_id(target, render_mode) if isinstance(target, str) else _call(env, target, render_mode)
        if max_steps > 0:
            made = TimeLimit(made, max_steps)
        return Replayable(EpisodicReward(made) if episodic else made, index)
    except (error.DependencyNotInstalled, ImportError) as e:
        install = f": run `pip install {e.name.partition('.')[0]}`" if isinstance(e, ImportError) and e.name else ""
        raise UserError(f"{env} needs a package that is not installed: {_one_line(e)}{install}") from e
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{env} cannot be made: {said(e)}{_renderer()}") from e


def _renderer() -> str:
    """MuJoCo reads MUJOCO_GL when it is first imported, and is not importable with some values of it."""
    backend = os.environ.get("MUJOCO_GL")
    return f" (MUJOCO_GL is {backend}: unset it, or try egl)" if backend and "mujoco" not in sys.modules else ""


def make_vector(
    env: str,
    num_envs: int,
    kind: Literal["sync", "async"],
    episodic: bool,
    atari: AtariConfig = _ATARI,
    clip: bool = False,
) -> SyncVectorEnv | AsyncVectorEnv:
    """`num_envs` environments side by side, in this process or in one each; the caller resets them (`Collector`).

    Atari games too: ale-py's own AtariVectorEnv is slower where episodes have seeds (benchmarks/atari_envs.py).
    """
    make = functools.partial(make_one, env, episodic, atari=atari, clip=clip)
    if kind == "sync":
        makers = [functools.partial(make, i) for i in range(num_envs)]
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    makers = [functools.partial(_make_apart, os.getpid(), make, i) for i in range(num_envs)]
    return _QuietAsync(makers, autoreset_mode=AutoresetMode.DISABLED)


def _make_apart(parent: int, make: Callable[[int], Replayable], index: int) -> Replayable:
    """`make` in a process of its own, which leaves it to the process `parent` to decide when to stop."""
    if os.getpid() != parent:
        for name in ("SIGINT", "SIGHUP"):  # a terminal sends them to us all
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    return make(index)


class _QuietAsync(AsyncVectorEnv):
    """Raises what an environment raised, without printing the traceback first."""

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        if not all(successes):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                super()._raise_if_errors(successes)


def frames_of(env: str, atari: AtariConfig) -> int:
    """How many observations agents see at once: `atari.frames` of an Atari game, one elsewhere."""
    return atari.frames if game_of(env) is not None else 1


def spec_of(env: gym.Env | VectorEnv, frames: int = 1, stacked: bool = False) -> Spec:
    """What an agent that sees the newest `frames` observations must know of `env`.

    `stacked`: `env` gives stacks of them already, (frames, *obs_shape); the Spec has the shape of one. Raises UserError
    for spaces that no agent here can handle.
    """
    if isinstance(env, VectorEnv):
        obs, act = env.single_observation_space, env.single_action_space
    else:
        obs, act = env.observation_space, env.action_space
    obs_shape, obs_dtype, pixel_max = _observations(obs)
    if stacked and (len(obs_shape) < 2 or obs_shape[0] != frames):
        raise UserError(f"observations {obs_shape} are no stacks of {frames} frames, ({frames}, ...)")
    obs_shape = obs_shape[1:] if stacked else obs_shape
    if obs_dtype == "uint8" and len(obs_shape) == 3 and obs_shape[0] <= 4 < min(obs_shape[1:]):
        raise UserError(
            f"observations {obs_shape} look like images with their channels first: images have them last here "
            f"(np.moveaxis(obs, 0, -1)): move them {_WRAP}; "
            "stacks of frames, in Python: spec_of(env, frames, stacked=True)"
        )
    if isinstance(act, spaces.Discrete):
        start = int(act.start)
        return Spec(obs_shape, obs_dtype, "discrete", int(act.n), act_start=start, frames=frames, pixel_max=pixel_max)
    if not isinstance(act, spaces.Box):
        raise UserError(f"action space {act}: only Box and Discrete are supported: convert the actions {_WRAP}")
    if act.dtype is None or np.dtype(act.dtype).kind != "f":
        raise UserError(
            f"action space {act} has integer entries: only floats are supported: convert the actions {_WRAP}"
        )
    if not act.is_bounded("both"):
        raise UserError(f"action space {act} is unbounded: give it finite low and high, or change it {_WRAP}")
    low, high = (tuple(float(x) for x in bound.ravel()) for bound in (act.low, act.high))
    return Spec(obs_shape, obs_dtype, "box", len(low), low, high, frames=frames, pixel_max=pixel_max)


def step_limit(env: gym.Env) -> int | None:
    """The number of steps after which an episode of `env` is truncated, or None where no limit is known."""
    if env.spec is not None and env.spec.max_episode_steps:
        return env.spec.max_episode_steps
    limit = _time_limit(env)  # around an environment without a spec, as a user's own often is
    return None if limit is None else limit._max_episode_steps


def check_agent(spec: Spec, basis_alg: str) -> None:
    """Raises UserError where agent `basis_alg` cannot act in an environment of this spec."""
    needs = "discrete" if basis_alg == "dqn" else "box"
    if spec.act_kind != needs:
        fit, kinds = ("dqn", "Discrete") if spec.act_kind == "discrete" else ("sac, td3 or ddpg", "Box")
        raise UserError(f"--basis-alg {basis_alg} cannot act here: the environment has {kinds} actions, use {fit}")


def _observations(space: gym.Space) -> tuple[tuple[int, ...], str, int]:
    """Shape, stored dtype, and the largest value of a pixel."""
    if isinstance(space, spaces.Box) and space.shape:
        if space.dtype == np.bool_:
            return tuple(space.shape), "uint8", 1
        if space.dtype == np.uint8:
            return tuple(space.shape), "uint8", max(int(space.high.max()), 1)
        if np.dtype(space.dtype).kind in "fiu":
            return tuple(space.shape), "float32", Spec.pixel_max
    if isinstance(space, spaces.Dict | spaces.Tuple | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UserError(
            f"observation space {space}: only Box is supported: gymnasium.wrappers.FlattenObservation, {_WRAP}"
        )
    raise UserError(f"observation space {space}: only numeric Box of at least one axis is supported: change it {_WRAP}")


def _from_module(env: str) -> str | Factory:
    """`module:Class` to the class, or `module:Id-v0` to the id that importing `module` registered."""
    module_name, _, name = env.partition(":")
    if not module_name or not name or module_name.startswith("."):
        raise UserError(f"--env {env}: write it as module:Class or module:Id-v0")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # a console script does not look for modules in the working directory; `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name is None or not (module_name == e.name or module_name.startswith(f"{e.name}.")):
            raise UserError(f"--env {env}: module {module_name!r} needs {e.name!r}, which is not installed") from e
        raise UserError(
            f"--env {env}: there is no module {module_name!r} here ({here}) or among the installed ones"
        ) from e
    except Exception as e:  # the user's own code, at its import
        raise UserError(f"--env {env}: importing {module_name!r} raised {said(e)}") from e
    target = getattr(module, name, None)
    if target is None and name in registry:
        return name
    if target is None:
        near = difflib.get_close_matches(name, [*vars(module), *registry], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "it defines no such class or function"
        raise UserError(f"--env {env}: module {module_name!r} has no {name!r}: {hint}")
    if not callable(target):
        raise UserError(f"--env {env}: {name!r} is no class or function, but {type(target).__name__}")
    return cast(Factory, target)  # `make_one` looks at what it makes


def _near(env: str) -> str:
    """The registered names nearest to `env`, whatever its version and capitals, each in its newest version."""
    newest: dict[str, tuple[int, str]] = {}
    for env_id, spec in registry.items():
        if getattr(spec.entry_point, "__name__", "").endswith("_error"):
            continue  # registered only to say what replaced it
        key = env_id.lower().rpartition("-v")[0] or env_id.lower()
        newest[key] = max(newest.get(key, (-1, "")), (spec.version or 0, env_id))
    newest.update({game.lower(): (0, game) for game in GAMES})
    wanted = re.sub(r"-v\d*$", "", env.lower())
    found = [newest[key][1] for key in difflib.get_close_matches(wanted, newest, n=3)]
    return f"did you mean {', '.join(found)}?" if found else "no registered name is near it."


def _make_id(env_id: str, render_mode: str | None) -> gym.Env:
    # Gymnasium's passive checker repeats at each step what `apportion check` does once.
    return gym.make(env_id, render_mode=render_mode, disable_env_checker=True)


def _call(env: str, factory: Factory, render_mode: str | None) -> gym.Env:
    """A user's class or function, called; a step limit in its `spec` is applied if nothing applies it yet."""
    try:
        made = factory() if render_mode is None else factory(render_mode=render_mode)
    except TypeError as e:
        if "argument" not in str(e):
            raise
        asked = "without arguments" if render_mode is None else f"with render_mode={render_mode!r}"
        raise UserError(f"--env {env} cannot be called {asked} ({_one_line(e)}): name a function that can") from e
    if not isinstance(made, gym.Env):
        raise UserError(f"--env {env} made a {type(made).__name__}, not a gymnasium.Env")
    limit = made.spec.max_episode_steps if made.spec is not None else None
    return TimeLimit(made, limit) if limit and _time_limit(made) is None else made


def _time_limit(env: gym.Env) -> TimeLimit | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            return env
        env = env.env
    return None


@contextlib.contextmanager
def _quiet_mujoco(target: str | Factory) -> Iterator[None]:
    """No MUJOCO_LOG.TXT in the user's directory, and no line about the age of Gymnasium's own model files.

    Every other warning of MuJoCo's still goes to the terminal: at loading through our handler, later (an unstable
    simulation) through MuJoCo's own.
    """
    if isinstance(target, str) and isinstance(entry := registry[target].entry_point, str):
        load_env_creator(entry)  # imports mujoco, if this environment needs it
    mujoco = sys.modules.get("mujoco")
    if mujoco is None:
        yield
        return
    if hasattr(mujoco, "MjLogConfig"):  # MuJoCo 4 and later
        log = mujoco.MjLogConfig.get()
        if log.logfile == "MUJOCO_LOG.TXT":  # the default: nobody asked for this file
            log.logto_file = False
            log.set()
    before = mujoco.get_mju_user_warning()
    if before is not None:  # the user listens already
        yield
        return
    mujoco.set_mju_user_warning(_loading_warning)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def _loading_warning(message: str) -> None:
    if "'settotalmass' is deprecated" not in message:
        print(f"WARNING: {message}", file=sys.stderr)


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split())
