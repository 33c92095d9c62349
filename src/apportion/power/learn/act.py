"""Humans and robots act in several copies of a world: what the learner learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from apportion.power.learn.config import Phase2Config
from apportion.power.learn.features import features
from apportion.power.learn.goals import NONE, chances, draw, resample
from apportion.power.learn.networks import Estimators
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.replay import Steps
from apportion.power.learn.starts import starts
from apportion.power.learn.states import keys_of
from apportion.power.learn.targets import Nodes, policy
from apportion.power.world import World
from apportion.rng import Streams


class Actor:
    """`envs` episodes at a time. Its random numbers are those of `seed` and `name` alone, whoever acts beside it."""

    def __init__(self, world: World, prior: HumanPrior, config: Phase2Config, name: str):
        self.world, self.prior, self.config = world, prior, config
        self.streams, self.name = Streams(config.seed), f"act/{name}"
        self.limit = min(config.steps_per_episode, world.horizon or config.steps_per_episode)
        n = config.num_envs
        self.states: Shaped[np.ndarray, "e F"] = np.repeat(world.initial()[None], n, 0)
        self.t = np.full(n, self.limit)  # over: the first step starts them all
        self.goals = np.full((n, len(world.humans)), NONE)
        self.episodes = 0
        self._tried: dict[bytes, np.ndarray] = {}

    def collect(self, rounds: int, nets: Estimators, beta_r: float, epsilon: float) -> Steps:
        """`rounds` steps of each environment. Episodes that are over start anew."""
        return Steps.join([self._step(nets, beta_r, epsilon) for _ in range(rounds)])

    def _step(self, nets: Estimators, beta_r: float, epsilon: float) -> Steps:
        world, n = self.world, len(self.t)
        humans = len(world.humans)
        noise = self.streams.generator(self.name).random((n, 3 * humans + 4))
        self._start_anew(noise[:, -1])
        attained = world.attained(self.states)
        goal_noise = noise[:, : 2 * humans].reshape(n, humans, 2)
        goal_weights, change = world.goal_weights, self.config.goal_resample_prob
        wanted = chances(self.goals, attained, goal_weights, change)
        self.goals = resample(self.goals, attained, goal_weights, change, goal_noise)
        joint = np.zeros((n, len(world.agents)), np.int64)
        prior = self.prior(self.states, self.t)
        rows = np.arange(n)
        human_prob = np.zeros((n, humans), np.float32)
        for h, agent in enumerate(world.humans):
            joint[:, agent] = draw(prior[rows, h, self.goals[:, h]], noise[:, 2 * humans + h])
            human_prob[:, h] = (wanted[:, h] * prior[rows, h, :, joint[:, agent]]).sum(1)
        robots = self._behaviour(nets, beta_r, epsilon)
        chosen = draw(robots, noise[:, -2])
        if world.robots:
            sizes = [len(world.actions[r]) for r in world.robots]
            joint[:, list(world.robots)] = np.stack(np.unravel_index(chosen, sizes), 1)
        self._count(chosen)
        following = world.sample(self.states, joint, noise[:, -3])
        prob = robots[rows, chosen].astype(np.float32)
        steps = Steps(self.states, self.t.copy(), self.goals, joint, human_prob, prob, following)
        self.states, self.t = following, self.t + 1
        return steps

    def _start_anew(self, noise: Float[np.ndarray, "e"]) -> None:
        over = np.flatnonzero((self.t >= self.limit) | self.world.terminal(self.states))
        if len(over):
            self.states = self.states.copy()
            self.states[over] = starts(self.world, noise[over])
            self.t, self.goals = self.t.copy(), self.goals.copy()
            self.t[over], self.goals[over] = 0, NONE
            self.episodes += len(over)

    def _behaviour(self, nets: Estimators, beta_r: float, epsilon: float) -> Float[np.ndarray, "e R"]:
        """What robots do: pi_r, and with probability epsilon an action to explore."""
        n = len(self.t)
        count = nets.sizes.robot_actions
        explore = np.full((n, count), 1 / count)
        if self.config.curiosity > 0:
            keys = keys_of(self.states)
            tried = np.stack([self._tried.setdefault(key, np.zeros(count)) for key in keys])
            explore = (1 + tried) ** -self.config.curiosity
            explore /= explore.sum(1, keepdims=True)
        if beta_r == 0:
            follow = np.full((n, count), 1 / count)
        else:
            with torch.no_grad():
                follow = policy(nets, nodes_of(self.world, self.states, self.t), beta_r).double().numpy()
            follow /= follow.sum(1, keepdims=True)
        return epsilon * explore + (1 - epsilon) * follow

    def _count(self, chosen: Int[np.ndarray, "e"]) -> None:
        if self.config.curiosity > 0:
            for key, action in zip(keys_of(self.states), chosen.tolist(), strict=True):
                self._tried[key][action] += 1

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        tried = {}
        if self._tried:
            rows = np.stack([np.frombuffer(key, np.uint8) for key in self._tried])
            tried = {"keys": rows, "counts": np.stack(list(self._tried.values()))}
        return {
            "streams": self.streams.state(),
            "states": self.states.copy(),
            "t": self.t.copy(),
            "goals": self.goals.copy(),
            "episodes": self.episodes,
            "tried": tried,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.streams.load_state(state["streams"])
        self.states, self.t, self.goals = (np.array(state[name]) for name in ("states", "t", "goals"))
        self.episodes = int(state["episodes"])
        if state["tried"]:
            keys = (row.tobytes() for row in np.asarray(state["tried"]["keys"]))
            self._tried = dict(zip(keys, np.array(state["tried"]["counts"]), strict=True))


def nodes_of(world: World, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Nodes:
    """States at times as the estimators take them, on the CPU."""
    t = np.asarray(t)
    ended = world.terminal(states) if world.horizon is None else world.terminal(states) | (t >= world.horizon)
    last = np.zeros(len(t), bool) if world.horizon is None else t == world.horizon - 1
    return Nodes(
        features=torch.from_numpy(features(world, states, t)),
        attained=torch.from_numpy(world.attained(states)),
        last=torch.from_numpy(last),
        over=torch.from_numpy(ended),
    )
