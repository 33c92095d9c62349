"""Evaluation: separate environments, fixed seeds, the deterministic policy; and the audit of the learned reward."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Generator
from ctypes import util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from apportion.agents import Agent
from apportion.config import DQNConfig, OnlineConfig
from apportion.envs.collect import ActionMap
from apportion.envs.faults import check_finite, said
from apportion.envs.make import step_limit
from apportion.rewards import Decomposition, Fitted, RewardMethod
from apportion.rewards.audit import audit
from apportion.rng import Streams
from apportion.store.frames import seen_now
from apportion.train.environments import one_env
from apportion.types import Spec, UserError

if TYPE_CHECKING:
    from apportion.train.session import Policy

LONGEST = 100_000  # steps of an evaluation episode where the environment knows no limit: a good policy may never end it


@dataclass(frozen=True)
class Trace:
    """One evaluation episode of T steps, with the environment's own rewards."""

    obs: np.ndarray  # (T + 1, *obs), as stored
    act: np.ndarray  # (T, *act), as stored
    reward: np.ndarray  # (T,) float64


class Evaluator:
    """`episodes` environments of its own, one per fixed seed; they are never shared with training.

    The policy is deterministic, but for a DQN's `test_eps`: those random actions, too, are the same in each evaluation.
    """

    def __init__(self, config: OnlineConfig, spec: Spec, episodes: int, seed: int):
        streams = Streams(seed)
        self.config, self.spec, self.seed = config, spec, seed
        self.seeds = [streams.integer("evaluation") for _ in range(episodes)]
        self.envs = [_environment(config, i) for i in range(episodes)]
        self.to_env = ActionMap(self.envs[0].action_space)

    def rollouts(self, agent: Agent, device: torch.device) -> list[Trace]:
        """One episode per environment, side by side: the policy acts for all unfinished ones at once.

        Raises UserError for a fault in an environment, and for an observation, action or reward that is not finite.
        """
        active = list(range(len(self.envs)))
        slips = Slips(self.config, self.spec, self.seed, len(self.envs))
        act: list[list[np.ndarray]] = [[] for _ in self.envs]
        reward: list[list[float]] = [[] for _ in self.envs]

        def check(what: str, values: np.ndarray, steps_ahead: int = 0) -> None:
            def where(row: int) -> tuple[str, int, int]:
                i = active[row]
                return f"evaluation environment {i}", len(act[i]) + steps_ahead, self.seeds[i]

            check_finite(what, values, where)

        first = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, self.seeds, strict=True)]
        obs = [[x] for x in self._stored(first)]
        check("observation", np.stack([x[-1] for x in obs]))
        while active:
            stacks = np.stack([seen_now(obs[i], self.spec.frames) for i in active])
            chosen = act_greedily(agent, stacks, device)
            check("action", chosen, steps_ahead=1)
            chosen = slips(chosen, active)
            outcome = [self.envs[i].step(a) for i, a in zip(active, self.to_env(chosen), strict=True)]
            after, rewards = self._stored([o for o, *_ in outcome]), np.array([r for _, r, *_ in outcome])
            check("observation", after, steps_ahead=1)
            check("reward", rewards, steps_ahead=1)
            for i, a, next_obs, r in zip(active, chosen, after, rewards, strict=True):
                act[i].append(a)
                obs[i].append(next_obs)
                reward[i].append(float(r))
            active = [i for i, (_, _, ended, cut, _) in zip(active, outcome, strict=True) if not (ended or cut)]
        # one after the other leaves its list: frames of long episodes are not held twice
        return [Trace(np.stack(obs.pop(0)), np.stack(a), np.array(r)) for a, r in zip(act, reward, strict=True)]

    def _stored(self, obs: list[np.ndarray]) -> np.ndarray:  # (n, *obs), as stored
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which `check_finite` reports
            return np.stack(obs).astype(self.spec.obs_dtype)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class Slips:
    """The random actions of one evaluation: with probability `test_eps`, and only of a DQN."""

    def __init__(self, config: OnlineConfig, spec: Spec, seed: int, episodes: int):
        self._share = config.agent.test_eps if isinstance(config.agent, DQNConfig) else 0.0
        self._actions, streams = spec.act_dim, Streams(seed)
        self._rng = [streams.generator(f"evaluation/{i}") for i in range(episodes)]

    def __call__(self, act: np.ndarray, active: list[int]) -> np.ndarray:
        """`act` (n,) of the episodes `active`, with some replaced. Each episode has its own draws, two a step."""
        if self._share == 0:
            return act
        slip, which = np.array([self._rng[i].random(2) for i in active]).T
        return np.where(slip < self._share, (which * self._actions).astype(act.dtype), act)


def _environment(config: OnlineConfig, index: int = 0, render_mode: str | None = None) -> gym.Env[Any, Any]:
    env = one_env(config, index, render_mode, config.test_timesteps)
    if config.test_timesteps or step_limit(env) is not None:
        return env
    env.close()
    return one_env(config, index, render_mode, LONGEST)


def act_greedily(agent: Agent, obs: np.ndarray, device: torch.device) -> np.ndarray:
    """The deterministic policy's actions for what is seen (n, *seen_shape)."""
    return agent.act(torch.from_numpy(obs).to(device), None, 0).cpu().numpy()


def learned_rewards(method: RewardMethod, traces: list[Trace]) -> list[np.ndarray] | None:
    """The learned reward (T,) of each step of each episode; None where nothing is learned."""
    if isinstance(method, Fitted):  # as if no episode had terminated: a trace does not say
        return [method.rewards(trace.obs, trace.act, terminated=False) for trace in traces]
    if not isinstance(method, Decomposition):
        return None
    return [method.model.steps(trace.obs, trace.act).float().cpu().numpy() for trace in traces]


def summary(traces: list[Trace], learned: list[np.ndarray] | None) -> dict[str, Any]:
    """Every episode's return and length, and the audit of the learned reward (or None)."""
    return {
        "returns": [float(trace.reward.sum()) for trace in traces],
        "lengths": [len(trace.reward) for trace in traces],
        "audit": None if learned is None else audit([t.reward for t in traces], learned),
    }


def evaluate_run(run_dir: Path, *, episodes: int = 10, seed: int = 0, checkpoint: Path | None = None) -> dict[str, Any]:
    """Evaluate the newest (or the given) checkpoint of a run on `episodes` fixed seeds drawn from `seed`.

    Returns step, seeds, returns, lengths and audit.
    """
    from apportion.train.session import load_policy

    step, policy = load_policy(Path(run_dir), checkpoint, lambda line: print(line, file=sys.stderr))
    evaluator = Evaluator(policy.config, policy.spec, episodes, seed)
    try:
        traces = evaluator.rollouts(policy.agent, policy.device)
    finally:
        evaluator.close()
    learned = learned_rewards(policy.method, traces)
    return {"step": step, "seeds": evaluator.seeds, **summary(traces, learned)}


def film_run(run_dir: Path, path: Path, seed: int = 0, checkpoint: Path | None = None) -> Path:
    """Film the first episode that `evaluate_run` plays with the same `seed`, as an MP4 in `path`; returns `path`.

    Where the run has a learned reward, the reward of each step runs along below the picture. Raises UserError where
    nothing can be drawn, PyAV is missing or `path` cannot be written.
    """
    from apportion.report.video import kept, write_mp4
    from apportion.train.session import load_policy

    _render_without_a_display()
    _, policy = load_policy(Path(run_dir), checkpoint, lambda line: print(line, file=sys.stderr))
    path, obs, act = Path(path), [], []
    env = _environment(policy.config, render_mode="rgb_array")
    frames = _frames(env, policy, seed, obs, act)
    fps = float(env.metadata.get("render_fps", 30))
    try:
        if not isinstance(policy.method, Fitted | Decomposition):
            return write_mp4(frames, path, fps)
        from apportion.report.credit_film import with_curve

        with kept(frames, path) as again:  # what is still to come is known at the end, and a second play may differ
            learned = learned_rewards(policy.method, [Trace(np.stack(obs), np.stack(act), np.zeros(len(act)))])
            assert learned is not None
            return write_mp4(with_curve(again, learned[0]), path, fps)
    finally:
        frames.close()
        with contextlib.suppress(Exception):  # closing what could not be opened
            env.close()


def _render_without_a_display() -> None:
    """MuJoCo chooses how to draw when it first draws, and must be told where there is no window system."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys() and util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _frames(
    env: gym.Env[Any, Any], policy: Policy, seed: int, obs: list[np.ndarray], act: list[np.ndarray]
) -> Generator[np.ndarray]:
    """What is drawn, (H, W, 3) uint8, before each step of one episode; its columns, as stored, go into `obs` and `act`.

    Raises UserError where nothing can be drawn.
    """
    to_env, spec = ActionMap(env.action_space), policy.spec
    slips = Slips(policy.config, spec, seed, 1)
    first, over = env.reset(seed=Streams(seed).integer("evaluation"))[0], False
    obs.append(first.astype(spec.obs_dtype))
    while not over:
        yield _drawn(env)
        stack = seen_now(obs, spec.frames)[None]
        chosen = slips(act_greedily(policy.agent, stack, policy.device), [0])
        after, _, ended, cut, _ = env.step(to_env(chosen)[0])
        obs.append(after.astype(spec.obs_dtype))
        act.append(chosen[0])
        over = ended or cut


def _drawn(env: gym.Env[Any, Any]) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a window system that is not there says so once more, in its own words
            return np.asarray(env.render())
    except Exception as error:
        advice = "try MUJOCO_GL=egl or osmesa, or leave" if "mujoco" in sys.modules else "leave"
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        traceback.clear_frames(error.__traceback__)  # half-made renderers go now, and silently
        sys.unraisablehook = hook
        raise UserError(f"cannot film here: {said(error)}; {advice} out --video") from error
