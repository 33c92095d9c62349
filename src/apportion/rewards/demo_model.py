"""A reward model learned from demonstrations, and how it leaves the house: safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from apportion.config import FitConfig, from_json, to_json
from apportion.data.batches import DemoBatch, Inputs, Window, demo_vector
from apportion.data.conditions import Conditions
from apportion.data.schema import Demo
from apportion.rewards.demo_losses import potential_difference
from apportion.rewards.demo_net import DemoNet
from apportion.run.files import full_disk, write_atomic, write_json
from apportion.types import UserError

CHUNK = 256  # rows at a time, for whole episodes: frames need memory


class DemoReward(nn.Module):
    """The reward of a step of an episode, in units of the return, and a potential where the method has one.

    `DemoReward.load(run)`, then `rewards`, `potential` and `score` of a `Demo` from any reader.
    """

    scale: Tensor
    table: Tensor

    def __init__(self, config: FitConfig, inputs: Inputs, conditions: Conditions, generator: torch.Generator):
        super().__init__()
        self.config, self.inputs, self.conditions = config, inputs, conditions
        self.net = DemoNet(
            inputs,
            config.r_hidden,
            action=self.window == "transition" and config.actions,
            difference=config.difference,
            condition=conditions.size,
            embedding=config.embedding,
            generator=generator,
        )
        self.register_buffer("scale", torch.ones(()))  # of the network's output, in units of the return
        self.register_buffer("table", torch.from_numpy(conditions.vectors.copy()))

    @property
    def window(self) -> Window:
        """Which rows the network needs for a step."""
        if not self.config.decomposes:
            return "state"
        return "both" if self.config.is_potential else "transition"

    # ---------------------------------------------------------------- learning

    def outputs(self, batch: DemoBatch, net: nn.Module, keep: Tensor | None = None) -> Float[Tensor, "m k"]:
        """What the losses take: rewards in units of `scale` (rrd, rd), t/T (progress), logits (success).

        `net` is this model's network, or a wrapper that shares its work with other processes.
        """
        m, k = batch.mask.shape
        # of the rows gathered, as (this, other): the reward of (s, s'), phi(s) beside what was before
        pairs = [(1, 0), (0, 2)] if self.window == "both" else [(0, 1)]
        at = torch.tensor(pairs, device=batch.vector.device).T
        vector = batch.vector[at].reshape(2, len(pairs) * m * k, -1)
        images = {c: x[at].reshape(2, len(pairs) * m * k, *x.shape[3:]) for c, x in batch.images.items()}
        condition = self.table[batch.condition].repeat_interleave(k, 0).repeat(len(pairs), 1)
        act = batch.act.reshape(m * k, -1).repeat(len(pairs), 1)
        out = net(vector, images, act, condition, keep).view(len(pairs), m, k)
        if self.window == "both":
            return potential_difference(out[1], out[0], self.config.gamma)
        return out[0].sigmoid() if self.config.method == "progress" else out[0]

    # ---------------------------------------------------------------- use

    def rewards(self, demo: Demo) -> np.ndarray:
        """Reward of each step, (T,) float32, in units of the return.

        Where the observation after the last action was not kept, the last one stands for it. In the potential form the
        last step of an episode that is marked a success also carries the bonus: the label, not a prediction.
        """
        phi = self.potential(demo)
        step = self._raw(demo) if phi is None else self._shaped(phi, demo.length)
        if self.config.is_potential and demo.success:
            step[-1] += self.config.success_bonus
        return step

    def potential(self, demo: Demo) -> np.ndarray | None:
        """phi of each observation, (O,) float32: t/T, P(success | s), or learned from returns; None for raw rrd, rd."""
        if self.window == "transition":
            return None
        rows = np.arange(self._rows(demo))
        out = self._evaluate(demo, rows, np.maximum(rows - 1, 0))
        return (out * float(self.scale) if self.config.decomposes else out.sigmoid()).numpy()

    def score(self, demo: Demo) -> float:
        """What ranks episodes, with no look at their labels: the predicted return, or the last state's potential."""
        phi = self.potential(demo)
        if phi is not None and not self.config.decomposes:
            return float(phi[-1])
        step = self._raw(demo) if phi is None else self._shaped(phi, demo.length)
        # as it was learned: over the steps whose next observation exists
        return float(step[: self._rows(demo) - 1].sum(dtype=np.float64))

    def _shaped(self, phi: np.ndarray, steps: int) -> np.ndarray:
        """The potential form without its bonus, (T,); for --form raw of a potential, phi(s')."""
        after = phi[np.minimum(np.arange(steps) + 1, len(phi) - 1)]
        if not self.config.is_potential:
            return after
        before = torch.from_numpy(phi[:steps])
        return potential_difference(before, torch.from_numpy(after), self.config.gamma).numpy()

    def _raw(self, demo: Demo) -> np.ndarray:
        here = np.arange(demo.length)
        return (self._evaluate(demo, here, np.minimum(here + 1, self._rows(demo) - 1)) * float(self.scale)).numpy()

    def _rows(self, demo: Demo) -> int:
        return demo.observations if demo.proprio or not demo.images else len(next(iter(demo.images.values())))

    @torch.no_grad()
    def _evaluate(self, demo: Demo, this: np.ndarray, other: np.ndarray) -> Float[Tensor, "n"]:
        """The network on rows `this` and `other` (n,) of one episode; on the CPU."""
        device = self.scale.device
        vector, frames = demo_vector(demo, self.inputs), self._frames(demo)
        vectors = torch.from_numpy(self.conditions.vector(demo.task, demo.language))
        if demo.action.shape[1] != self.inputs.action:
            raise UserError(
                f"the reward model takes actions of {self.inputs.action} entries, not {demo.action.shape[1]}"
            )
        out = []
        for part in _chunks(len(this)):
            pair = np.stack([this[part], other[part]])
            act = demo.action[this[part]] if self.window == "transition" else np.zeros((pair.shape[1], 0), np.float32)
            images = {name: torch.from_numpy(x[pair]).to(device) for name, x in frames.items()}
            condition = vectors.to(device).expand(pair.shape[1], -1)
            inputs = (torch.from_numpy(vector[pair]).to(device), images, torch.from_numpy(act).to(device), condition)
            out.append(self.net(*inputs).cpu())
        return torch.cat(out)

    def _frames(self, demo: Demo) -> dict[str, np.ndarray]:
        from apportion.data.filters import resize

        missing = [name for name in self.inputs.cameras if name not in demo.images]
        if missing:
            there = ", ".join(demo.images) or "none"
            raise UserError(f"the reward model needs the frames of camera {missing[0]}, and the episode has {there}")
        size = (self.inputs.image_size, self.inputs.image_size)
        images = resize(demo, dict.fromkeys(demo.images, size)).images if self.inputs.cameras else {}
        return {name: images[name] for name in self.inputs.cameras}

    # ---------------------------------------------------------------- leaving and coming back

    def save(self, folder: Path | str) -> Path:
        """Write `reward.safetensors` and `reward.json` into `folder`, each whole or not at all; `load` reads them."""
        folder = Path(folder)
        with full_disk(folder, "the reward model saved before is kept"):
            folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.cpu().contiguous() for k, v in self.state_dict().items()}
        write_atomic(folder / "reward.safetensors", save_tensors(weights))
        write_json(folder / "reward.json", self.about())
        return folder

    def about(self) -> dict[str, Any]:
        """Everything but the numbers, for JSON."""
        inputs = {**vars(self.inputs), "proprio": dict(self.inputs.proprio)}
        return {"config": to_json(self.config), "inputs": inputs, "conditions": self.conditions.state()}

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> DemoReward:
        """The model saved in the folder `path`, or by the run `path`. Raises UserError where there is none."""
        folder = next((f for f in (Path(path), Path(path) / "reward") if (f / "reward.json").exists()), None)
        if folder is None:
            raise UserError(f"{path} holds no reward model: expected reward.json there, or in its folder reward/")
        try:
            about = json.loads((folder / "reward.json").read_text())
            if "spec" in about:
                raise UserError("it was learned online (apportion train), not from demonstrations (apportion fit)")
            weights = load_file(folder / "reward.safetensors")
            model = _build(cls, about, weights["table"].numpy())
            model.load_state_dict(weights)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, UserError) as error:
            raise UserError(f"the reward model in {folder} cannot be read: {str(error).splitlines()[0]}") from error
        return model.to(device).eval()


def _build(cls: type[DemoReward], about: dict[str, Any], vectors: np.ndarray) -> DemoReward:
    known = about["inputs"]
    proprio = tuple((str(name), int(size)) for name, size in known["proprio"].items())
    inputs = Inputs(**{**known, "proprio": proprio, "cameras": tuple(known["cameras"])})
    names = about["conditions"]
    conditions = Conditions(names["kind"], tuple(names["names"]), vectors, tuple(names["words"]))
    return cls(from_json(FitConfig, about["config"]), inputs, conditions, torch.Generator())


def _chunks(n: int) -> Iterator[slice]:
    for low in range(0, n, CHUNK):
        yield slice(low, min(n, low + CHUNK))
