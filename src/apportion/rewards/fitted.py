"""The reward of a model that was learned before and does not change: from demonstrations, or in another run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.data.schema import Demo, Source
from apportion.rewards.demo_model import DemoReward
from apportion.rewards.model import RewardModel
from apportion.rewards.source import Given
from apportion.run.files import file_sha256
from apportion.types import Episode, Spec, UserError


class Fitted(Given):
    """Pays every episode once, when it closes: a model that does not change is never stale, and sees what came before.

    A raw reward takes the place of the environment's. A potential difference is added to it, gamma phi(s') - phi(s)
    with phi = 0 where an episode terminates, which leaves the best policies what they are (Ng et al. 1999).
    """

    def __init__(self, model: RewardModel | DemoReward, folder: Path, spec: Spec, task: str = ""):
        self.model, self.spec, self.task = model, spec, task
        self.weights = file_sha256(folder / "reward.safetensors")
        self.folder = folder
        if isinstance(model, RewardModel):
            _check_learned(model, spec)
        else:
            self._condition = _check_demo(model, spec, task)

    @property
    def shapes(self) -> bool:
        """Is the reward added to the environment's?"""
        return isinstance(self.model, DemoReward) and self.model.config.is_potential

    def closed(self, episode: Episode) -> Episode:
        """`episode` with the reward that the agent is to learn from."""
        learned = self.rewards(episode.obs, episode.act, episode.terminated)
        return replace(episode, reward=(learned + episode.reward if self.shapes else learned).astype(np.float32))

    def rewards(self, obs: np.ndarray, act: np.ndarray, terminated: bool) -> np.ndarray:
        """(T,) for an episode's observations (T + 1, o) and actions (T, a), as stored; without the environment's."""
        if isinstance(self.model, RewardModel):
            return self.model.steps(obs, act).float().cpu().numpy()
        demo = self._demo(obs, act)
        phi = self.model.potential(demo) if self.shapes else None
        if phi is None:
            return self.model.rewards(demo)
        after = phi[1:].copy()
        after[-1] *= not terminated
        return (self.model.config.gamma * after - phi[:-1]).astype(np.float32)

    def _demo(self, obs: np.ndarray, act: np.ndarray) -> Demo:
        assert isinstance(self.model, DemoReward)
        low, high = np.asarray(self.spec.act_low, np.float32), np.asarray(self.spec.act_high, np.float32)
        flat, parts, at = obs.reshape(len(obs), -1).astype(np.float32), {}, 0
        for name, size in self.model.inputs.proprio:
            parts[name] = flat[:, at : at + size]
            at += size
        return Demo(
            images={},
            proprio=parts,
            action=low + (act + 1) / 2 * (high - low),  # in the environment's units, as it was recorded
            reward=np.zeros(len(act), np.float32),
            terminated=False,
            truncated=False,
            success=None,
            language=self._condition,
            task=self._condition,
            source=Source("", 0),
        )

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state(self, state: dict[str, Any]) -> None:
        if state["weights"] != self.weights:
            raise UserError(f"the reward model in {self.folder} is another one than when this run began: put it back")


def load_fitted(path: str, spec: Spec, task: str, device: torch.device) -> Fitted:
    """The model of a run of `apportion fit` or `apportion train`, for the environment `spec`.

    Raises UserError where there is none, or it was learned on other observations or actions.
    """
    folder = next((f for f in (Path(path), Path(path) / "reward") if (f / "reward.json").is_file()), None)
    if folder is None:
        raise UserError(f"--reward {path} holds no reward model: expected reward.json there, or in its folder reward/")
    try:
        online = "spec" in json.loads((folder / "reward.json").read_bytes())
    except ValueError as error:
        raise UserError(f"{folder / 'reward.json'} cannot be read: {error}") from error
    model = (RewardModel if online else DemoReward).load(folder, str(device))
    return Fitted(model, folder, spec, task)


def _check_learned(model: RewardModel, spec: Spec) -> None:
    for what in ("obs_shape", "obs_dtype", "act_kind", "act_dim", "act_low", "act_high", "frames", "pixel_max"):
        here, there = getattr(spec, what), getattr(model.spec, what)
        if here != there:
            raise UserError(f"--reward: this model was learned with {what} {there}, and the environment has {here}")


def _check_demo(model: DemoReward, spec: Spec, task: str) -> str:
    """The task or instruction that the model is told. Raises UserError where the two do not fit."""
    inputs, conditions = model.inputs, model.conditions
    if inputs.cameras or inputs.feature:
        needs = inputs.feature or ", ".join(inputs.cameras)
        raise UserError(f"--reward: this model sees {needs}, and an environment here gives vectors: fit with proprio")
    seen = int(np.prod(spec.obs_shape))
    if seen != inputs.vector:
        parts = ", ".join(f"{name} {size}" for name, size in inputs.proprio)
        raise UserError(
            f"--reward: this model sees {inputs.vector} numbers ({parts}), and the environment's observation has {seen}"
        )
    if spec.act_kind != "box" or spec.act_dim != inputs.action:
        there = f"{spec.act_dim} numbers" if spec.act_kind == "box" else "a choice"
        raise UserError(f"--reward: this model takes actions of {inputs.action} numbers, the environment's is {there}")
    if conditions.kind == "none" or (task == "" and len(conditions.names) == 1):
        return conditions.names[0]
    if not task:
        few = ", ".join(map(repr, conditions.names[:3])) + (", ..." if len(conditions.names) > 3 else "")
        raise UserError(f"--reward: this model knows {len(conditions.names)} tasks: say which, --model-task {few}")
    conditions.vector(task, task)  # one line where it is unknown
    return task
