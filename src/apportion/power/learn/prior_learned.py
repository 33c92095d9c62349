"""A learned human prior: a network for Q_h^m of all humans, goals and actions at once, trained before anything else.

Where the world is enumerable its targets are those of Phase 1, with the believed robot inside, as the exact solver has
them. Where the world can only be sampled they are what was seen, which allows for the belief that robots act uniformly,
and no other. Letters as in prior.py; E features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from apportion.nets.mlp import MLP
from apportion.nets.optim import Adam, polyak_
from apportion.power import equations as eq
from apportion.power.learn.features import features, width
from apportion.power.learn.prior import policy_of_values
from apportion.power.learn.prior_data import Batch, Data, ModelData, SampledData
from apportion.power.params import PowerParams, check
from apportion.power.world import World
from apportion.rng import Streams
from apportion.types import UserError

HIDDEN = (256, 256)
BATCH = 64  # states of one gradient step
LEARNING_RATE = 1e-3  # of Adam; over the second half it falls to 0
TARGET_KEEP = 0.98  # of the target network in each step
LOW = -4.0  # the output's bias at first: values grow from nearly 0, as they do with longer and longer horizons


class LearnedPrior:
    """pi_h from a network's Q_h^m. As initialised until `train` or `load_state`; the same seed gives the same numbers.

    Raises UserError for a world that can only be sampled, unless robots are believed to act uniformly.
    """

    def __init__(self, world: World, params: PowerParams, seed: int):
        check(params, world.horizon)
        if not world.enumerable and params.robot_belief != "mean":
            raise UserError(
                f"{world.name} can only be sampled, so nobody knows the robots' best or worst: give --human-prior "
                "learned with --robot-belief mean, or --human-prior module:Class"
            )
        self.world, self.params, self.streams = world, params, Streams(seed)
        self.sizes = tuple(len(world.actions[h]) for h in world.humans)
        self._shape = (len(world.humans), len(world.goals), max(self.sizes))
        self.net = self._network()

    def _network(self) -> MLP:
        sizes = (width(self.world), *HIDDEN, int(np.prod(self._shape)))
        net = MLP(sizes, self.streams.torch_generator("prior/network"))
        torch.nn.init.constant_(net.biases[-1], LOW)
        return net

    def __call__(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """See HumanPrior."""
        with torch.no_grad():
            q = torch.sigmoid(self._logits(self.net, torch.from_numpy(features(self.world, states, t)))).numpy()
        over = self.world.terminal(states)
        if self.world.horizon is not None:
            over = over | (np.asarray(t) >= self.world.horizon)
        q[over] = 0
        return policy_of_values(q, self.world.attained(states), self.world, self.params)

    def train(self, steps: int, say: Callable[[str], None] = lambda line: None) -> None:
        """So many gradient steps, from the network as it is. `say` is told how it went, in one line."""
        if steps == 0:
            return
        made = ModelData if self.world.enumerable else SampledData
        data: Data = made(self.world, self.params, self.streams)
        target, adam = self._network(), Adam(list(self.net.parameters()), LEARNING_RATE)
        polyak_(target, self.net, 0.0)
        error = 0.0
        for step in range(steps):
            data.collect(self)
            batch = data.batch(BATCH, lambda x, attained: self._value(target, x, attained))
            adam.lr = LEARNING_RATE * min(1.0, 2 * (1 - step / steps))
            logits = self._logits(self.net, batch.features)
            adam.minimize(_loss(logits, batch))
            polyak_(target, self.net, TARGET_KEEP)
            if step >= steps - min(100, steps):
                error += _error(logits.detach(), batch) / min(100, steps)
        say(f"human prior: {steps:,} training steps, Q_h^m is {error:.4f} away from its targets on average")

    def _logits(self, net: MLP, x: Float[Tensor, "n E"]) -> Float[Tensor, "n H G A"]:
        return net(x).view(-1, *self._shape)

    @torch.no_grad()
    def _value(self, net: MLP, x: Float[Tensor, "n E"], attained: Bool[Tensor, "n H G"]) -> Float[Tensor, "n H G"]:
        """V_h^m, were there time left and the episode to go on."""
        q, values = torch.sigmoid(self._logits(net, x)), []
        for h, (agent, size) in enumerate(zip(self.world.humans, self.sizes, strict=True)):
            own, holds = q[:, h, :, :size], attained[:, h]
            policy = eq.human_policy(own, holds, self.params.beta_h, self.world.still[agent], self.params.nu_h)
            values.append(eq.human_value(policy, own, holds))
        return torch.stack(values, 1)

    def state(self) -> dict[str, Any]:
        """The network's parameters."""
        return {"network": dict(self.net.state_dict())}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError if it is the state of a prior of another world."""
        try:
            self.net.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ValueError(f"no human prior of {self.world.name}: {error}") from None


def _loss(logits: Float[Tensor, "n H G A"], batch: Batch) -> Float[Tensor, ""]:
    """Cross-entropy with targets in [0, 1]: least where the network says their mean, and never flat."""
    each = F.binary_cross_entropy_with_logits(logits, batch.target, weight=batch.weight, reduction="sum")
    return each / batch.weight.sum().clamp(min=1)


def _error(logits: Float[Tensor, "n H G A"], batch: Batch) -> float:
    error = (torch.sigmoid(logits) - batch.target).abs() * batch.weight
    return float(error.sum() / batch.weight.sum().clamp(min=1))
