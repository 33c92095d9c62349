"""Settings of a learned policy: the specification's names and defaults, checked as a whole.

Source: Heitzig & Potham, arXiv 2508.00159, Phase 2; stages and schedules as in stages.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from apportion.power.params import PowerParams
from apportion.types import UserError


@dataclass(frozen=True)
class Phase2Config:
    """One run of `apportion power train`. Steps are environment steps unless another unit is named."""

    world: str = ""  # YAML file, shipped name, folder of YAML files (one policy for all of them), or module:Class
    held_out: float = 0.0  # of a folder of worlds, the share that is kept for testing alone
    horizon: str = ""  # steps until the end, or none for no end (default: the world's own)
    params: PowerParams = field(default_factory=PowerParams)
    seed: int = 0
    # how long: num_episodes * steps_per_episode environment steps (more episodes where a horizon ends them earlier)
    num_episodes: int = 10_000
    steps_per_episode: int = 50  # an episode is cut after so many steps, which is no end; the horizon is one
    updates_per_step: float = 1.0  # training steps per environment step
    warmup_v_h_e_steps: int = 1_000  # stage 0: V_h^e alone
    warmup_x_h_steps: int = 1_000  # stage 1: and X_h
    warmup_u_r_steps: int = -1  # stage 2: and U_r; -1: 1,000 with u_r_use_network, else 0
    warmup_q_r_steps: int = 1_000  # stage 3: and Q_r
    beta_r_rampup_steps: int = 2_000  # stage 4: beta_r from 0 to its value
    # networks
    estimators: Literal["networks", "lookup"] = "networks"  # or tables, exact on small worlds
    hidden: tuple[int, ...] = (256, 256)  # units of each hidden layer
    shared_encoder: bool = True  # one first part of all networks, trained by all losses
    goal_features: int = 64  # width of a goal's encoding
    dropout: float = 0.5  # in hidden layers, while training
    weight_decay: float = 1e-4  # decoupled
    x_h_use_network: bool = True  # False: X_h directly from V_h^e of all goals
    u_r_use_network: bool = False  # False: U_r directly from X_h
    v_r_use_network: bool = False  # False: V_r directly from U_r, pi_r and Q_r
    u_r_sample_humans: int = 0  # so many humans, drawn anew, stand for all in U_r's target; 0: all
    v_h_e_loss: Literal["mse", "cross-entropy"] = "mse"  # of V_h^e and X_h; both are least at the mean
    q_r_output: Literal["softplus", "z", "log"] = "softplus"  # -softplus(y); z = (-Q)^(-1/(eta xi)); or log(-Q)
    difference_weight: float = 1.0  # with q_r_output log: weight of what actions differ in, the mean's is 1
    # learning
    batch_size: int = 64  # transitions per training step
    x_h_batch_size: int = 0  # of X_h alone; 0: batch_size
    buffer_size: int = 100_000  # transitions kept
    replay: Literal["uniform", "backward"] = "uniform"  # backward: batches of one time each, from the end to the start
    on_ramp: Literal["clear", "age"] = "clear"  # old policies' data: cleared at both ends of the ramp, or left to age
    imagine: float = 0.0  # share of a batch that are successors of the batch before, visited or not; needs the model
    targets: Literal["model", "sampled"] = "model"  # expectations over successors, or the one that was seen
    weight_clip: float = 10.0  # with sampled targets: largest importance weight
    target_batches: int = 1  # batches whose targets are worked out at once
    target_epochs: int = 1  # training steps that each of them then serves
    target_update_freq: int = 100  # training steps between full copies into the target networks
    average_copies: int = 0  # once trained, networks are the average of about so many last copies; 0: as they are
    lr_v_h_e: float = 1e-3
    lr_x_h: float = 1e-4
    lr_u_r: float = 1e-4
    lr_q_r: float = 1e-4
    lr_v_r: float = 1e-4
    lr_lookup: float = 1.0  # of tables: the share of an entry that its new target replaces, (0, 1]
    lr_anneal: float = 0.0  # share of the run, at its end, over which step sizes fall to 0 in a straight line
    grad_clip: float = 1.0  # norm of a network's gradient, times lr / reference_lr; 0: never
    reference_lr: float = 1e-4
    # acting
    num_envs: int = 1  # stepped side by side, by each actor
    epsilon_start: float = 1.0  # share of uniformly drawn robot actions
    epsilon_end: float = 0.01
    epsilon_decay_steps: int = 10_000  # must reach past the warm-up
    curiosity: float = 0.0  # exploratory actions drawn in proportion to (1 + times tried here)^-curiosity; 0: uniformly
    goal_resample_prob: float = 0.01  # a step
    human_prior: str = "exact"  # exact, shortest-path, learned, or module:Class
    prior_steps: int = 5_000  # training steps of a learned prior
    # several processes
    num_actors: int = 1
    use_async: bool = False  # actors run ahead of the learner
    lockstep: bool = False  # with use_async: actors wait for each other and the learner, and the run can be repeated
    actors: str = ""  # where they run: empty for this machine, or a Ray address
    actor_steps: int = 0  # steps of each of an actor's environments at a time; 0: 1, and 16 where actors run ahead
    actor_sync_freq: int = 100  # training steps after which actors get the new policy
    max_lead: int = 1_000  # environment steps by which actors may be ahead of the training steps due
    # keeping house
    check_every: int = 0  # environment steps between checks against the exact solution; 0: at the end only
    check: Literal["auto", "exact", "never"] = "auto"  # auto: where the world can be solved in check_states states
    check_states: int = 200_000  # (state, time) pairs
    log_every: int = 500
    save_freq: int = 10_000
    keep_checkpoints: int = 2
    device: str = "cpu"
    threads: int = 1
    compile: bool = False  # of networks, training steps from stage 3 on; the command line does so from 100,000 on

    def __post_init__(self) -> None:
        _check_ranges(self)
        _check_together(self)

    @property
    def steps(self) -> int:
        """Environment steps in all."""
        return self.num_episodes * self.steps_per_episode

    @property
    def u_r_steps(self) -> int:
        """Length of stage 2."""
        return (1_000 if self.u_r_use_network else 0) if self.warmup_u_r_steps < 0 else self.warmup_u_r_steps

    @property
    def round_steps(self) -> int:
        """Steps of each environment at a time."""
        return self.actor_steps or (16 if self.use_async and not self.lockstep else 1)


_AT_LEAST_1 = (
    "num_episodes", "steps_per_episode", "goal_features", "batch_size", "buffer_size", "target_batches",
    "target_epochs", "target_update_freq", "num_envs", "num_actors", "actor_sync_freq", "log_every", "save_freq",
    "keep_checkpoints", "threads", "check_states", "prior_steps", "max_lead",
)  # fmt: skip
_NOT_NEGATIVE = (
    "seed", "warmup_v_h_e_steps", "warmup_x_h_steps", "warmup_q_r_steps", "beta_r_rampup_steps", "weight_decay",
    "u_r_sample_humans", "x_h_batch_size", "grad_clip", "epsilon_decay_steps", "curiosity", "check_every",
    "updates_per_step", "actor_steps", "average_copies",
)  # fmt: skip
_POSITIVE = (
    "difference_weight",
    "lr_v_h_e",
    "lr_x_h",
    "lr_u_r",
    "lr_q_r",
    "lr_v_r",
    "lr_lookup",
    "reference_lr",
    "weight_clip",
    "hidden",
)
_SHARE = ("held_out", "lr_anneal", "epsilon_start", "epsilon_end", "goal_resample_prob", "imagine", "lr_lookup")


def _check_ranges(config: Phase2Config) -> None:
    hints = get_type_hints(Phase2Config)
    for f in fields(config):
        value: Any = getattr(config, f.name)
        flag = f"--{f.name.replace('_', '-')} {value}"
        choices = get_args(hints[f.name]) if "Literal" in str(hints[f.name]) else ()
        if choices and value not in choices:
            raise UserError(f"{flag}: choose from {', '.join(map(str, choices))}")
        values = value if isinstance(value, tuple) else (value,)
        for names, holds, what in (
            (_AT_LEAST_1, lambda x: x >= 1, "must be at least 1"),
            (_NOT_NEGATIVE, lambda x: x >= 0, "must not be negative"),
            (_POSITIVE, lambda x: x > 0, "must be greater than 0"),
            (_SHARE, lambda x: 0 <= x <= 1, "must lie in [0, 1]"),
        ):
            if f.name in names and not all(map(holds, values)):  # NaN fails as well
                raise UserError(f"{flag}: it {what}")
    if not 0 <= config.dropout < 1:
        raise UserError(f"--dropout {config.dropout}: it must lie in [0, 1)")


def _check_together(config: Phase2Config) -> None:
    """Raises UserError, which says what to change, for settings that do not go together."""
    warm = config.warmup_v_h_e_steps + config.warmup_x_h_steps + config.u_r_steps + config.warmup_q_r_steps
    ramped = warm + config.beta_r_rampup_steps
    if 0 < config.epsilon_decay_steps <= warm and config.epsilon_end < config.epsilon_start:
        raise UserError(
            f"--epsilon-decay-steps {config.epsilon_decay_steps} ends within the warm-up of {warm} steps, before there "
            f"is a policy to explore from: give more than {warm}"
        )
    if config.epsilon_end > config.epsilon_start:
        raise UserError(f"--epsilon-end {config.epsilon_end} is above --epsilon-start {config.epsilon_start}: lower it")
    if config.warmup_u_r_steps > 0 and not config.u_r_use_network:
        raise UserError("--warmup-u-r-steps trains the network of U_r: add --u-r-use-network, or leave it out")
    if config.x_h_batch_size and not config.x_h_use_network:
        raise UserError("--x-h-batch-size is of the network of X_h: leave it out with --no-x-h-use-network")
    if config.compile and config.estimators == "lookup":
        raise UserError("--compile is for networks: leave it out with --estimators lookup")
    if config.average_copies and config.estimators == "lookup":
        raise UserError("--average-copies is of networks: leave it out with --estimators lookup")
    if config.u_r_sample_humans and not config.u_r_use_network:
        raise UserError("--u-r-sample-humans is of the network of U_r: add --u-r-use-network, or leave it out")
    if config.targets == "sampled" and config.imagine:
        raise UserError("--imagine needs the model: with --targets sampled take --preset sampled, or --imagine 0")
    if config.difference_weight != 1 and (config.q_r_output != "log" or config.targets == "sampled"):
        raise UserError("--difference-weight is of log(-Q_r) of all actions: --q-r-output log, --targets model")
    if config.targets == "sampled" and config.q_r_output == "z" and config.estimators == "networks":
        raise UserError(
            "--q-r-output z averages a curved function of single samples, which is biased: with --targets sampled take "
            "--q-r-output log or softplus"
        )
    if config.steps <= ramped:
        raise UserError(
            f"{config.num_episodes} episodes of up to {config.steps_per_episode} steps are {config.steps} steps, and "
            f"the stages before full training take {ramped}: give more --num-episodes"
        )
    each = config.num_envs * config.round_steps
    if config.use_async and not config.lockstep and config.num_actors > 1 and each > config.max_lead:
        raise UserError(
            f"--max-lead {config.max_lead} is less than what an actor does at a time, {each} steps (--num-envs times "
            f"--actor-steps): all but one would wait; give {2 * config.num_actors * each}"
        )
    if (config.lockstep or config.actors) and not config.use_async:
        raise UserError(f"--{'lockstep' if config.lockstep else 'actors'} is a setting of --async: add it")
