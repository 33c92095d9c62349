"""A world of your own for human power, and people of your own: no grid, no Gymnasium, just what `World` asks for.

    cd examples && apportion power train own_power_world:Bridge --preset lookup --num-episodes 600 --name bridge
    cd examples && apportion power solve own_power_world:Bridge                    # exactly, for it has `successors`
    python examples/own_power_world.py --episodes 600                              # from Python, with shorter stages

A human walks along five cells; between the third and the fourth is a bridge, which bears only while the robot held its
rope in the step before. A state is a row of numbers, (position, is the bridge held?); many states are (n, 2).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from apportion.power.learn.config import Phase2Config
from apportion.power.learn.presets import PRESETS
from apportion.power.params import PowerParams
from apportion.power.world import Successors, World
from apportion.run.metrics import read_lines
from apportion.train.power import train_power
from apportion.types import UserError

CELLS, GAP, SLIP = 5, 2, 0.1  # the bridge leads from cell GAP to the next; a step fails with probability SLIP


class Bridge:
    """A `World` (apportion/power/world.py), one human and one robot; its one-step model is known."""

    name = "bridge"
    agents = ("walker", "robot")
    humans, robots = (0,), (1,)
    actions = (("still", "left", "right"), ("rest", "hold"))
    still = (0, 0)  # of each agent, the action that does nothing
    goals = tuple(f"cell {i}" for i in range(CELLS))
    goal_weights = np.full(CELLS, 1 / CELLS)  # they sum to 1
    horizon: int | None = 8
    enumerable = True  # without `successors`: False, and --preset sampled

    def initial(self) -> np.ndarray:
        return np.array([0, 0], np.int16)

    def successors(self, states: np.ndarray, joints: np.ndarray) -> Successors:
        """Of each (state, joint action) what may follow, one after the other, and how likely it is."""
        rows = np.stack([self._after(states, joints, moved) for moved in (False, True)], 1)  # (n, 2, F)
        differs = (rows[:, 0] != rows[:, 1]).any(1)
        probs = np.stack([np.where(differs, SLIP, 1.0), np.where(differs, 1 - SLIP, 0.0)], 1)
        kept = probs > 0
        offsets = np.concatenate([[0], np.cumsum(kept.sum(1))])
        return Successors(offsets, rows[kept], probs[kept])

    def transitions(self, state: np.ndarray, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, states, probs = self.successors(state[None], joint[None])
        return states, probs

    def sample(self, states: np.ndarray, joints: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return self._after(states, joints, noise >= SLIP)

    def _after(self, states: np.ndarray, joints: np.ndarray, moved: np.ndarray | bool) -> np.ndarray:
        at, held = states.T
        to = np.clip(at + np.array([0, -1, 1])[joints[:, 0]], 0, CELLS - 1)
        over = (np.minimum(at, to) == GAP) & (at != to)
        goes = np.asarray(moved) & ~(over & (held == 0))
        return np.stack([np.where(goes, to, at), joints[:, 1]], 1).astype(np.int16)

    def terminal(self, states: np.ndarray) -> np.ndarray:
        return np.zeros(len(states), bool)

    def attained(self, states: np.ndarray) -> np.ndarray:
        return (states[:, :1] == np.arange(CELLS))[:, None]  # (n, humans, goals)

    def encode(self, states: np.ndarray) -> np.ndarray:
        return np.concatenate([states[:, :1] == np.arange(CELLS), states[:, 1:]], 1).astype(np.float32)

    def describe(self, state: np.ndarray) -> dict[str, Any]:
        return {"at": int(state[0]), "held": bool(state[1])}

    def parse(self, description: dict[str, Any]) -> np.ndarray:
        try:
            return np.array([description["at"], description["held"]], np.int16)
        except KeyError as missing:
            raise UserError(f"state: {missing} is missing") from None

    def render(self, state: np.ndarray) -> np.ndarray:
        picture = np.full((20, 20 * CELLS, 3), 235, np.uint8)
        picture[8:12, 20 * GAP + 15 : 20 * GAP + 25] = (90, 160, 90) if state[1] else (200, 60, 60)
        picture[6:14, 20 * int(state[0]) + 6 : 20 * int(state[0]) + 14] = (40, 80, 200)
        return picture


class Strollers:
    """People of your own (`HumanPrior`): towards the goal three times out of four, else anywhere."""

    def __init__(self, world: World, params: PowerParams):
        """Made once for a run; these look at neither."""

    def __call__(self, states: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(n, 2) states to probabilities (n, humans, goals, actions), float32."""
        way = np.sign(np.arange(CELLS) - states[:, :1])  # (n, goals): -1, 0 or 1
        towards = np.array([1, 0, 2])[way + 1]  # the action's number
        return (0.25 / 3 + 0.75 * (towards[..., None] == np.arange(3)))[:, None].astype(np.float32)

    def state(self) -> dict[str, Any]:
        """What it has learned, for the checkpoint: nothing."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--run", type=Path, default=Path("runs/bridge"))
    args = parser.parse_args()
    short = dict.fromkeys(("warmup_v_h_e_steps", "warmup_q_r_steps", "beta_r_rampup_steps"), 500)
    settings = PRESETS["lookup"].changes | short | {"epsilon_decay_steps": 4_000, "num_episodes": args.episodes}
    train_power(Phase2Config(world="own_power_world:Bridge", **settings), args.run)
    last = read_lines(args.run / "evaluations.jsonl")[-1]
    print(f"share of what the exact solution gains: {last['share']:.4f}")


if __name__ == "__main__":
    main()
