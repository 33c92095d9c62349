"""Evaluation: separate environments, fixed seeds, the deterministic policy; and the audit of the learned reward."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from apportion.agents import Agent
from apportion.config import OnlineConfig
from apportion.envs.collect import ActionMap
from apportion.envs.make import make_one, step_limit
from apportion.rewards import Decomposition, RewardMethod
from apportion.rewards.audit import audit
from apportion.rng import Streams
from apportion.types import Spec

Frames = list[np.ndarray]


LONGEST = 100_000  # steps of an evaluation episode where the environment knows no limit: a good policy may never end it


@dataclass(frozen=True)
class Trace:
    """One evaluation episode of T steps, with the environment's own rewards."""

    obs: np.ndarray  # (T + 1, *obs), as stored
    act: np.ndarray  # (T, *act), as stored
    reward: np.ndarray  # (T,) float64


class Evaluator:
    """`episodes` environments of its own, one per fixed seed; they are never shared with training."""

    def __init__(self, config: OnlineConfig, spec: Spec, episodes: int, seed: int):
        streams = Streams(seed)
        self.spec = spec
        self.seeds = [streams.integer("evaluation") for _ in range(episodes)]
        self.envs = [_environment(config) for _ in range(episodes)]
        self.to_env = ActionMap(self.envs[0].action_space)

    def rollouts(self, agent: Agent, device: torch.device) -> list[Trace]:
        """One episode per environment, side by side: the policy acts for all unfinished ones at once."""
        obs = [
            [env.reset(seed=seed)[0].astype(self.spec.obs_dtype)]
            for env, seed in zip(self.envs, self.seeds, strict=True)
        ]
        act: list[list[np.ndarray]] = [[] for _ in self.envs]
        reward: list[list[float]] = [[] for _ in self.envs]
        active = list(range(len(self.envs)))
        while active:
            chosen = act_greedily(agent, np.stack([obs[i][-1] for i in active]), device)
            outcome = [self.envs[i].step(a) for i, a in zip(active, self.to_env(chosen), strict=True)]
            for i, a, (next_obs, r, *_) in zip(active, chosen, outcome, strict=True):
                act[i].append(a)
                obs[i].append(next_obs.astype(self.spec.obs_dtype))
                reward[i].append(float(r))
            active = [i for i, (_, _, ended, cut, _) in zip(active, outcome, strict=True) if not (ended or cut)]
        return [Trace(np.stack(o), np.stack(a), np.array(r)) for o, a, r in zip(obs, act, reward, strict=True)]

    def close(self) -> None:
        for env in self.envs:
            env.close()


def _environment(config: OnlineConfig, render_mode: str | None = None) -> gym.Env[Any, Any]:
    env = make_one(config.env, False, render_mode=render_mode, max_steps=config.test_timesteps)
    if config.test_timesteps or step_limit(env) is not None:
        return env
    env.close()
    return make_one(config.env, False, render_mode=render_mode, max_steps=LONGEST)


def act_greedily(agent: Agent, obs: np.ndarray, device: torch.device) -> np.ndarray:
    """The deterministic policy's actions for observations (n, *obs)."""
    return agent.act(torch.from_numpy(obs).to(device), None, 0).cpu().numpy()


def learned_rewards(method: RewardMethod, traces: list[Trace], device: torch.device) -> list[np.ndarray] | None:
    """The learned reward (T,) of each step of each episode; None where nothing is learned."""
    if not isinstance(method, Decomposition):
        return None
    out = []
    for trace in traces:
        obs, act = torch.from_numpy(trace.obs).to(device), torch.from_numpy(trace.act).to(device)
        out.append(method.model.predict(obs[:-1], act, obs[1:]).float().cpu().numpy())
    return out


def summary(traces: list[Trace], learned: list[np.ndarray] | None) -> dict[str, Any]:
    """Every episode's return and length, and the audit of the learned reward (or None)."""
    return {
        "returns": [float(trace.reward.sum()) for trace in traces],
        "lengths": [len(trace.reward) for trace in traces],
        "audit": None if learned is None else audit([t.reward for t in traces], learned),
    }


def film(config: OnlineConfig, spec: Spec, agent: Agent, device: torch.device, seed: int) -> tuple[Frames, float]:
    """The frames (H, W, 3) uint8 of one episode, and how many of them make a second."""
    env = _environment(config, render_mode="rgb_array")
    to_env = ActionMap(env.action_space)
    frames: Frames = []
    obs, over = env.reset(seed=seed)[0], False
    while not over:
        frames.append(np.asarray(env.render()))
        obs, _, ended, cut, _ = env.step(to_env(act_greedily(agent, obs.astype(spec.obs_dtype)[None], device))[0])
        over = ended or cut
    env.close()
    return frames, float(env.metadata.get("render_fps", 30))


def evaluate_run(
    run_dir: Path, *, episodes: int, seed: int, video: Path | None, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Evaluate the newest (or the given) checkpoint of a run on `episodes` fixed seeds drawn from `seed`.

    Returns step, seeds, returns, lengths and audit; writes one episode to `video` (MP4) if asked.
    """
    from apportion.report.video import write_mp4
    from apportion.train.session import load_policy

    step, policy = load_policy(run_dir, checkpoint, lambda line: print(line, file=sys.stderr))
    evaluator = Evaluator(policy.config, policy.spec, episodes, seed)
    traces = evaluator.rollouts(policy.agent, policy.device)
    evaluator.close()
    if video is not None:
        frames, fps = film(policy.config, policy.spec, policy.agent, policy.device, evaluator.seeds[0])
        write_mp4(frames, video, fps)
    learned = learned_rewards(policy.method, traces, policy.device)
    return {"step": step, "seeds": evaluator.seeds, **summary(traces, learned)}
