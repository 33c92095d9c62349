"""The humans' power as a reward: U_r of a trained run, for any agent that can act in `--env power:RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.power.learn.trained import UR, newest_of, u_r_of, world_of
from apportion.rewards.source import Given
from apportion.run.files import file_sha256
from apportion.types import Batch, Spec, UserError


def on_arrival(u_r: UR, seen: Float[Tensor, "n E"], over: Bool[Tensor, "n"]) -> Float[Tensor, "n"]:
    """U_r of the states that n steps led to, `seen` as features; 0 where they ended the episode.

    With this reward and gamma_r as discount an agent's values are Q_r / gamma_r, of equations (4) and (9) with the
    agent's own policy for pi_r: U_r accrues on arrival, and V_r is 0 at the end.
    """
    return torch.where(over, 0.0, u_r(seen))


class PowerReward(Given):
    """A RewardSource that pays U_r(next_obs), whatever the environment shows. It learns nothing more."""

    def __init__(self, u_r: UR, digest: str = "", device: torch.device | str = "cpu"):
        self.u_r, self.digest, self.device = u_r, digest, device

    @classmethod
    def load(cls, run: str | Path, spec: Spec, device: torch.device | str = "cpu") -> PowerReward:
        """U_r of a run of `apportion power train`, for the environment `spec`.

        Raises UserError where there is none, or the environment shows something else than the run's world.
        """
        from apportion.power.learn.features import width

        wanted = (width(world_of(Path(run))),)
        if spec.obs_shape != wanted:
            shape = " x ".join(map(str, spec.obs_shape))
            raise UserError(
                f"--reward {run} is the power of people in its own world, seen as {wanted[0]} numbers, and the "
                f"environment shows {shape}: act there with --env power:{run}"
            )
        digest = file_sha256(newest_of(Path(run))[0] / "manifest.json")
        return cls(u_r_of(Path(run), device), digest, device)

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        """U_r(next_obs), (n,), without gradient; 0 where the transition ended its episode (its discount is 0)."""
        with torch.no_grad():
            return on_arrival(self.u_r, batch.next_obs, batch.discount == 0).to(batch.reward.dtype)

    def rewards(self, obs: np.ndarray, terminated: bool) -> np.ndarray:
        """(T,) float32 of an episode's observations (T + 1, E)."""
        over = torch.zeros(len(obs) - 1, dtype=torch.bool)
        over[-1] = terminated
        with torch.no_grad():
            paid = on_arrival(self.u_r, torch.from_numpy(obs[1:]).to(self.device), over.to(self.device))
        return paid.float().cpu().numpy()

    def state(self) -> dict[str, Any]:
        return {"digest": self.digest}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises UserError if the run has been trained on since, or is another one."""
        if state["digest"] != self.digest:
            raise UserError("--reward: U_r is another one than when this run began: put back the run that it is of")
