"""Steps the environments, keeps their open episodes, closes them, and takes up an interrupted episode exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from apportion.envs.faults import TRY, check_finite, said
from apportion.rng import Streams
from apportion.store.frames import seen_now
from apportion.types import Episode, Spec, UserError

T = TypeVar("T")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class ActionMap:
    """From actions as agents and store hold them to actions in the environment's own units, shape and dtype."""

    def __init__(self, space: gym.Space):
        self._space = space
        if isinstance(space, spaces.Box):
            low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
            self._low, self._high, self._middle, self._half = low, high, (high + low) / 2, (high - low) / 2

    def __call__(self, act: np.ndarray) -> np.ndarray:
        """(n, act_dim) in [-1, 1] to (n, *shape of the space) in its bounds; (n,) in [0, act_dim) to its integers."""
        if isinstance(self._space, spaces.Discrete):
            return act + int(self._space.start)
        # Middle and half range in float64: the identity, to the bit, where the bounds are [-1, 1].
        scaled = np.clip(self._middle + act * self._half, self._low, self._high)
        return scaled.reshape(len(act), *(self._space.shape or ())).astype(self._space.dtype)


class _Open:
    """The open episode of one environment, in arrays that double when full; they are kept for the next episode."""

    def __init__(self, spec: Spec, rows: int = 64):
        self.seed = 0
        self.length = 0
        self._obs = np.zeros((rows + 1, *spec.obs_shape), spec.obs_dtype)
        self._act = np.zeros((rows, *spec.act_shape), spec.act_dtype)
        self._reward = np.zeros(rows, np.float32)

    @property
    def obs(self) -> np.ndarray:  # (T + 1, *obs)
        return self._obs[: self.length + 1]

    @property
    def act(self) -> np.ndarray:  # (T, *act)
        return self._act[: self.length]

    @property
    def reward(self) -> np.ndarray:  # (T,)
        return self._reward[: self.length]

    def begin(self, seed: int, obs: np.ndarray) -> None:
        self.seed, self.length = seed, 0
        self._obs[0] = obs

    def append(self, act: np.ndarray | np.generic, reward: np.floating, next_obs: np.ndarray) -> None:
        t = self.length
        if t == len(self._act):
            self._obs = np.concatenate([self._obs, np.zeros_like(self._obs[1:])])
            self._act = np.concatenate([self._act, np.zeros_like(self._act)])
            self._reward = np.concatenate([self._reward, np.zeros_like(self._reward)])
        self._act[t], self._reward[t], self._obs[t + 1] = act, reward, next_obs
        self.length = t + 1

    def close(self, terminated: bool, env: int) -> Episode:
        return Episode(self.obs.copy(), self.act.copy(), self.reward.copy(), terminated, env, self.seed)

    def state(self) -> dict[str, Any]:
        return {"seed": self.seed, "obs": self.obs.copy(), "act": self.act.copy(), "reward": self.reward.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        obs, act, reward = (np.asarray(state[name]) for name in ("obs", "act", "reward"))  # arrays or CPU tensors
        self.begin(int(state["seed"]), obs[0])
        for t in range(len(act)):
            self.append(act[t], reward[t], obs[t + 1])


def random_actions(spec: Spec, n: int, rng: np.random.Generator) -> np.ndarray:
    """n actions, uniform over the action space: (n, act_dim) float32 in [-1, 1), or (n,) int64."""
    if spec.act_kind == "discrete":
        return rng.integers(spec.act_dim, size=n)
    return rng.random((n, spec.act_dim), dtype=np.float32) * 2 - 1


class Collector:
    """Steps a vector of N environments and hands out each episode when it closes.

    Every episode is reset explicitly, alone, with its own seed from the stream `env/<index>`; the environments
    (autoreset disabled) are reset at the first step. `terminated` of an episode is never set by a truncation.
    """

    def __init__(
        self,
        envs: SyncVectorEnv | AsyncVectorEnv,
        spec: Spec,
        streams: Streams,
        warn: Callable[[str], None] = _to_stderr,
    ):
        self.envs, self.spec, self.streams, self._warn = envs, spec, streams, warn
        self.env_steps = 0  # steps taken, over all environments
        self.episodes = 0  # episodes closed, over all environments
        self._open = [_Open(spec) for _ in range(envs.num_envs)]
        self._raw: np.ndarray | None = None  # (N, *obs) as the environments gave them, often float64
        self._obs = np.zeros((envs.num_envs, *spec.obs_shape), spec.obs_dtype)  # the same as stored
        self._to_env = ActionMap(envs.single_action_space)

    @property
    def num_envs(self) -> int:
        return self.envs.num_envs

    def step(self, action_fn: Callable[[np.ndarray], np.ndarray]) -> list[Episode]:
        """One step of every environment; returns the episodes that it closed, in the environments' order.

        `action_fn` gets what is seen (N, *seen_shape), gives actions: (N, act_dim) float32 in [-1, 1], or (N,) int64.
        Raises UserError when an action, observation or reward is NaN or infinite, and for a fault in an environment.
        """
        if self._raw is None:
            self._raw = np.zeros(self.envs.observation_space.shape or (), self.envs.single_observation_space.dtype)
            self._reset(np.ones(self.num_envs, np.bool_))
        act = self._checked_actions(action_fn(self._seen()))
        raw, reward, terminated, truncated, _ = self._ask(lambda: self.envs.step(self._to_env(act)))
        obs, reward = self._stored(raw, self.spec.obs_dtype), self._stored(reward, "float32")
        self._check_finite("observation", obs, steps_ahead=1)
        self._check_finite("reward", reward, steps_ahead=1)
        self._raw, self._obs = raw, obs
        self.env_steps += self.num_envs
        for i, episode in enumerate(self._open):
            episode.append(act[i], reward[i], obs[i])
        ended = np.logical_or(terminated, truncated)
        closed = [self._open[i].close(bool(terminated[i]), int(i)) for i in np.flatnonzero(ended)]
        if closed:
            self.episodes += len(closed)
            self._reset(ended)
        return closed

    def _seen(self) -> np.ndarray:
        if self.spec.frames == 1:
            return self._obs
        return np.stack([seen_now(episode.obs, self.spec.frames) for episode in self._open])

    def close(self) -> None:
        """Close the environments, whatever state a fault has left them in."""
        try:
            self.envs.close()
        except Exception:  # a process that died does not answer: the others are ended
            for process in getattr(self.envs, "processes", ()):
                process.terminate()
            self.envs.closed = True

    def random_actions(self, streams: Streams) -> np.ndarray:
        """Uniform over the action space, from the stream `warmup`: (N, act_dim) float32 in [-1, 1), or (N,) int64."""
        return random_actions(self.spec, self.num_envs, streams.generator("warmup"))

    def state(self) -> dict[str, Any]:
        """Counters and open episodes; the streams are saved by their owner."""
        return {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "raw": None if self._raw is None else self._raw.copy(),
            "open": {} if self._raw is None else {str(i): episode.state() for i, episode in enumerate(self._open)},
        }

    def load_state(self, state: dict[str, Any]) -> bool:
        """Play every open episode again from its seed and compare the last observations, bit for bit.

        Load the streams first. Returns False if any environment could not be brought back; its open episode is
        dropped with a warning and a fresh one started. Raises UserError for another number of environments.
        """
        saved = state["open"]
        if saved and len(saved) != self.num_envs:
            raise UserError(
                f"the checkpoint holds {len(saved)} environments, this run {self.num_envs}: use the same --num-envs"
            )
        self.env_steps, self.episodes = int(state["env_steps"]), int(state["episodes"])
        if state["raw"] is None:
            self._raw = None
            return True
        for i, episode in enumerate(self._open):
            episode.load_state(saved[str(i)])
        self._raw = np.asarray(state["raw"]).copy()
        self._obs = np.stack([episode.obs[-1] for episode in self._open])
        # A plain reset first: the vector environment forgets about episodes that had ended, if it was used before.
        self._reset_envs([episode.seed for episode in self._open], np.ones(self.num_envs, np.bool_))
        episodes = [(episode.seed, self._to_env(episode.act)) for episode in self._open]
        replayed = self._ask(lambda: self.envs.call("replay", episodes))
        differs = np.array([not self._same(i, obs) for i, obs in enumerate(replayed)], np.bool_)
        for i in np.flatnonzero(differs):
            self._warn(
                f"warning: environment {i} did not repeat its open episode (seed {self._open[i].seed}, step "
                f"{self._open[i].length}): the episode is dropped and a new one begun, so this resume is not exact"
            )
        if differs.any():
            self._reset(differs)
        return not differs.any()

    def _same(self, i: int, obs: np.ndarray | None) -> bool:
        assert self._raw is not None
        # The vector environment casts to the space's dtype, so the replayed observation is cast before comparing.
        return obs is not None and np.asarray(obs, self._raw.dtype).tobytes() == self._raw[i].tobytes()

    def _reset(self, mask: np.ndarray) -> None:
        """Reset exactly the environments where `mask` (N,) is True, each with a new seed of its own."""
        assert self._raw is not None
        seeds: list[int | None] = [self.streams.integer(f"env/{i}") if mask[i] else None for i in range(self.num_envs)]
        raw = self._reset_envs(seeds, mask)
        self._raw[mask] = raw[mask]
        self._obs[mask] = self._stored(raw[mask], self.spec.obs_dtype)
        for i, seed in enumerate(seeds):
            if seed is not None:
                self._open[i].begin(seed, self._obs[i])
        self._check_finite("observation", self._obs, steps_ahead=0)

    def _reset_envs(self, seeds: list[int | None], mask: np.ndarray) -> np.ndarray:
        return self._ask(lambda: self.envs.reset(seed=seeds, options={"reset_mask": mask.copy()})[0])

    def _ask(self, question: Callable[[], T]) -> T:
        """What the environments answer; what goes wrong outside of any one of them becomes a UserError too."""
        try:
            return question()
        except UserError:  # an environment's own fault, which names it
            raise
        except Exception as error:
            raise UserError(f"the environments stopped working: {said(error)}: {TRY}") from error

    def _checked_actions(self, act: np.ndarray) -> np.ndarray:
        act = np.asarray(act, self.spec.act_dtype)
        if act.shape != (self.num_envs, *self.spec.act_shape):
            raise ValueError(f"actions of shape {act.shape}, expected {(self.num_envs, *self.spec.act_shape)}")
        if self.spec.act_kind == "discrete":
            return act
        self._check_finite("action", act, steps_ahead=1)
        return np.clip(act, -1, 1)  # what is stored is what was done

    def _stored(self, values: np.ndarray, dtype: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which `_check_finite` reports
            return values.astype(dtype)

    def _check_finite(self, what: str, values: np.ndarray, steps_ahead: int) -> None:
        check_finite(
            what, values, lambda i: (f"environment {i}", self._open[i].length + steps_ahead, self._open[i].seed)
        )
