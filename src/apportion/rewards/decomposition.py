"""RD, RRD and RRD-L(RD): a reward network whose rewards add up to the return (Ren et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.config import RewardConfig
from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Adam
from apportion.rewards.losses import rrd_loss
from apportion.rewards.model import RewardModel
from apportion.rewards.source import Drawn, per_step_return
from apportion.rng import Streams
from apportion.store import sample
from apportion.store.episodes import EpisodeStore
from apportion.types import Batch, Episode, Metrics, Spec, Subsets

REFRESH = 1000  # updates between two passes of the return correction over the whole store, once the network is calm


def _refresh_due(updates: int) -> bool:
    """At updates 0, 1, 2, 4, ..., 512, while the network moves fast, then at every REFRESH-th."""
    return updates % REFRESH == 0 or (updates < REFRESH and updates & (updates - 1) == 0)


def decomposition_loss(model: RewardModel, subsets: Subsets, config: RewardConfig) -> tuple[Tensor, Metrics]:
    """`rrd_loss` of the network's rewards on the subsets; metrics in the environment's units."""
    m, k = subsets.mask.shape
    flat = [x.reshape(m * k, *x.shape[2:]) for x in (subsets.obs, subsets.act, subsets.next_obs)]
    loss, metrics = rrd_loss(
        model(*flat).reshape(-1, m, k),
        subsets.episode_return / model.scale,
        subsets.length,
        target=config.target,
        bias_correction=config.rrd_bias_correction and config.alg == "rrd",
        mask=subsets.mask,
    )
    unit = model.scale
    return loss, {name: value * (unit if name == "R_rmse" else unit.square()) for name, value in metrics.items()}


class Decomposition:
    """Learns the network on random subsets (`rrd`) or whole episodes (`rd`) and answers with its mean."""

    def __init__(
        self,
        spec: Spec,
        config: RewardConfig,
        generator: torch.Generator,
        norm: RunningNorm | None,
        device: torch.device,
    ):
        self.config, self.device = config, device
        self.model = RewardModel(spec, config.r_hidden, config.rrd_ensemble, generator, norm).to(device)
        self.optim = Adam(list(self.model.net.parameters()), config.r_lr)
        self.updates = 0
        self.first = 0  # episode of the first entry of `missing`
        self.missing = torch.zeros(0, device=device)  # (R - sum r)/T of each stored episode

    def closed(self, episode: Episode) -> Episode:
        if self.config.reward_scale == "running":
            self.model.observe(per_step_return(episode))
        if self.config.return_correction:
            self.missing = torch.cat([self.missing, self._missing(episode).reshape(1)])
        return episode

    def draws(self, store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams) -> Iterator[Drawn]:
        k = self.config.rrd_sample_size if self.config.alg == "rrd" else None
        m, by = self.config.subsets_per_update, self.config.episode_sampling
        batches = sample.batches(store, updates, n, gamma, streams, "batch")
        for batch, subsets in zip(batches, sample.subset_batches(store, updates, m, k, streams, by), strict=True):
            if self.config.return_correction:  # in `reward`, for nobody here reads what the environment showed
                batch = replace(batch, reward=self._correction(store, batch))
            self.updates += 1
            yield batch, subsets

    def _correction(self, store: EpisodeStore, batch: Batch) -> Float[Tensor, "n"]:
        if _refresh_due(self.updates):
            self.first = store.first_id
            self.missing = torch.stack([self._missing(store.episode(i)) for i in range(store.first_id, store.next_id)])
        missing = self.missing[batch.episode.to(self.device) - self.first]
        return missing.to(batch.reward.device)

    def learn(self, subsets: Subsets | None) -> Metrics:
        assert subsets is not None
        loss, metrics = decomposition_loss(self.model, subsets, self.config)
        self.optim.minimize(loss)
        return metrics

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        reward = self.model.predict(batch.obs, batch.act, batch.next_obs)
        return reward + batch.reward if self.config.return_correction else reward

    def _missing(self, episode: Episode) -> Tensor:
        predicted = self.model.steps(episode.obs, episode.act).sum()
        return (episode.episode_return - predicted) / episode.length

    def state(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "optim": self.optim.state(),
            "updates": self.updates,
            "first": self.first,
            "missing": self.missing,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optim.load_state(state["optim"])
        self.updates, self.first = state["updates"], state["first"]
        self.missing = state["missing"].to(self.device)
