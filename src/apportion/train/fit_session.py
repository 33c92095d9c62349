"""Everything that a fit is made of, how it is built from a configuration, saved and brought back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apportion.config import FitConfig
from apportion.data import batches, clips
from apportion.data.as_store import inputs_of
from apportion.data.batches import Columns, DemoBatch
from apportion.data.clips import Clips, Pool
from apportion.data.conditions import Conditions, conditions
from apportion.data.returns import constant_warning, dense_warning, store_returns
from apportion.data.store import DemoStore
from apportion.device import torch_device
from apportion.nets.optim import Adam
from apportion.rewards.demo_losses import progress_loss, success_loss
from apportion.rewards.demo_model import DemoReward
from apportion.rewards.losses import rrd_loss
from apportion.rng import Streams
from apportion.run import checkpoint
from apportion.run.metrics import Accumulator
from apportion.run.rundir import RunDir
from apportion.train.ranks import Ranks
from apportion.types import Metrics, UserError


@dataclass
class FitSession:
    """A fit in memory."""

    config: FitConfig
    store: DemoStore
    columns: Columns
    pool: Pool  # to learn from
    held: Pool | None  # to validate on
    reward: DemoReward
    net: nn.Module  # the reward's network, shared with other processes where there are any
    optim: Adam
    streams: Streams
    grippers: np.ndarray
    ranks: Ranks
    sides: tuple[list[int], list[int]]  # all episodes of the store: to learn from, held out
    step: int = 0
    stale: int = 0  # validations since the best one
    best_step: int = -1  # of the lowest validation loss; -1: no validation yet
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of then
    metrics: Accumulator = field(default_factory=Accumulator)

    @property
    def device(self) -> torch.device:
        return self.reward.scale.device

    @property
    def patient(self) -> bool:
        """Go on, as far as validation is concerned?"""
        return self.config.patience == 0 or self.stale < self.config.patience


def make_fit(
    config: FitConfig,
    store: DemoStore,
    ranks: Ranks,
    say: Callable[[str], None],
    device: str,
    sides: tuple[list[int], list[int]] | None = None,
) -> FitSession:
    """A fit at its step 0. `config` is settled, `store` holds its columns. Raises UserError.

    `sides`: the episodes to learn from and those held out, where they are not to be drawn (`split`).
    """
    device_ = torch_device(device)
    train, val = sides or batches.split(store, config.val_share, config.split, config.seed)
    inputs = inputs_of(config, store)
    columns = Columns(store, inputs)
    told = conditions(config.condition, store, train, val, config.split, config.instructions)
    pool = make_pool(config, store, train, told)
    if pool is None:
        raise UserError(f"{config.data}: no episode to learn from is left (--no-failures, and no success?)")
    _check_learnable(config, store, pool, say)
    streams = Streams(config.seed)
    reward = DemoReward(config, inputs, told, streams.torch_generator("init"))
    _observe(reward, columns, store, pool.episode)
    reward.scale.fill_(_scale(config, pool))
    reward.to(device_)
    sample = np.concatenate([columns.action[rows] for rows in batches.step_chunks(store, pool.episode[:100].tolist())])
    params = list(reward.net.parameters())
    return FitSession(
        config=config,
        store=store,
        columns=columns,
        pool=pool,
        held=make_pool(config, store, val, told, pool.tasks),
        reward=reward,
        net=ranks.shared(reward.net, device_),
        optim=Adam(params, config.r_lr, max_grad_norm=config.max_grad_norm, weight_decay=config.weight_decay),
        streams=streams,
        grippers=batches.is_command(sample),
        ranks=ranks,
        sides=(train, val),
    )


def make_pool(
    config: FitConfig, store: DemoStore, episodes: Sequence[int], told: Conditions, learned_tasks: int = 0
) -> Pool | None:
    """The usable ones of `episodes`; None where there is none.

    `learned_tasks`, for held-out episodes: how many tasks are learned from, which are those whose instructions other
    episodes may be shown under. Held-out failures stay: they are what is to be told.
    """
    held = learned_tasks > 0
    returns = store_returns(store, config.return_)
    entries = [store.table[i] for i in episodes]
    need_success = config.method in ("progress", "success") or config.artificial
    if need_success and any(e["success"] is None for e in entries):
        raise UserError(
            f"{store.path}: the data does not say which episodes succeeded, and "
            f"{config.method if not config.decomposes else 'artificial failures'} must know"
        )
    keep = [
        i
        for i, e in zip(episodes, entries, strict=True)
        if store.transitions[i] > 0
        and (held or config.failures or e["success"] is not False)
        # a held-out task has no condition of its own unless its words are known
        and (not held or told.kind == "none" or _name(told, e) in told.names)
    ]
    if not keep:
        return None
    at = np.array(keep, np.int64)
    task = np.array([told.number(store.table[i]["task"], store.table[i]["language"]) for i in keep], np.int64)
    return Pool(
        episode=at,
        transitions=store.transitions[at],
        value=returns[at],
        success=np.array([store.table[i]["success"] is True for i in keep]),
        task=task,
        tasks=learned_tasks or int(task.max()) + 1,  # those learned from come first
        by_progress=config.return_ == "progress",
    )


def _name(told: Conditions, entry: dict[str, Any]) -> str:
    return entry["task"] if told.kind == "task" else entry["language"]


def _check_learnable(config: FitConfig, store: DemoStore, pool: Pool, say: Callable[[str], None]) -> None:
    """Raises UserError for settings that contradict each other or the data; says loudly what cannot be learned."""
    if config.artificial and config.return_ not in ("success", "progress"):
        raise UserError(
            f"--{config.artificial[0].replace('_', '-')} makes failures, which have no --return {config.return_}"
        )
    if config.prefixes and config.method == "progress":
        raise UserError("--prefixes adds nothing to --method progress: a beginning has the same t/T as in the whole")
    if config.other_instructions and pool.tasks < 2:
        raise UserError("--other-instructions needs several tasks and --condition task, words or vectors")
    if config.artificial and not pool.success.any():
        raise UserError(f"--{config.artificial[0].replace('_', '-')} makes failures of successes, and there is none")
    if config.method == "progress" and not pool.success.any():
        raise UserError("--method progress learns from successes, and there is none")
    if config.return_ == "dense" and (warning := dense_warning(store)):
        say(warning)
    if config.decomposes and not config.artificial and (warning := constant_warning(pool.value, pool.transitions)):
        say(warning)
    if config.method == "success" and pool.success.all() and not config.artificial:
        say(
            "WARNING: all episodes succeed, so P(success | s) is 1 everywhere and nothing is learned: add failures, or "
            "--rewind, --prefixes, --other-instructions"
        )


def _observe(reward: DemoReward, columns: Columns, store: DemoStore, episodes: np.ndarray) -> None:
    """The training episodes' statistics into the network's normalisers."""
    if reward.inputs.vector:
        for rows in batches.row_chunks(store, episodes.tolist()):
            reward.net.norm.observe(torch.from_numpy(columns.vector(rows)))
    if reward.net.act_norm is not None:
        for rows in batches.step_chunks(store, episodes.tolist()):
            reward.net.act_norm.observe(torch.from_numpy(columns.action[rows]))


def _scale(config: FitConfig, pool: Pool) -> float:
    """What the network's 1 is worth: the root mean square of R/T, or of R for a potential; 1 where all are 0."""
    if not config.decomposes:
        return 1.0
    value = pool.value if config.is_potential else pool.value / pool.transitions
    return float(np.sqrt(np.mean(value**2))) or 1.0


# -------------------------------------------------------------------- one step


def draw(session: FitSession) -> tuple[DemoBatch, Tensor | None]:
    """This process's part of the next batch, on the CPU, and the factors of dropout. Draws are the same in all."""
    config, pool, streams = session.config, session.pool, session.streams
    m = config.rrd_batch_size // config.rrd_sample_size if config.decomposes else config.batch_size
    m = max(1, m)
    rng = streams.generator("episodes")
    whole = clips.draw(pool, m, config.artificial, config.artificial_share, rng, config.episode_sampling)
    steps = streams.generator("steps")
    label = mask = None
    if config.decomposes:
        state, mask = batches.subset_steps(whole, config.rrd_sample_size if config.method == "rrd" else None, steps)
    else:
        state = batches.random_states(whole, steps)
        label = labels(config, whole, state)
    low, high = session.ranks.part(m, "the number of episodes per update" if config.decomposes else "--batch-size")
    keep = None
    if config.dropout:
        twice = 2 if session.reward.window == "both" else 1
        kept = streams.generator("dropout").random((twice, *state.shape, session.reward.net.size)) >= config.dropout
        kept = kept[:, low:high].reshape(-1, session.reward.net.size)
        keep = torch.from_numpy(kept.astype(np.float32) / (1 - config.dropout))
    batch = batches.gather(
        session.columns,
        whole.part(low, high),
        state[low:high],
        session.reward.window,
        session.grippers,
        None if mask is None else mask[low:high],
        None if label is None else label[low:high],
    )
    return batch, keep


def labels(config: FitConfig, whole: Clips, state: np.ndarray) -> np.ndarray:
    """t/T or success of the states (m, k)."""
    return (clips.progress_labels if config.method == "progress" else clips.success_labels)(whole, state)


def loss_of(reward: DemoReward, net: nn.Module, batch: DemoBatch, keep: Tensor | None) -> tuple[Tensor, Metrics]:
    """The method's loss on one batch, and its metrics in units of the return."""
    config = reward.config
    out = reward.outputs(batch, net, keep)
    if config.method == "progress":
        return progress_loss(out, batch.label)
    if config.method == "success":
        return success_loss(out, batch.label)
    loss, metrics = rrd_loss(
        out,
        batch.value / reward.scale,
        batch.length,
        target=config.target,
        bias_correction=config.rrd_bias_correction,
        mask=batch.mask,
    )
    metrics = {n: x * (reward.scale if n == "R_rmse" else reward.scale.square()) for n, x in metrics.items()}
    return loss, {"loss": loss.detach(), **metrics}


def learn(session: FitSession, batch: DemoBatch, keep: Tensor | None) -> None:
    """One gradient step."""
    device = session.device
    keep = None if keep is None else keep.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=session.config.bf16):
        loss, metrics = loss_of(session.reward, session.net, batch.to(device), keep)
    for p in session.optim.params:
        p.grad = None
    loss.backward()
    # a parameter without a gradient: the network does not depend on it for this batch
    session.optim.step([torch.zeros_like(p) if p.grad is None else p.grad for p in session.optim.params])
    session.metrics.add(metrics)
    session.step += 1


# -------------------------------------------------------------------- on disk


def save(session: FitSession, run: RunDir) -> Path:
    """Write a checkpoint, its manifest last, and the reward model of the lowest validation loss beside it."""
    parts = {
        "reward": {"weights": dict(session.reward.state_dict()), "best": dict(session.best)},
        "optim": session.optim.state(),
        "loop": {
            "step": session.step,
            "stale": session.stale,
            "best_step": session.best_step,
            "best_loss": session.best_loss if math.isfinite(session.best_loss) else None,
            "streams": session.streams.state(),
            "metrics": session.metrics.state(),
        },
    }
    path = checkpoint.save(run.checkpoints, session.step, parts, {}, session.config.keep_checkpoints)
    save_best(session, run)
    return path


def save_best(session: FitSession, run: RunDir) -> None:
    """RUN/reward: the model of the lowest validation loss, or the newest where nothing was validated."""
    now = {name: x.clone() for name, x in session.reward.state_dict().items()}
    if session.best:
        session.reward.load_state_dict(session.best)
    session.reward.save(run.path / "reward")
    session.reward.load_state_dict(now)


def restore(session: FitSession, parts: dict[str, Any]) -> None:
    """Bring a fresh session to a checkpoint's state."""
    loop = parts["loop"]
    session.step, session.stale, session.best_step = loop["step"], loop["stale"], loop["best_step"]
    session.best_loss = math.inf if loop["best_loss"] is None else loop["best_loss"]
    session.streams.load_state(loop["streams"])
    session.metrics.load_state(loop["metrics"], session.device)
    session.reward.load_state_dict(parts["reward"]["weights"])
    session.best = {name: x.to(session.device) for name, x in parts["reward"]["best"].items()}
    session.optim.load_state(parts["optim"])
