"""Typed settings: every flag of `apportion train` and `fit`, one frozen dataclass per room, to JSON and back."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from tyro.conf import arg

from apportion.types import UserError

C = TypeVar("C")
Alg = Literal["rrd", "rd", "ircr", "uniform", "none", "model"]


_POSITIVE = ("pi_lr", "q_lr", "r_lr", "alpha_init", "adam_eps", "hidden", "r_hidden", "train_target", "pi_delay_freq")
_NOT_NEGATIVE = ("alpha_lr", "std_act", "pi_t_std", "pi_t_clip", "q_reg", "eps_decay", "max_grad_norm", "weight_decay")
_SHARE = ("polyak", "eps_l", "eps_r", "test_eps", "gamma", "val_share", "artificial_share", "dropout")


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


def _at_least(config: Any, least: dict[str, int]) -> None:
    """Raises UserError for the first setting below its bound."""
    for name, bound in least.items():
        if getattr(config, name) < bound:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: it must be at least {bound}")


def check_subsets(batch: int, k: int, bias_correction: bool) -> None:
    """Raises UserError where `batch` steps are no whole number of subsets of `k`, or the correction has no variance."""
    if batch < k or batch % k:
        near = max(1, batch // k) * k
        raise UserError(
            f"--rrd-batch-size {batch} must be a multiple of --rrd-sample-size {k}, for a batch is made of "
            f"whole subsets: try --rrd-batch-size {near}"
        )
    if bias_correction and k < 2:
        raise UserError("--rrd-bias-correction needs --rrd-sample-size of at least 2: one step has no sample variance")


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
    optimizer: Literal["adam", "rmsprop"] = "adam"  # rmsprop: centred, decay .95 (Mnih et al. 2015)
    q_lr: float = 6.25e-5  # step size (for rmsprop the paper's is 2.5e-4, which the command line takes by itself)
    adam_eps: float = 1.5e-4  # Adam's epsilon
    double: bool = False  # choose the next action by the online network
    dueling: bool = False  # value and advantage streams
    train_target: int = 8000  # hard target copy every so many updates
    eps_l: float = 1.0  # first epsilon
    eps_r: float = 0.01  # last epsilon
    eps_decay: int = 250_000  # env steps from the first to the last
    test_eps: float = 0.0  # epsilon in evaluations (the paper's, on Atari: .001)
    critic_loss: Literal["mse", "huber"] = "huber"
    max_grad_norm: float = 0.0  # clip the gradient to this norm; 0: never

    def __post_init__(self) -> None:
        _check(self)


AgentConfig = SACConfig | TD3Config | DDPGConfig | DQNConfig
AGENTS: dict[str, type] = {"sac": SACConfig, "td3": TD3Config, "ddpg": DDPGConfig, "dqn": DQNConfig}


@dataclass(frozen=True)
class RewardConfig:
    """Where the per-step reward comes from (Ren et al. 2022, arXiv 2111.13485; IRCR: Gangwani et al. 2020)."""

    alg: Alg = "rrd"  # rrd, rd: learned; ircr: guidance rewards; uniform: R/T; none: the env's own; model: --reward RUN
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
    model: str = ""  # with alg model: run of apportion fit or train whose reward model pays (--reward RUN sets both)
    model_task: str = ""  # the task it is told, where it knows several

    def __post_init__(self) -> None:
        _check(self)
        _at_least(self, dict.fromkeys(("rrd_batch_size", "rrd_sample_size", "rrd_ensemble"), 1))
        if (self.alg == "model") != bool(self.model):
            raise UserError("--alg model and --model RUN go together: --reward RUN says both")
        if self.alg == "rrd":
            check_subsets(self.rrd_batch_size, self.rrd_sample_size, self.rrd_bias_correction)

    @property
    def learned(self) -> bool:
        return self.alg in ("rrd", "rd")

    @property
    def subsets_per_update(self) -> int:
        """m: 256 // 64 = 4 as released; `rd` sees as many episodes, each whole."""
        return max(1, self.rrd_batch_size // self.rrd_sample_size)


@dataclass(frozen=True)
class AtariConfig:
    """How the games of the Arcade Learning Environment are played (Mnih et al. 2015; Machado et al. 2018).

    Grey frames of 84 x 84, each action repeated 4 times, the brighter of the last two frames.
    """

    sticky: bool = False  # repeat the action before with probability .25, instead of the one chosen
    noop: int = 30  # at most so many idle emulated frames, drawn from 1 on, begin an episode; 0: none
    frames: int = 4  # the newest of them are what agents see

    def __post_init__(self) -> None:
        _at_least(self, {"noop": 0, "frames": 1})


@dataclass(frozen=True)
class OnlineConfig:
    """One run of `apportion train`."""

    env: str  # Gymnasium id, or module:Class
    reward: RewardConfig = field(default_factory=RewardConfig)
    agent: AgentConfig = field(default_factory=SACConfig)
    env_type: Literal["ep_rews", "normal"] = "ep_rews"  # is the reward withheld until the episode's end?
    atari: AtariConfig = field(default_factory=AtariConfig)  # for Atari games alone
    steps: int = 1_000_000  # env steps in all
    seed: int = 0
    num_envs: int = 1  # environments stepped side by side
    vector: Literal["sync", "async"] = "sync"  # in this process, or one process each
    timesteps: int = 1  # env steps per iteration
    train_batches: int = 1  # gradient steps per iteration
    warmup: int = 10_000  # env steps of uniformly random actions before the first update
    batch_size: int = 256  # transitions per agent update
    buffer_size: int = 1_000_000  # observations kept (an episode of T steps takes T + 1)
    store: Literal["memory", "memmap"] = "memory"  # where they are kept; memmap: in a file of the run
    gamma: float = 0.99
    obs_normalization: bool = False  # running mean and deviation, frozen in evaluation
    eval_every: int = 10_000  # env steps between evaluations
    test_rollouts: int = 10  # episodes per evaluation
    test_timesteps: int = 0  # cut evaluation episodes after so many steps; 0: the env's limit (100,000 if it has none)
    log_every: int = 1_000  # env steps between lines of metrics.jsonl
    save_freq: int = 50_000  # env steps between checkpoints
    keep_checkpoints: int = 2
    device: str = "cpu"  # cpu, cuda, cuda:1
    threads: int = 1  # of the CPU; two or more: the reward model learns beside the agent, unless the update is compiled
    compile: bool = False  # compile the update; the command line does so by itself from 30,000 updates on
    bf16: bool = False  # bfloat16 matrix products (needs hardware that has them)

    def __post_init__(self) -> None:
        _check(self)
        least = {"warmup": 0, "train_batches": 0, "test_timesteps": 0, "seed": 0}
        least |= dict.fromkeys(("steps", "num_envs", "timesteps", "batch_size", "buffer_size", "eval_every"), 1)
        least |= dict.fromkeys(("test_rollouts", "log_every", "save_freq", "threads", "keep_checkpoints"), 1)
        _at_least(self, least)
        if self.reward.alg == "ircr" and self.batch_size < 2:
            raise UserError(
                "--batch-size 1 with --alg ircr: half of a batch is of its best episodes, so take 2 at least"
            )

    @property
    def basis_alg(self) -> str:
        return next(name for name, cls in AGENTS.items() if isinstance(self.agent, cls))


@dataclass(frozen=True)
class FitConfig:
    """One run of `apportion fit`: a reward model from recorded episodes.

    Empty lists and "auto" are settled when the data is opened (`apportion.data.as_store.settled`).
    """

    data: str  # demonstrations: LIBERO, RLDS, LeRobot, Minari, or a store
    suite: str = ""  # one of LIBERO's suites at or under --data: libero-10
    timing: Literal["auto", "before", "after"] = "auto"  # HDF5: observations lie so beside actions
    skip_bad: bool = False  # go on without episodes that cannot be read
    method: Literal["rrd", "rd", "progress", "success"] = "rrd"  # rewards that add up to the return, or a potential
    return_: Annotated[str, arg(name="return")] = "success"  # success, dense, length, progress, or column:NAME
    form: Literal["auto", "raw", "potential"] = "auto"  # raw reward, or gamma phi(s') - phi(s) plus the bonus
    gamma: float = 0.99  # of the potential difference: the discount of the agent that is to use it
    success_bonus: float = 1.0  # added to the last step of a success, in the potential form
    failures: bool = True  # learn from the failures in the data
    rewind: bool = False  # and from clips that run back after a while (ReWiND), as failures
    prefixes: bool = False  # and from successes cut short, as failures
    other_instructions: bool = False  # and from successes under another task's instruction, as failures
    artificial_share: float = 0.5  # of the successes drawn, how many are made such artificial failures
    features: str = "auto"  # proprio, pixels, or feature:KEY (apportion data features); auto: what the device can bear
    proprio: tuple[str, ...] = ()  # low-dimensional observations; empty: state if there is one, else all (with proprio)
    cameras: tuple[str, ...] = ()  # with pixels; empty: all
    image_size: int = 96  # pixels: frames are brought to this height and width
    condition: Literal["auto", "none", "task", "words", "vectors"] = "auto"  # how the task is told to the network
    instructions: str = ""  # with vectors: safetensors file, instruction -> vector
    embedding: int = 16  # units that task or instruction become
    actions: bool = True  # does the reward of rrd and rd see the action?
    difference: bool = True  # does the network see how the observation has changed?
    target: Literal["mean", "sum"] = "mean"  # regress R/T on the mean reward, or R on T times it
    rrd_batch_size: int = 256  # steps per update, over all subsets
    rrd_sample_size: int = 64  # K, steps per subset; rd: rrd_batch_size // K whole episodes per update
    rrd_bias_correction: bool = False  # RRD-L(RD): subtract the variance term
    episode_sampling: Literal["length", "uniform"] = "length"  # how episodes are drawn
    batch_size: int = 256  # states per update of progress and success
    r_lr: float = 3e-4  # step size of the network
    r_hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer
    weight_decay: float = 0.0  # decoupled, as in AdamW
    dropout: float = 0.0  # share of the network's inputs left out at each update
    max_grad_norm: float = 0.0  # clip the gradient to this norm; 0: never
    steps: int = 10_000  # gradient steps
    val_share: float = 0.2  # of the episodes (or tasks), held out
    split: Literal["episode", "task"] = "episode"  # what is held out
    val_episodes: int = 64  # of the held-out episodes, at most so many are looked at in each validation
    validate_every: int = 500  # gradient steps
    patience: int = 0  # stop after so many validations without a lower loss; 0: never
    log_every: int = 100  # gradient steps between lines of metrics.jsonl
    save_freq: int = 1_000  # gradient steps between checkpoints
    keep_checkpoints: int = 2
    seed: int = 0
    device: str = "cpu"  # cpu, cuda, cuda:1
    threads: int = 1  # torch threads on the CPU
    bf16: bool = False  # mixed precision: bfloat16 matrix products (needs hardware that has them)

    def __post_init__(self) -> None:
        _check(self)
        counts = ("image_size", "embedding", "rrd_batch_size", "rrd_sample_size", "batch_size", "steps", "log_every")
        counts += ("val_episodes", "validate_every", "save_freq", "keep_checkpoints", "threads")
        _at_least(self, {"patience": 0, "seed": 0, **dict.fromkeys(counts, 1)})
        if self.method == "rrd":
            check_subsets(self.rrd_batch_size, self.rrd_sample_size, self.rrd_bias_correction)
        elif self.rrd_bias_correction:
            raise UserError(f"--rrd-bias-correction is a setting of rrd, and the method here is {self.method}")
        if not 84 <= self.image_size <= 128:
            raise UserError(f"--image-size {self.image_size}: the network takes 84 to 128 pixels")
        if self.features not in ("auto", "proprio", "pixels") and not self.features.startswith("feature:"):
            raise UserError(f"--features {self.features}: choose from auto, proprio, pixels, feature:KEY")
        if self.bf16 and self.decomposes and self.is_potential:
            raise UserError("--bf16 keeps 3 digits of a potential, too few for its differences: leave it out here")
        if self.dropout == 1 or self.val_share == 1:
            raise UserError("--dropout and --val-share must be below 1: nothing would be left to learn from")

    @property
    def decomposes(self) -> bool:
        """Does the method learn from returns alone?"""
        return self.method in ("rrd", "rd")

    @property
    def is_potential(self) -> bool:
        """Does the reward come out as a potential difference?"""
        return self.form == "potential" or (self.form == "auto" and not self.decomposes)

    @property
    def artificial(self) -> tuple[str, ...]:
        """The artificial failures that are made."""
        return tuple(name for name in ("rewind", "prefixes", "other_instructions") if getattr(self, name))


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
