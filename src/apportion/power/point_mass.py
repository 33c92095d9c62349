"""Two point masses in two rooms, and a robot that winds up the gate between them: a world without cells.

The rooms are the squares [0, 1) x [0, 1] and [1, 2] x [0, 1]. A human pushes itself in one of four directions; drag,
and a gust drawn anew at each step, do the rest. The wall at x = 1 has a gate in its middle, GAP wide when it is all
open. Who crosses x = 1 within the opening that the gate had before the step is let through; anybody else stops at the
wall. The gate falls shut by itself. Humans do not hinder one another; what they may want is to be in one of the rooms.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped, UInt8

from apportion.power.world import Successors
from apportion.types import UserError

WIDTH, HEIGHT, WALL = 2.0, 1.0, 1.0
GAP = 0.6  # of the wall's height, when the gate is open
PUSH, DRAG, GUST = 0.12, 0.6, 0.02  # velocity gained by a push; share of velocity kept; largest gust, each way
FASTEST = (PUSH + GUST) / (1 - DRAG)  # no velocity is larger: the limit of v <- DRAG v + PUSH + GUST
WIND = 0.35  # opening: wound in one step, up to half more or less by chance
FALL = 0.1  # lost in one step, unless wound up
_PER_HUMAN = 4  # fields: x, y and their velocities
_DIRECTIONS = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
_HUMAN_ACTIONS = ("still", "east", "west", "south", "north")
_ROBOT_ACTIONS = ("still", "open", "shut")
_TURN = np.array([0.0, WIND, -WIND])
_NAMES = ("x", "y", "vx", "vy")


class PointMass:
    """A `World` of a continuum of states: it can only be sampled. State: x, y, vx, vy of each human; the opening."""

    name = "point-mass"
    agents = ("human 0", "human 1", "robot")
    humans, robots = (0, 1), (2,)
    actions = (_HUMAN_ACTIONS, _HUMAN_ACTIONS, _ROBOT_ACTIONS)
    still = (0, 0, 0)
    goals = ("west room", "east room")
    enumerable = False

    def __init__(self, horizon: int | None = 20):
        self.horizon = horizon
        self.goal_weights: Float[np.ndarray, "G"] = np.full(len(self.goals), 1 / len(self.goals))

    def with_horizon(self, horizon: int | None) -> PointMass:
        """The same world with another number of steps; None: it goes on for ever."""
        return PointMass(horizon)

    def initial(self) -> Float64[np.ndarray, "F"]:
        """One human in the middle of each room, at rest; the gate is shut."""
        return np.array([0.5, 0.5, 0, 0, 1.5, 0.5, 0, 0, 0])

    def transitions(self, state: Shaped[np.ndarray, "F"], joint: Int[np.ndarray, "N"]) -> NoReturn:
        """There is a continuum of successors: UserError."""
        raise UserError(f"{self.name} has a continuum of states: it can only be sampled")

    def successors(self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"]) -> Successors:
        """As `transitions`: UserError."""
        raise UserError(f"{self.name} has a continuum of states: it can only be sampled")

    def sample(
        self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"], noise: Float[np.ndarray, "n"]
    ) -> Float64[np.ndarray, "n F"]:
        """One successor of each pair. Each number of `noise`, uniform in [0, 1), becomes the five that a step needs."""
        n, people = len(states), len(self.humans)
        chance = spread(noise, 2 * people + 1)
        gusts = GUST * (2 * chance[:, :-1].reshape(n, people, 2) - 1)
        bodies, opening = self._split(states)
        at, velocity = bodies[..., :2], bodies[..., 2:]
        velocity = DRAG * velocity + PUSH * _DIRECTIONS[joints[:, self.humans]] + gusts
        at, velocity = _moved(at, velocity, opening)
        turned = _TURN[joints[:, self.robots[0]]] * (0.5 + chance[:, -1]) - FALL * (joints[:, self.robots[0]] != 1)
        after = np.empty_like(states, np.float64)
        after[:, :-1] = np.concatenate([at, velocity], 2).reshape(n, -1)
        after[:, -1] = np.clip(opening + turned, 0, 1)
        return after

    def _split(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, H, 4) of the humans, (n,) openings."""
        return states[:, :-1].reshape(len(states), len(self.humans), _PER_HUMAN), states[:, -1]

    def terminal(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n"]:
        """Nowhere: only the horizon ends an episode."""
        return np.zeros(len(states), bool)

    def attained(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n H G"]:
        """In which room each human is: in exactly one."""
        east = self._split(states)[0][..., 0] >= WALL
        return np.stack([~east, east], -1)

    def encode(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """Positions, velocities and the opening, each in [-1, 1], and in which room each human is."""
        bodies, opening = self._split(states)
        scale = np.array([WIDTH / 2, HEIGHT / 2, FASTEST, FASTEST])
        scaled = (bodies - [WIDTH / 2, HEIGHT / 2, 0, 0]) / scale
        side = np.where(bodies[..., 0] < WALL, -1.0, 1.0)
        columns = [scaled.reshape(len(states), -1), side, 2 * opening[:, None] - 1]
        return np.concatenate(columns, 1).astype(np.float32)

    def describe(self, state: Shaped[np.ndarray, "F"]) -> dict[str, Any]:
        """{"humans": [{"x", "y", "vx", "vy"}, ...], "opening"}."""
        bodies, opening = self._split(state[None])
        people = [dict(zip(_NAMES, body.tolist(), strict=True)) for body in bodies[0]]
        return {"humans": people, "opening": float(opening[0])}

    def parse(self, description: dict[str, Any]) -> Float64[np.ndarray, "F"]:
        """The state that a description means. Raises UserError for what lies outside the world."""
        try:
            people = [[float(body[name]) for name in _NAMES] for body in description["humans"]]
            opening = float(description["opening"])
        except KeyError as error:
            raise UserError(f"state: {error.args[0]!r} is missing") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"state: not a description of a state: {error}") from None
        if len(people) != len(self.humans):
            raise UserError(f"state: it has {len(people)} humans, the world has {len(self.humans)}")
        for i, body in enumerate(people):
            for name, value, low, high in zip(
                _NAMES, body, (0, 0, -FASTEST, -FASTEST), (WIDTH, HEIGHT, FASTEST, FASTEST), strict=True
            ):
                if not low <= value <= high:  # NaN fails as well
                    raise UserError(f"state: human {i}: {name} is from {low:g} to {high:g}, not {value:g}")
        if not 0 <= opening <= 1:
            raise UserError(f"state: opening is from 0 to 1, not {opening:g}")
        return np.array([*(x for body in people for x in body), opening])

    def render(self, state: Shaped[np.ndarray, "F"]) -> UInt8[np.ndarray, "h w 3"]:
        """The two rooms from above; the humans, each with a line that says where to and how fast."""
        from apportion.power.grid.shapes import box, disc, mixed, pixels, stroke

        bodies, opening = self._split(state[None])
        half, edge, thick = GAP * float(opening[0]) / 2, 0.06, 0.03
        middle = HEIGHT / 2
        shapes = [box(edge + i * WALL, edge, WALL, HEIGHT, color) for i, color in enumerate(("#f2f2ee", "#e4e4de"))]
        shapes.append(box(edge, edge, WIDTH, HEIGHT, "", "#333333", thick))
        wall, leaf, left = middle - GAP / 2, GAP / 2 - half, edge + WALL - thick / 2
        shapes += [box(left, edge + top, thick, wall, "#333333") for top in (0.0, middle + GAP / 2)]
        shapes += [box(left, edge + top, thick, leaf, "#b07030") for top in (middle - GAP / 2, middle + half)]
        for body, color in zip(bodies[0].tolist(), ("#d0a000", "#2060c0"), strict=True):
            x, y, vx, vy = edge + body[0], edge + body[1], body[2], body[3]
            shapes.append(stroke([(x, y), (x + vx, y + vy)], mixed(color, "#000000", 0.4), 0.015))
            shapes.append(disc(x, y, 0.04, color, "#222222", 0.01))
        return pixels(shapes, WIDTH + 2 * edge, HEIGHT + 2 * edge, 200, "#ffffff")


def _moved(at: np.ndarray, velocity: np.ndarray, opening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (n, H, 2) after one step of time; whoever meets a wall stops there, and slides along."""
    to = at + velocity
    side, other = at[..., 0] < WALL, to[..., 0] < WALL
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (WALL - at[..., 0]) / velocity[..., 0]  # of the step, until the wall
    height = at[..., 1] + np.where(side == other, 0.0, share) * velocity[..., 1]
    shut = (side != other) & (np.abs(height - HEIGHT / 2) >= GAP / 2 * opening[:, None])
    to[..., 0] = np.where(shut, np.where(side, np.nextafter(WALL, 0), WALL), to[..., 0])
    inside = np.clip(to, 0, [WIDTH, HEIGHT])
    stopped = inside != to
    stopped[..., 0] |= shut
    return inside, np.where(stopped, 0.0, velocity)


def spread(noise: Float[np.ndarray, "n"], count: int) -> Float64[np.ndarray, "n k"]:
    """`count` numbers of each one, all uniform in [0, 1): SplitMix64 (Steele et al. 2014) over its bits."""
    bits = np.ascontiguousarray(noise, np.float64).view(np.uint64)[:, None]
    z = bits + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)  # modulo 2**64, on purpose
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
