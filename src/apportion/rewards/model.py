"""The reward network, and how it leaves the house: safetensors and JSON, a Gymnasium wrapper."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from apportion.config import from_json, to_json
from apportion.envs.faults import said
from apportion.envs.make import spec_of
from apportion.nets.conv import ChangeNets
from apportion.nets.mlp import StackedMLP
from apportion.nets.normalizer import RunningNorm
from apportion.run.files import full_disk, write_atomic, write_json
from apportion.store.frames import seen
from apportion.types import Spec, UserError

PIECE = 256  # steps of images whose rewards are worked out at once


class RewardModel(nn.Module):
    """r(s, a, s'): e networks on (s, a, s - s'), as in the RRD release; the reward is their mean times `scale`.

    On images: convolutions on (s, s - s'), an output per action, that of a (`nets.conv.ChangeNets`; `hidden` is not
    looked at). s and s' are then what is seen, (n, *spec.seen_shape), s' one frame on from s.

    Usable on its own: `RewardModel.load(run)` reads the newest model of a run, `reward` takes NumPy arrays in the
    environment's own units.
    """

    scale: Tensor
    square: Tensor
    count: Tensor

    def __init__(
        self, spec: Spec, hidden: tuple[int, ...], ensemble: int, generator: torch.Generator, norm: RunningNorm | None
    ):
        super().__init__()
        self.spec, self.hidden, self.ensemble, self.norm = spec, hidden, ensemble, norm
        self.net = _network(spec, hidden, ensemble, generator)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("square", torch.zeros((), dtype=torch.float64))  # mean of (R/T)^2
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, obs: Tensor, act: Tensor, next_obs: Tensor) -> Float[Tensor, "e n"]:
        """Each member's reward for n transitions, in units of `scale`."""
        if isinstance(self.net, ChangeNets):
            return self.net(obs, act, next_obs)
        if self.norm is not None:
            obs, next_obs = self.norm(obs), self.norm(next_obs)
        obs, next_obs = (x.reshape(len(x), -1).to(torch.float32) for x in (obs, next_obs))
        if self.spec.act_kind == "discrete":
            act = F.one_hot(act, self.spec.act_dim).to(torch.float32)
        return self.net(torch.cat([obs, act, obs - next_obs], -1)).squeeze(-1)

    @torch.no_grad()
    def predict(self, obs: Tensor, act: Tensor, next_obs: Tensor) -> Float[Tensor, "n"]:
        """The reward of n transitions, actions as the store holds them (in [-1, 1], or integers)."""
        return self(obs, act, next_obs).mean(0) * self.scale

    def steps(self, obs: np.ndarray, act: np.ndarray) -> Float[Tensor, "T"]:
        """The reward of each step of an episode as it is stored: single observations (T + 1, *obs), actions (T, *act).

        Images in pieces, for stacks of them take much memory.
        """
        device, spec, length = self.scale.device, self.spec, len(act)
        piece = PIECE if spec.is_image else length
        parts = []
        for first in range(0, length, piece):
            t = np.arange(first, min(first + piece, length))
            columns = (seen(obs, t, spec.frames), act[t], seen(obs, t + 1, spec.frames))
            parts.append(self.predict(*(torch.from_numpy(x).to(device) for x in columns)))
        return torch.cat(parts)

    def reward(self, obs: np.ndarray, act: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
        """The reward (n,) of n transitions in the environment's own units; observations as seen, (n, *seen_shape).

        Raises UserError for stacks of frames of which the next is not the first, moved on by a frame.
        """
        device = self.scale.device
        spec, act = self.spec, np.asarray(act)
        if spec.frames > 1 and not np.array_equal(np.asarray(obs)[:, 1:], np.asarray(next_obs)[:, :-1]):
            raise UserError(
                f"next_obs is not obs moved on by a frame: give stacks of {spec.frames} frames, the oldest first, "
                f"as {('n', *spec.seen_shape)}"
            )
        if spec.act_kind == "box":
            low, high = np.asarray(spec.act_low), np.asarray(spec.act_high)
            act = 2 * (act.reshape(len(act), -1) - low) / (high - low) - 1
        else:
            act = act - spec.act_start
        columns = ((obs, spec.obs_dtype), (act, spec.act_dtype), (next_obs, spec.obs_dtype))
        tensors = [torch.from_numpy(np.ascontiguousarray(x, dtype=dtype)).to(device) for x, dtype in columns]
        return self.predict(*tensors).cpu().numpy()

    @torch.no_grad()
    def observe(self, per_step_return: float) -> None:
        """Take one episode's R/T into the running scale, its root mean square."""
        self.count += 1
        self.square += (per_step_return**2 - self.square) / self.count
        self.scale.copy_(self.square.sqrt().clamp(min=1e-8))

    def save(self, folder: Path | str) -> Path:
        """Write `reward.safetensors` and `reward.json` into `folder`, each whole or not at all; `load` reads them."""
        folder = Path(folder)
        about = {"spec": to_json(self.spec), "hidden": self.hidden, "ensemble": self.ensemble}
        about["normalized"], about["network"] = self.norm is not None, "convolutions" if self.spec.is_image else "mlp"
        with full_disk(folder, "the reward model saved before is kept"):
            folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.cpu().contiguous() for k, v in self.state_dict().items()}
        write_atomic(folder / "reward.safetensors", save_tensors(weights))
        write_json(folder / "reward.json", about)
        return folder

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> RewardModel:
        """The model saved in the folder `path`, or by the run `path`. Raises UserError where there is none."""
        folder = next((f for f in (Path(path), Path(path) / "reward") if (f / "reward.json").exists()), None)
        if folder is None:
            raise UserError(f"{path} holds no reward model: expected reward.json there, or in its folder reward/")
        try:
            about = json.loads((folder / "reward.json").read_text())
            if "spec" not in about:
                raise UserError("a model of apportion fit: apportion.rewards.demo_model.DemoReward loads it")
            spec = from_json(Spec, about["spec"])
            norm = RunningNorm(spec.obs_shape) if about["normalized"] else None
            model = cls(spec, tuple(about["hidden"]), about["ensemble"], torch.Generator(), norm)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, UserError) as error:
            raise UserError(f"{folder / 'reward.json'} cannot be read: {said(error)}") from error
        try:
            model.load_state_dict(load_file(folder / "reward.safetensors"))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise UserError(f"{folder / 'reward.safetensors'} cannot be read: {str(error).splitlines()[0]}") from error
        return model.to(device)


def _network(spec: Spec, hidden: tuple[int, ...], ensemble: int, generator: torch.Generator) -> nn.Module:
    if not spec.is_image:
        size = int(np.prod(spec.obs_shape))
        return StackedMLP(ensemble, (2 * size + spec.act_dim, *hidden, 1), generator)
    if spec.act_kind != "discrete":
        raise UserError(
            "a reward model of images has one output per action, and these actions are Box: flatten the images"
        )
    return ChangeNets(ensemble, spec, generator)


class LearnedReward(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose reward is the model's; the environment's own goes into info["env_reward"].

    A model of stacks of frames takes an environment that gives single frames, or one that gives the same stacks.
    Raises UserError for an environment with other observations or actions than those the model was learned on.
    """

    def __init__(self, env: gym.Env[Any, Any], model: RewardModel):
        super().__init__(env)
        frames = model.spec.frames
        stacked = frames > 1 and env.observation_space.shape == model.spec.seen_shape
        self._stack = frames > 1 and not stacked
        spec = spec_of(env, frames, stacked)
        for what in ("obs_shape", "obs_dtype", "act_kind", "act_dim"):
            here, there = getattr(spec, what), getattr(model.spec, what)
            if here != there:
                raise UserError(f"this reward model was learned with {what} {there}, and the environment has {here}")
        self.model = model
        self._last: deque[Any] = deque(maxlen=frames + 1 if self._stack else 2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._last.extend([obs] * (self._last.maxlen or 1))  # the first frame repeats before the start
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._last.append(obs)
        last = np.stack(self._last)
        before, after = (last[:-1], last[1:]) if self._stack else (last[0], last[1])
        learned = self.model.reward(before[None], np.asarray(action)[None], after[None])[0]
        return obs, float(learned), terminated, truncated, {**info, "env_reward": reward}
