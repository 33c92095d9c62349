"""A replay buffer for anybody's agent: the environment's steps go in, batches with learned rewards come out.

    buffer = DecompositionBuffer(spec_of(envs), "rrd", num_envs=envs.num_envs, seed=seed)
    buffer.add(obs, act, reward, terminated, truncated, next_obs)        # each step of the n environments
    batch = buffer.sample(256)                                           # batch.reward is learned, batch.discount known

Only returns are learned from, so the rewards may come at each step or all at the end. Only closed episodes are sampled.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from apportion.config import Alg, RewardConfig, to_json
from apportion.device import torch_device
from apportion.envs.faults import said
from apportion.rewards import RewardMethod, make_method
from apportion.rng import Streams
from apportion.run.files import write_atomic
from apportion.run.tree import from_bytes, to_bytes
from apportion.store.episodes import EpisodeStore
from apportion.types import Batch, Episode, Spec, UserError

Method = str | RewardConfig | RewardMethod
_NO_LAST = (
    "environment {env} begins an episode with the observation that the one before ended with: next_obs must be the "
    "episode's own last one (Gymnasium's vector environments: autoreset_mode SAME_STEP, then infos[\"final_obs\"])"
)
_CUT = (
    "environment {env}: obs is not the next_obs of the step before, so its open episode of {steps} steps is dropped: "
    "it has no end, so its return is not known"
)


class DecompositionBuffer:
    """The newest closed episodes of n environments, and a reward method that learns from their returns.

    `method`: rrd, rd, ircr, uniform, none or model by name; a `RewardConfig`; or a `RewardMethod` of your own, which
    then stays on the device it was made for. `capacity`: observations kept (an episode of T steps takes T + 1).
    `gamma` is what `Batch.discount` is made of. `actions`: are those that go in and come out in the environment's own
    units, or in [-1, 1] as stable-baselines3 keeps them? Discrete ones are the environment's integers in both.
    `device`: of the reward network and of what is sampled; episodes stay in main memory.
    Raises UserError for an unknown method or device, and for a capacity beyond the memory.
    """

    def __init__(
        self,
        spec: Spec,
        method: Method = "rrd",
        *,
        capacity: int = 1_000_000,
        num_envs: int = 1,
        gamma: float = 0.99,
        seed: int = 0,
        device: torch.device | str = "cpu",
        actions: Literal["env", "unit"] = "env",
    ):
        if num_envs < 1:
            raise UserError(f"num_envs={num_envs}: a buffer is of one environment at least")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise UserError(f"seed={seed!r}: a whole number, 0 or more")
        if not 0 <= gamma <= 1:
            raise UserError(f"gamma={gamma}: a discount is from 0 to 1")
        self.spec, self.given, self.num_envs, self.gamma, self.actions = spec, method, num_envs, gamma, actions
        self.device = torch_device(str(device))
        self.streams = Streams(seed)
        try:
            self.store = EpisodeStore(capacity, spec)
        except MemoryError as error:
            raise UserError(f"{error}: give a smaller capacity (stable-baselines3: buffer_size)") from None
        self.method = self._made()
        self.learned: dict[str, Tensor] = {}
        self._open = [_Open() for _ in range(num_envs)]
        self._told: set[str] = set()

    def _made(self) -> RewardMethod:
        given = self.given
        if isinstance(given, RewardMethod):
            return given
        if isinstance(given, str):
            if given not in get_args(Alg):
                raise UserError(f"method {given!r}: choose from {', '.join(get_args(Alg))}, or give a RewardConfig")
            if given == "model":
                raise UserError("method 'model' needs a run: give RewardConfig('model', model='runs/NAME')")
            given = RewardConfig(alg=given)  # type: ignore[arg-type]
        if not isinstance(given, RewardConfig):
            names = ", ".join(get_args(Alg))
            raise UserError(f"method {given!r}: give a name ({names}), a RewardConfig or a RewardMethod")
        return make_method(self.spec, given, self.streams.torch_generator("init"), None, self.device)

    # ---------------------------------------------------------------- adding

    def __len__(self) -> int:
        """Transitions that may be sampled: those of closed episodes."""
        return self.store.n_transitions

    @property
    def ready(self) -> bool:
        """Has an episode closed, so that `sample` has something to draw from?"""
        return self.store.n_episodes > 0

    def add(self, obs: Any, act: Any, reward: Any, terminated: Any, truncated: Any, next_obs: Any) -> list[Episode]:
        """One step of every environment, arrays (num_envs, ...), without that axis too where there is one environment.

        `next_obs` of an episode's last step is its last observation, whatever the vector resets to. Where `obs` is not
        the `next_obs` of the step before, the open episode is dropped: without an end its return is not known. A reset
        to the very observation that an episode stood at does not show: say it by `drop_open`.
        Returns the episodes that closed. Raises UserError for numbers that are not finite, or of another shape.
        """
        spec = self.spec
        before = self._column("obs", obs, spec.obs_dtype, spec.obs_shape)
        after = self._column("next_obs", next_obs, spec.obs_dtype, spec.obs_shape)
        acts = self._column("act", self._to_stored(act), spec.act_dtype, spec.act_shape)
        rewards = self._column("reward", reward, "float32", ())
        ends, cuts = (self._column(n, x, "bool", ()) for n, x in (("terminated", terminated), ("truncated", truncated)))
        closed = []
        for i, episode in enumerate(self._open):
            steps = episode.length
            if (why := episode.begin(before[i])) and why not in self._told:  # once: it would come at every episode
                self._told.add(why)
                warnings.warn(why.format(env=i, steps=steps), stacklevel=2)
            episode.append(acts[i], rewards[i], after[i])
            if ends[i] or cuts[i]:
                closed.append(self._close(i, bool(ends[i])))
        return closed

    def _close(self, i: int, terminated: bool) -> Episode:
        episode = self.method.closed(self._open[i].close(terminated, i, self.store.next_id, self.spec))
        self.store.add(episode)
        return episode

    def _column(self, name: str, values: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """(num_envs, *shape), a copy."""
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is reported
            array = np.array(values).astype(dtype)
        if array.shape == shape and self.num_envs == 1:
            array = array[None]
        if array.shape != (self.num_envs, *shape):
            raise UserError(f"add: {name} has shape {array.shape}, expected {(self.num_envs, *shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            i = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise UserError(f"add: {name} of environment {i} is not finite, at step {self._open[i].length + 1}")
        return array

    def forget(self) -> None:
        """Forgets all episodes, open ones too; the method keeps what it has learned."""
        self.store.refill(self.store.next_id, iter(()))
        self.drop_open()

    def drop_open(self) -> None:
        """Forgets the open episodes: for when the environments were reset in the middle of them."""
        for episode in self._open:
            episode.clear()

    # ---------------------------------------------------------------- sampling

    def sample(self, n: int) -> Batch:
        """n transitions of closed episodes, on `device`, after one gradient step of the reward model.

        Their rewards are what the method says now: nothing is stored relabelled. Raises UserError before the first
        episode has closed.
        """
        if n < 1:
            raise UserError(f"sample({n}): ask for 1 transition at least")
        if not self.ready:
            steps = max(episode.length for episode in self._open)
            raise UserError(
                f"no episode has ended yet (the longest open one has {steps} steps), and only closed ones are learned "
                "from: start learning after the first has (stable-baselines3: learning_starts above the steps of an "
                "episode times n_envs), or give the environment a time limit"
            )
        [(batch, subsets)] = self.method.draws(self.store, 1, n, self.gamma, self.streams)
        self.learned = self.method.learn(None if subsets is None else subsets.to(self.device))
        batch = batch.to(self.device)
        return replace(batch, reward=self.method(batch), act=self._from_stored(batch.act))

    @property
    def metrics(self) -> dict[str, float]:
        """Of the reward model's newest step: R_loss, R_var and R_rmse of rrd and rd (docs/methods.md)."""
        return {name: float(value) for name, value in self.learned.items()}

    def _to_stored(self, act: Any) -> np.ndarray:
        spec, act = self.spec, np.asarray(act)
        if spec.act_kind == "discrete":
            number = np.asarray(act - spec.act_start)
            if number.dtype.kind not in "iu" or np.any((number < 0) | (number >= spec.act_dim)):
                last = spec.act_start + spec.act_dim - 1
                raise UserError(f"add: act {act.tolist()}, expected whole numbers from {spec.act_start} to {last}")
            return number
        if act.size != self.num_envs * spec.act_dim:
            raise UserError(f"add: act has shape {act.shape}, expected {(self.num_envs, *spec.act_shape)}")
        if self.actions == "env":
            low, high = np.array(spec.act_low), np.array(spec.act_high)
            # middle and half range: the identity, to the bit, where the bounds are [-1, 1]
            act = (act.reshape(self.num_envs, -1) - (high + low) / 2) / ((high - low) / 2)
        return np.asarray(np.clip(act, -1, 1))  # NaN stays, and is reported

    def _from_stored(self, act: Tensor) -> Tensor:
        spec = self.spec
        if spec.act_kind == "discrete":
            return act + spec.act_start
        if self.actions == "unit":
            return act
        low, high = act.new_tensor(spec.act_low), act.new_tensor(spec.act_high)
        return act * ((high - low) / 2) + (high + low) / 2

    # ---------------------------------------------------------------- state

    def to(self, device: torch.device | str) -> None:
        """Moves the reward network, and what will be sampled, to `device`."""
        self.device = torch_device(str(device))
        if isinstance(self.given, str | RewardConfig):
            state, counters = self.method.state(), self.streams.state()
            self.method = self._made()
            self.method.load_state(state)
            self.streams.load_state(counters)  # the new network's initialisation drew nothing

    def state(self) -> dict[str, Any]:
        """Episodes, closed and open, reward method and random streams, as a tree of tensors, numbers and strings."""
        return {
            "about": self._about(),
            "streams": {"seed": self.streams.seed, "counters": self.streams.state()},
            "store": self.store.state(),
            "method": self.method.state(),
            "open": [episode.state() for episode in self._open],
        }

    def _about(self) -> dict[str, Any]:
        own = self.given if isinstance(self.given, str) else type(self.given).__name__
        method = to_json(self.given) if isinstance(self.given, RewardConfig) else own
        return {"spec": to_json(self.spec), "num_envs": self.num_envs, "method": method}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. Raises UserError for one of another environment, number of them, or method."""
        for what, here in self._about().items():
            if (there := state["about"][what]) != here:
                raise UserError(f"this state is of a buffer with another {what}: {_differing(there, here)}")
        self.method.load_state(state["method"])  # first: what does not fit shows here, and nothing else has changed
        self.streams = Streams(state["streams"]["seed"])
        self.streams.load_state(state["streams"]["counters"])
        self.store.load_state(state["store"])
        for episode, saved in zip(self._open, state["open"], strict=True):
            episode.load_state(saved)

    def save(self, path: Path | str) -> None:
        """The state as one file, whole or not at all: JSON, then safetensors; no code in it.

        Raises UserError where it cannot be written.
        """
        try:
            write_atomic(Path(path), to_bytes(self.state()))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error

    def load(self, path: Path | str) -> None:
        """What `save` wrote, into a buffer made with the same arguments. Raises UserError where it does not fit."""
        try:
            self.load_state(from_bytes(Path(path).read_bytes()))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{path} cannot be loaded into this buffer: {said(error)}") from error


def _differing(there: Any, here: Any) -> str:
    """What is not the same; of two dictionaries, the entries."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        return ", ".join(f"{name} {there.get(name)}, here {here.get(name)}" for name in names)
    return f"{there}, here {here}"


class _Open:
    """The open episode of one environment."""

    def __init__(self) -> None:
        self._obs: list[np.ndarray] = []
        self._act: list[Any] = []
        self._reward: list[Any] = []
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # first and last observation of the one before

    @property
    def length(self) -> int:
        return len(self._act)

    def begin(self, obs: np.ndarray) -> str:
        """Makes `obs` the observation that is acted on now; returns what is suspicious about it, if anything."""
        if self._obs and not np.array_equal(self._obs[-1], obs):
            self.clear()
            self._obs.append(obs)
            return _CUT
        if self._obs:
            return ""
        self._obs.append(obs)
        if self._before is None:
            return ""
        first, last = self._before  # an episode that ends as it began says nothing
        return _NO_LAST if np.array_equal(last, obs) and not np.array_equal(first, last) else ""

    def append(self, act: Any, reward: Any, next_obs: np.ndarray) -> None:
        self._obs.append(next_obs)
        self._act.append(act)
        self._reward.append(reward)

    def close(self, terminated: bool, env: int, number: int, spec: Spec) -> Episode:
        """The episode. Nobody told its seed: its running number takes that place."""
        episode = Episode(
            np.stack(self._obs),
            np.array(self._act, spec.act_dtype),
            np.array(self._reward, np.float32),
            terminated,
            env,
            number,
        )
        self._before = (self._obs[0], self._obs[-1])
        self.clear()
        return episode

    def clear(self) -> None:
        self._obs, self._act, self._reward = [], [], []

    def state(self) -> dict[str, Any]:
        if not self._obs:
            return {}
        return {"obs": np.stack(self._obs), "act": np.array(self._act), "reward": np.array(self._reward, np.float32)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._before = None
        self._obs, self._act, self._reward = ([np.array(x) for x in state.get(k, ())] for k in ("obs", "act", "reward"))
