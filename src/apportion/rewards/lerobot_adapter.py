"""A fitted reward model behind LeRobot's reward interface: `compute_reward(batch) -> (B,)`, without LeRobot installed.

    reward = LeRobotReward.from_pretrained("runs/NAME")
    batch["reward"] = reward.compute_reward(batch)

Keys are LeRobot's: observation.state and other observation.NAME (B, d), observation.images.CAMERA (B, 3, h, w) in
[0, 1] or uint8, action (B, a), task (a string for each), and next_observation.* for what was seen after the action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.data.schema import Demo, Source
from apportion.rewards.demo_model import DemoReward
from apportion.types import UserError

NOW, NEXT = "observation.", "next_observation."


class LeRobotReward(nn.Module):
    """A LeRobot-style reward model. `model` may be any module with the methods of `DemoReward`."""

    name = "apportion"

    def __init__(self, model: DemoReward):
        super().__init__()
        self.model = model

    @classmethod
    def from_pretrained(cls, path: Path | str, device: str = "cpu") -> LeRobotReward:
        """The reward model of a run of `apportion fit`, or of its folder reward/. Raises UserError for what is none."""
        return cls(DemoReward.load(path, device)).eval()

    def reset(self) -> None:
        """Nothing is remembered between batches."""

    @torch.no_grad()
    def compute_reward(self, batch: Mapping[str, Any]) -> Float[Tensor, "B"]:
        """The reward of B steps, float32, on the device of their actions.

        With next_observation.* it is r(o, a, o'). Without, a potential gives phi(o) (progress, or P(success)) and a raw
        reward takes o' = o. Observations may carry their history, (B, n, ...) with the newest last: a potential that
        looks at changes needs two of them to be exact. The bonus of a success is not in it. Raises UserError for what
        is missing, or of unequal lengths.
        """
        inputs = self.model.inputs
        keys = [name for name, _ in inputs.proprio] + [f"images.{name}" for name in inputs.cameras]
        if inputs.feature:
            raise UserError(f"this reward model sees cached features ({inputs.feature}), which a batch does not hold")
        action = batch.get("action")
        if not isinstance(action, Tensor):
            raise UserError("the batch has no action")
        size = len(action)
        now = {key: _rows(batch, NOW + key, size, key.startswith("images.")) for key in keys}
        after = all(NEXT + key in batch for key in keys)
        new = {key: _rows(batch, NEXT + key, size, key.startswith("images.")) for key in keys} if after else {}
        act = action.detach().reshape(size, -1, action.shape[-1])[:, -1].to("cpu", torch.float32).numpy()
        tasks = _tasks(batch.get("task", ""), size)
        found = [self._one(_seen(now, new, i), act[i], tasks[i], after) for i in range(size)]
        return torch.tensor(found, dtype=torch.float32, device=action.device)

    def _one(self, seen: dict[str, np.ndarray], act: np.ndarray, task: str, after: bool) -> float:
        """The reward of the last step of `seen`, an episode as far as it is known."""
        rows = len(next(iter(seen.values())))
        steps = rows - after
        actions = np.zeros((steps, len(act)), np.float32)  # those before are not known; they are not looked at
        actions[-1] = act
        demo = Demo(
            images={key.removeprefix("images."): x for key, x in seen.items() if key.startswith("images.")},
            proprio={key: x for key, x in seen.items() if not key.startswith("images.")},
            action=actions,
            reward=np.zeros(steps, np.float32),
            terminated=False,
            truncated=False,
            success=None,
            language=task,
            task=task,
            source=Source("batch", 0),
        )
        phi = None if after else self.model.potential(demo)
        return float(self.model.rewards(demo)[-1] if phi is None else phi[-1])


def _rows(batch: Mapping[str, Any], key: str, size: int, image: bool) -> np.ndarray:
    """(B, n, d) float32, or (B, n, h, w, 3) uint8, n observations with the newest last."""
    value = batch.get(key)
    if not isinstance(value, Tensor):
        raise UserError(f"the batch has no {key}, which this reward model sees; it has {', '.join(map(str, batch))}")
    if len(value) != size:
        raise UserError(f"{key} has {len(value)} rows, and there are {size} actions")
    value = value.detach().cpu()
    if not image:
        return (value[:, None] if value.ndim == 2 else value).to(torch.float32).numpy()
    value = value[:, None] if value.ndim == 4 else value
    if value.ndim != 5 or value.shape[2] != 3:
        raise UserError(f"{key} has shape {tuple(value.shape)}: (B, 3, h, w) is wanted, channels first")
    if value.dtype != torch.uint8:
        value = (value.to(torch.float32).clamp(0, 1) * 255).round().to(torch.uint8)
    return value.permute(0, 1, 3, 4, 2).contiguous().numpy()


def _seen(now: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    """Observations of sample `i`, the one after the action last where there is one."""
    return {key: np.concatenate([x[i], new[key][i, -1:]]) if new else x[i] for key, x in now.items()}


def _tasks(task: str | Sequence[str], size: int) -> list[str]:
    tasks = [task] * size if isinstance(task, str) else list(map(str, task))
    if len(tasks) != size:
        raise UserError(f"task has {len(tasks)} entries, and there are {size} actions")
    return tasks
