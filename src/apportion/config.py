"""Typed settings: every flag of `apportion train`, one frozen dataclass per room, to JSON and back."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from apportion.types import UserError

C = TypeVar("C")
Alg = Literal["rrd", "rd", "ircr", "uniform", "none"]


_POSITIVE = ("pi_lr", "q_lr", "r_lr", "alpha_init", "adam_eps", "hidden", "r_hidden", "train_target", "pi_delay_freq")
_NOT_NEGATIVE = ("alpha_lr", "std_act", "pi_t_std", "pi_t_clip", "q_reg", "eps_decay", "max_grad_norm")
_SHARE = ("polyak", "eps_l", "eps_r", "gamma")


@functools.cache
def _choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """The values allowed for each setting of `cls` that has a few only."""
    hints = typing.get_type_hints(cls).items()
    return {name: typing.get_args(hint) for name, hint in hints if typing.get_origin(hint) is Literal}


def _check(config: Any) -> None:
    """Raises UserError for the first setting that is out of its range."""
    choices = _choices(type(config))
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        flag = f"--{f.name.replace('_', '-')} {value}"
        if f.name in choices and value not in choices[f.name]:
            raise UserError(f"{flag}: choose from {', '.join(choices[f.name])}")
        values = value if isinstance(value, tuple | list) else (value,)
        if f.name in _POSITIVE and not all(x > 0 for x in values):
            raise UserError(f"{flag}: it must be greater than 0")
        if f.name in _NOT_NEGATIVE and not all(x >= 0 for x in values):
            raise UserError(f"{flag}: it must not be negative")
        if f.name in _SHARE and not all(0 <= x <= 1 for x in values):
            raise UserError(f"{flag}: it must lie in [0, 1]")


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer, of policy and critics
    pi_lr: float = 3e-4  # step size of the policy
    q_lr: float = 3e-4  # step size of the critics
    polyak: float = 0.995  # share of the old target kept at each update
    alpha_init: float = 1.0  # first temperature
    alpha_lr: float = 3e-4  # step size of the log temperature; 0 keeps it fixed at alpha_init
    train_target: int = 1  # target networks move every so many updates
    critic_loss: Literal["mse", "huber"] = "mse"
    max_grad_norm: float = 0.0  # clip the gradient of policy and of critics to this norm; 0: never

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class TD3Config:
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477)."""

    hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer, of policy and critics
    pi_lr: float = 3e-4  # step size of the policy
    q_lr: float = 3e-4  # step size of the critics
    polyak: float = 0.995  # share of the old target kept at each move
    std_act: float = 0.1  # exploration noise, in units of the action range [-1, 1]
    pi_t_std: float = 0.2  # target policy smoothing noise
    pi_t_clip: float = 0.5  # and where it is clipped
    pi_delay_freq: int = 2  # the policy steps every so many critic updates
    train_target: int = 2  # target networks move every so many updates
    critic_loss: Literal["mse", "huber"] = "mse"
    max_grad_norm: float = 0.0  # clip the gradient of policy and of critics to this norm; 0: never

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class DDPGConfig:
    """Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971)."""

    hidden: tuple[int, ...] = (400, 300)  # units of each hidden layer, of policy and critic
    pi_lr: float = 1e-4  # step size of the policy
    q_lr: float = 1e-3  # step size of the critic
    polyak: float = 0.999  # share of the old target kept at each move
    std_act: float = 0.1  # exploration noise, in units of the action range [-1, 1]
    q_reg: float = 1e-2  # L2 regularisation of the critic's weights
    train_target: int = 2  # target networks move every so many updates
    critic_loss: Literal["mse", "huber"] = "mse"
    max_grad_norm: float = 0.0  # clip the gradient of policy and of critics to this norm; 0: never

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class DQNConfig:
    """Deep Q-network (Mnih et al. 2015), double (van Hasselt et al. 2016) and dueling (Wang et al. 2016)."""

    hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer
    q_lr: float = 6.25e-5  # step size
    adam_eps: float = 1.5e-4  # Adam's epsilon
    double: bool = False  # choose the next action by the online network
    dueling: bool = False  # value and advantage streams
    train_target: int = 8000  # hard target copy every so many updates
    eps_l: float = 1.0  # first epsilon
    eps_r: float = 0.01  # last epsilon
    eps_decay: int = 250_000  # env steps from the first to the last
    critic_loss: Literal["mse", "huber"] = "huber"
    max_grad_norm: float = 0.0  # clip the gradient to this norm; 0: never

    def __post_init__(self) -> None:
        _check(self)


AgentConfig = SACConfig | TD3Config | DDPGConfig | DQNConfig
AGENTS: dict[str, type] = {"sac": SACConfig, "td3": TD3Config, "ddpg": DDPGConfig, "dqn": DQNConfig}


@dataclass(frozen=True)
class RewardConfig:
    """Where the per-step reward comes from (Ren et al. 2022, arXiv 2111.13485; IRCR: Gangwani et al. 2020)."""

    alg: Alg = "rrd"  # rrd, rd: learned; ircr: guidance rewards; uniform: R/T for every step; none: the env's own
    target: Literal["mean", "sum"] = "mean"  # regress R/T on the mean reward, or R on T times it
    rrd_batch_size: int = 256  # steps per reward update, over all subsets
    rrd_sample_size: int = 64  # K, steps per subset; rd: rrd_batch_size // K whole episodes per update
    rrd_bias_correction: bool = False  # RRD-L(RD): subtract the variance term
    rrd_ensemble: int = 1  # reward networks; the reward is their mean
    r_lr: float = 3e-4  # step size of the reward network
    r_hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer
    reward_scale: Literal["none", "running"] = (
        "none"  # divide the target by a running scale of R/T, multiply the output
    )
    episode_sampling: Literal["length", "uniform"] = "length"  # how episodes are drawn
    return_correction: bool = False  # r += (R - sum r)/T: stored episodes' rewards add up to their return
    ircr_variant: Literal["rrd", "official"] = "rrd"  # credit R (the RRD code's form) or R/T (the IRCR paper's)

    def __post_init__(self) -> None:
        _check(self)
        for name in ("rrd_batch_size", "rrd_sample_size", "rrd_ensemble"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be at least 1")
        if self.alg == "rrd":
            batch, k = self.rrd_batch_size, self.rrd_sample_size
            if batch < k or batch % k:
                near = max(1, batch // k) * k
                raise UserError(
                    f"--rrd-batch-size {batch} must be a multiple of --rrd-sample-size {k}, for a batch is made of "
                    f"whole subsets: try --rrd-batch-size {near}"
                )
            if self.rrd_bias_correction and k < 2:
                raise UserError(
                    "--rrd-bias-correction needs --rrd-sample-size of at least 2: one step has no sample variance"
                )

    @property
    def learned(self) -> bool:
        return self.alg in ("rrd", "rd")

    @property
    def subsets_per_update(self) -> int:
        """m: 256 // 64 = 4 as released; `rd` sees as many episodes, each whole."""
        return max(1, self.rrd_batch_size // self.rrd_sample_size)


@dataclass(frozen=True)
class OnlineConfig:
    """One run of `apportion train`."""

    env: str  # Gymnasium id, or module:Class
    reward: RewardConfig = field(default_factory=RewardConfig)
    agent: AgentConfig = field(default_factory=SACConfig)
    env_type: Literal["ep_rews", "normal"] = "ep_rews"  # is the reward withheld until the episode's end?
    steps: int = 1_000_000  # env steps in all
    seed: int = 0
    num_envs: int = 1  # environments stepped side by side
    vector: Literal["sync", "async"] = "sync"  # in this process, or one process each
    timesteps: int = 1  # env steps per iteration
    train_batches: int = 1  # gradient steps per iteration
    warmup: int = 10_000  # env steps of uniformly random actions before the first update
    batch_size: int = 256  # transitions per agent update
    buffer_size: int = 1_000_000  # observations kept (an episode of T steps takes T + 1)
    gamma: float = 0.99
    obs_normalization: bool = False  # running mean and deviation, frozen in evaluation
    eval_every: int = 10_000  # env steps between evaluations
    test_rollouts: int = 10  # episodes per evaluation
    test_timesteps: int = 0  # cut evaluation episodes after so many steps; 0: the env's limit (100,000 if it has none)
    log_every: int = 1_000  # env steps between lines of metrics.jsonl
    save_freq: int = 50_000  # env steps between checkpoints
    keep_checkpoints: int = 2
    device: str = "cpu"  # cpu, cuda, cuda:1
    threads: int = 1  # torch threads on the CPU
    compile: bool = False  # compile the update; the command line does so by itself from 30,000 updates on
    bf16: bool = False  # bfloat16 matrix products (needs hardware that has them)

    def __post_init__(self) -> None:
        _check(self)
        least = {"warmup": 0, "train_batches": 0, "test_timesteps": 0, "seed": 0}
        least |= dict.fromkeys(("steps", "num_envs", "timesteps", "batch_size", "buffer_size", "eval_every"), 1)
        least |= dict.fromkeys(("test_rollouts", "log_every", "save_freq", "threads", "keep_checkpoints"), 1)
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be at least {bound}")

    @property
    def basis_alg(self) -> str:
        return next(name for name, cls in AGENTS.items() if isinstance(self.agent, cls))


def to_json(config: Any) -> Any:
    """A dataclass as plain dictionaries and lists; every dataclass carries its class name as "kind"."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        out = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"kind": type(config).__name__, **out}
    if isinstance(config, tuple | list):
        return [to_json(x) for x in config]
    return config


def from_json(cls: type[C], data: Any) -> C:
    """The inverse of `to_json`. Raises UserError for unknown or missing fields and wrong types."""
    return _parse(cls, data, cls.__name__)


def _parse(hint: Any, data: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kind = data.get("kind") if isinstance(data, dict) else None
        for option in args:
            if dataclasses.is_dataclass(option) and kind == option.__name__:  # type: ignore[attr-defined]
                return _parse(option, data, where)
        raise UserError(f"{where}: kind {kind!r} is none of {', '.join(a.__name__ for a in args)}")
    if dataclasses.is_dataclass(hint):
        if not isinstance(data, dict):
            raise UserError(f"{where}: expected fields with names, not {data!r}")
        hints = typing.get_type_hints(hint)
        known = {f.name: f for f in dataclasses.fields(hint)}
        for name, f in known.items():
            if name not in data and f.default is f.default_factory is dataclasses.MISSING:
                raise UserError(f"{where}: field {name!r} is missing")
        unknown = set(data) - known.keys() - {"kind"}
        if unknown:
            raise UserError(f"{where}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
        return hint(**{k: _parse(hints[k], v, f"{where}.{k}") for k, v in data.items() if k != "kind"})  # type: ignore[operator]
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise UserError(f"{where}: expected a list, not {data!r}")
        return tuple(_parse(args[0], x, where) for x in data)
    if origin is Literal:
        if data not in args:
            raise UserError(f"{where}: {data!r} is none of {', '.join(map(str, args))}")
        return data
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, not {data!r}")
    return data
