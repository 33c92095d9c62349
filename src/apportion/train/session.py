"""Everything that a run is made of, how it is built from a configuration, saved and brought back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from apportion.agents import Agent, make_agent
from apportion.config import OnlineConfig, from_json
from apportion.device import torch_device
from apportion.envs.collect import Collector
from apportion.envs.make import check_agent, resolve, step_limit
from apportion.nets.normalizer import RunningNorm
from apportion.rewards import Decomposition, RewardMethod, make_method
from apportion.rng import Streams
from apportion.run import checkpoint
from apportion.run.metrics import Accumulator
from apportion.run.rundir import RunDir
from apportion.store.episodes import EpisodeStore
from apportion.store.log import ReplayLog
from apportion.store.ring import ObsRing
from apportion.train.environments import env_spec, one_env, training_envs
from apportion.types import Episode, Spec, UserError

RECENT = 10  # closed episodes whose mean return is shown


@dataclass
class Policy:
    """The learned parts of a run, and what they were built from."""

    config: OnlineConfig
    spec: Spec
    device: torch.device
    norm: RunningNorm | None
    agent: Agent
    method: RewardMethod


@dataclass
class Session:
    """A run in memory: the learned parts, the environments and their open episodes, the closed ones, the counters."""

    policy: Policy
    streams: Streams
    envs: SyncVectorEnv | AsyncVectorEnv
    collector: Collector
    store: EpisodeStore
    log: ReplayLog
    limit: int | None = None  # steps of an episode, where a limit is known
    metrics: Accumulator = field(default_factory=Accumulator)
    recent: list[float] = field(default_factory=list)  # returns of the last closed episodes

    @property
    def step(self) -> int:
        """Environment steps so far."""
        return self.collector.env_steps

    def take(self, episode: Episode) -> None:
        """A closed episode becomes material for everyone who learns from it."""
        if self.policy.norm is not None:
            self.policy.norm.observe(torch.from_numpy(episode.obs))
        self.store.add(self.policy.method.closed(episode))
        self.recent = [*self.recent, episode.episode_return][-RECENT:]


def make_policy(config: OnlineConfig, spec: Spec, streams: Streams) -> Policy:
    """Untrained networks, initialised from the stream "init"."""
    check_agent(spec, config.basis_alg)
    device = torch_device(config.device)
    norm = RunningNorm(spec.obs_shape).to(device) if config.obs_normalization else None
    agent = make_agent(spec, config.agent, streams.torch_generator("init"), norm, device)
    method = make_method(spec, config.reward, streams.torch_generator("init"), norm, device)
    return Policy(config, spec, device, norm, agent, method)


def make_session(config: OnlineConfig, run: RunDir, warn: Callable[[str], None]) -> Session:
    """A run at its step 0."""
    for note in resolve(config.env)[1]:
        warn(note)
    if config.reward.learned and config.reward.subsets_per_update == 1:
        warn(
            f"warning: --rrd-batch-size {config.reward.rrd_batch_size} is one subset of --rrd-sample-size "
            f"{config.reward.rrd_sample_size}: each reward update learns from a single episode; a multiple is steadier"
        )
    envs = training_envs(config)
    spec = env_spec(config, envs)
    if spec.is_image and config.reward.return_correction:
        warn(
            "warning: --return-correction asks the reward network about every stored image again, at updates 1, 2, 4, "
            "..., then at every 1,000th: minutes each time for hundreds of thousands of them"
        )
    if spec.is_image and config.reward.alg == "rd":
        warn(
            "warning: --alg rd looks at every image of whole episodes in each update, several hundred kB of memory for "
            "each in Atari games: gigabytes where episodes have thousands of steps; --alg rrd looks at K of each"
        )
    limit = _limit(config)
    check_subset_size(config, limit)
    streams = Streams(config.seed)
    policy = make_policy(config, spec, streams)
    ring = ObsRing(run.replay, config.buffer_size, spec, warn) if config.store == "memmap" else None
    store = EpisodeStore(config.buffer_size, spec, ring=ring)
    return Session(policy, streams, envs, Collector(envs, spec, streams, warn), store, ReplayLog(run.replay), limit)


def _limit(config: OnlineConfig) -> int | None:
    probe = one_env(config)
    limit = step_limit(probe)
    probe.close()
    return limit


def check_subset_size(config: OnlineConfig, limit: int | None) -> None:
    """Raises UserError where no episode can hold a subset of K steps."""
    k = config.reward.rrd_sample_size
    if config.reward.alg == "rrd" and limit is not None and k > limit:
        raise UserError(
            f"--rrd-sample-size {k} is more than the {limit} steps that an episode of {config.env} can have: "
            f"take at most {limit} (32 is a good start), or --alg rd for whole episodes"
        )


def settings(run: RunDir) -> OnlineConfig:
    """What the run was started with. Raises UserError where its config.json does not say so."""
    data = run.config()
    try:
        return from_json(OnlineConfig, data)
    except UserError as error:
        raise UserError(f"{run.config_file}: {error}") from error


def save(session: Session, run: RunDir) -> Path:
    """Write a checkpoint: first the new episodes, then the state, its manifest last; then drop what is old."""
    chunks = session.log.write(session.store)
    parts = {
        "agent": session.policy.agent.state(),
        "method": session.policy.method.state(),
        "collector": session.collector.state(),
        "loop": {"streams": session.streams.state(), "metrics": session.metrics.state(), "recent": session.recent},
    }
    keep = session.policy.config.keep_checkpoints
    path = checkpoint.save(run.checkpoints, session.step, parts, {"replay": chunks}, keep)
    session.store.promise()
    needed = {e["file"] for extra in checkpoint.extras(run.checkpoints) for e in extra["replay"]}
    session.log.prune(needed | set(session.store.files))
    if isinstance(session.policy.method, Decomposition):
        session.policy.method.model.save(run.path / "reward")
    return path


def restore(session: Session, parts: dict[str, Any], extra: dict[str, Any]) -> bool:
    """Bring a fresh session to the state of a checkpoint that `newest` has found whole.

    False: an open episode could not be repeated exactly. Raises UserError where the environment has other spaces now.
    """
    loop = parts["loop"]
    session.streams.load_state(loop["streams"])
    session.metrics.load_state(loop["metrics"], session.policy.device)
    session.recent = list(loop["recent"])
    _load(session.policy, parts)
    session.log.read(extra["replay"], session.store, verified=True)  # gigabytes of frames, and `newest` has read them
    return session.collector.load_state(parts["collector"])


def _load(policy: Policy, parts: dict[str, Any]) -> None:
    try:
        policy.agent.load_state(parts["agent"])
        policy.method.load_state(parts["method"])
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise UserError(
            f"the checkpoint's networks do not fit {policy.config.env} as it is now, with observations "
            f"{policy.spec.seen_shape} and {policy.spec.act_dim} actions: bring the environment back to what it was"
        ) from error


def drop_future(session: Session, run: RunDir) -> None:
    """Remove what a run left behind that was further than this session is: it went on from a damaged checkpoint."""
    for path in run.credit.glob("step_*.safetensors"):
        if path.stem > f"step_{session.step:09d}":
            path.unlink()
    if isinstance(session.policy.method, Decomposition) and (run.path / "reward").exists():
        session.policy.method.model.save(run.path / "reward")


def newest(run: RunDir, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The newest checkpoint that is whole, its share of the replay log included; one `warn` line for each before it."""
    return checkpoint.newest(run.checkpoints, warn, lambda extra: ReplayLog(run.replay).verify(extra["replay"]))


def load_policy(run_dir: Path, path: Path | None, warn: Callable[[str], None]) -> tuple[int, Policy]:
    """The step and the learned parts of a run's newest whole, or the given, checkpoint; the replay is not looked at."""
    run = RunDir.open(run_dir)
    config = settings(run)
    parts = checkpoint.newest(run.checkpoints, warn)[1] if path is None else checkpoint.load(path)[0]
    probe = one_env(config)
    policy = make_policy(config, env_spec(config, probe), Streams(config.seed))
    probe.close()
    _load(policy, parts)
    return int(parts["collector"]["env_steps"]), policy
