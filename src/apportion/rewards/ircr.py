"""IRCR: guidance rewards without a model (Gangwani, Zhou & Peng, NeurIPS 2020, arXiv 2010.12718)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.rewards.source import Drawn
from apportion.rng import Streams
from apportion.store import sample
from apportion.store.episodes import EpisodeStore
from apportion.store.sample import BestEpisodes
from apportion.types import Batch, Episode, Metrics, Spec, Subsets, UserError


class IRCR:
    """Every transition of an episode gets the episode's credit, min-max scaled over the stored and the best episodes.

    Half of each batch comes from the FIFO store, half from the ten best episodes ever seen. Credit: the return R in
    the RRD code's form ("rrd"), R/T in the IRCR paper's ("official"). Where all credits are equal the scaled reward
    would be 0/0: it is 0, and the metric `flat` says so.
    """

    def __init__(self, spec: Spec, variant: Literal["rrd", "official"], device: torch.device, best: int = 10):
        self.variant = variant
        self.best = BestEpisodes(spec, best)
        self.low, self.high = (torch.zeros((), device=device) for _ in range(2))

    def closed(self, episode: Episode) -> Episode:
        self.best.offer(episode)
        return episode

    def draws(self, store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams) -> Iterator[Drawn]:
        if n < 2:
            raise UserError("ircr draws half of a batch from its best episodes: ask for 2 transitions at least")
        per_step = self.variant == "official"
        credits = [s.returns / s.lengths if per_step else s.returns for s in (store, self.best.store)]
        self.low.fill_(min(float(c.min()) for c in credits))
        self.high.fill_(max(float(c.max()) for c in credits))
        recent = sample.batches(store, updates, n - n // 2, gamma, streams, "batch")
        best = sample.batches(self.best.store, updates, n // 2, gamma, streams, "best")
        for halves in zip(recent, best, strict=True):
            yield Batch(*(torch.cat([getattr(half, f.name) for half in halves]) for f in fields(Batch))), None

    def learn(self, subsets: Subsets | None) -> Metrics:
        span = self.high - self.low
        return {"credit_span": span.clone(), "flat": (span <= 0).float()}

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        credit = batch.episode_return / batch.length if self.variant == "official" else batch.episode_return
        span = self.high - self.low
        return torch.where(span > 0, (credit - self.low) / span, torch.zeros_like(credit))

    def state(self) -> dict[str, Any]:
        return {"best": self.best.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best.load_state(state["best"])
