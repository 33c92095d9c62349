"""The online loop: collect, learn the reward, train the agent, evaluate, save. Read it top to bottom."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file

from apportion.agents.base import Noise
from apportion.config import OnlineConfig, RewardConfig, SACConfig, to_json
from apportion.device import torch_device
from apportion.envs.atari import game_of
from apportion.fast.compile import accelerate
from apportion.run import checkpoint
from apportion.run.cadence import crossed
from apportion.run.files import full_disk
from apportion.run.metrics import JsonLines
from apportion.run.progress import Progress
from apportion.run.rundir import RunDir
from apportion.run.sinks import Sink, open_sinks
from apportion.train.evaluate import Evaluator, learned_rewards, summary
from apportion.train.preflight import preflight
from apportion.train.process import interrupts, torch_threads, use_threads
from apportion.train.session import (
    Policy,
    Session,
    drop_future,
    make_policy,
    make_session,
    newest,
    restore,
    save,
    settings,
)
from apportion.train.strip import strip
from apportion.train.update import Learner, in_turn, learner_update, side_by_side
from apportion.types import Episode, Spec, UserError


def train_online(
    config: OnlineConfig,
    run_dir: Path,
    *,
    log: tuple[str, ...] = (),
    command: list[str] | None = None,
    progress: bool = True,
) -> None:
    """Run `config` from its first step in the new directory `run_dir`; a slip leaves no directory behind."""
    preflight(config, log)
    with torch_threads(config.threads // sides(config)):
        run = RunDir.create(run_dir, to_json(config), command or [])
        with run.lock():
            _loop(config, run, None, log, progress)


def resume(run_dir: Path, *, log: tuple[str, ...] = (), progress: bool = True) -> None:
    """Go on with the run in `run_dir` from its newest whole checkpoint, exactly as if it had never stopped.

    A finished run is left as it is.
    """
    run = RunDir.open(run_dir)
    config = settings(run)
    with torch_threads(config.threads // sides(config)), run.lock():
        if not checkpoint.steps(run.checkpoints):
            _warn(f"{run.path} has no checkpoint yet: starting from its first step")
            _loop(config, run, None, log, progress)
        else:
            _, parts, extra = newest(run, _warn)
            step = int(parts["collector"]["env_steps"])
            if step >= config.steps:
                run.mark("finished", True)
                table = Progress(config.steps, run.path.name, console=Console(quiet=not progress))
                table.message(f"{run.path}: already finished at step {step:,}; apportion report {run.path}")
                return
            _loop(config, run, (parts, extra), log, progress)


def _loop(
    config: OnlineConfig, run: RunDir, saved: tuple[dict, dict] | None, log: tuple[str, ...], progress: bool
) -> None:
    with ExitStack() as stack:
        session = make_session(config, run, _warn)
        stack.callback(session.collector.close)
        if saved is not None and not restore(session, *saved):
            run.mark("resume", "approximate")
        drop_future(session, run)
        evaluator = Evaluator(config, session.policy.spec, config.test_rollouts, config.seed)
        stack.callback(evaluator.close)
        metrics, timing, evaluations = (
            JsonLines(path, truncate_after_step=session.step) for path in (run.metrics, run.timing, run.evaluations)
        )
        resumed_at = None if saved is None else session.step
        sinks = open_sinks(list(log), run.path, run.path.name, to_json(config), resumed_at=resumed_at)
        for file in (metrics, timing, evaluations, *sinks):
            stack.callback(file.close)
        screen = Console(quiet=not progress)
        table = stack.enter_context(
            Progress(
                config.steps,
                run.path.name,
                of_return=_of_return(config),
                first_step=session.step,
                warmup=config.warmup,
                console=screen,
            )
        )
        table.message(f"writing to {run.path}")
        learn = learner(session.policy, stack, table.message)
        stopping = stack.enter_context(interrupts(table.message))
        clock, start = time.monotonic(), session.step
        while session.step < config.steps and not stopping.is_set():
            before = session.step
            iteration(session, learn)
            now = session.step
            over = now >= config.steps
            shown: dict[str, float] = {}
            if crossed(before, now, config.log_every) or over:
                seconds = time.monotonic() - clock
                shown |= _log(session, metrics, sinks)
                timing.write({"step": now, "seconds": seconds, "steps_per_s": (now - start) / seconds})
            if crossed(before, now, config.eval_every) or over:
                shown |= _evaluate(session, evaluator, run, evaluations, sinks)
            if crossed(before, now, config.save_freq) or session.store.save_due or over or stopping.is_set():
                save(session, run)
            table.update(now, shown)
        finished = session.step >= config.steps
        run.mark("finished", finished)
        if finished:
            table.message(f"{run.path}: finished; apportion report {run.path}")
        else:
            table.message(f"stopped at step {session.step:,}: go on with `apportion resume {run.path}`")


def _of_return(config: OnlineConfig) -> str:
    """What the table says about the return of the episodes played."""
    if config.env_type == "ep_rews":
        return "true, hidden from the learner"
    return "of clipped rewards" if game_of(config.env) else ""


def learner(policy: Policy, stack: ExitStack, say: Callable[[str], None]) -> Learner:
    """How updates are made: on each of two sides where there are threads for both, else one after the other."""
    config, count = policy.config, sides(policy.config)
    if count == 1:
        update = accelerate(learner_update, config.compile, config.bf16, policy.device, say)
        return in_turn(policy.method, policy.agent, update)
    before = partial(use_threads, config.threads // count)
    pool = stack.enter_context(ThreadPoolExecutor(1, "apportion-reward", before))
    return side_by_side(policy.method, policy.agent, config.bf16, pool)


def sides(config: OnlineConfig) -> int:
    """2 where the reward model can learn beside the agent: of two threads, in eager mode on the CPU."""
    on_cpu = torch_device(config.device).type == "cpu"
    return 2 if config.threads > 1 and config.reward.learned and on_cpu and not config.compile else 1


def iteration(session: Session, learn: Learner) -> None:
    """Collect `timesteps` steps, then take `train_batches` gradient steps on closed episodes.

    Several environments may step past the end of an iteration: updates follow the ends that were really passed.
    """
    policy, collector, streams = session.policy, session.collector, session.streams
    config, before = policy.config, session.step
    for _ in range(math.ceil(config.timesteps / config.num_envs)):
        for episode in collector.step(lambda obs: choose(session, obs)):
            session.take(episode)
    if session.step < config.warmup:
        return
    if session.store.n_episodes == 0:
        raise UserError(_no_episode(config, session.limit))
    passed = session.step // config.timesteps - before // config.timesteps
    updates = passed * config.train_batches
    drawn = policy.method.draws(session.store, updates, config.batch_size, config.gamma, streams)
    draws = ((batch.to(policy.device), subsets and subsets.to(policy.device)) for batch, subsets in drawn)

    def noise() -> Noise:
        drawn = policy.agent.update_noise(streams, config.batch_size)
        return {name: x.to(policy.device) for name, x in drawn.items()}

    for metrics in learn(draws, noise):
        session.metrics.add(metrics)


def _no_episode(config: OnlineConfig, limit: int | None) -> str:
    begun = f"no episode of {config.env} ended within the warm-up of {config.warmup} steps"
    n, each = config.num_envs, f"{config.num_envs} environments x "
    if limit is not None:
        least = f"{n * limit} = {each}{limit} steps" if n > 1 else f"{limit} steps, an episode's length"
        return f"{begun}: raise --warmup to {least}"
    length = f"{each}an episode's length" if n > 1 else "an episode's length"
    return f"{begun}: raise --warmup above {length}, or give the environment a time limit (max_episode_steps)"


def choose(session: Session, obs: np.ndarray) -> np.ndarray:
    """Uniformly random actions during the warm-up, the exploring policy's afterwards."""
    policy, collector = session.policy, session.collector
    if session.step < policy.config.warmup:
        return collector.random_actions(session.streams)
    noise = policy.agent.act_noise(session.streams, len(obs))
    return policy.agent.act(torch.from_numpy(obs).to(policy.device), noise, session.step).cpu().numpy()


def _log(session: Session, metrics: JsonLines, sinks: list[Sink]) -> dict[str, float]:
    values = session.metrics.flush()
    for name, value in values.items():
        if not math.isfinite(value):
            checkpoint.flatten("method", session.policy.method.state())  # raises, naming the first tensor to blame
            checkpoint.flatten("agent", session.policy.agent.state())
            raise UserError(
                f"metric {name} is {value} at step {session.step}: training has diverged; try lower step sizes"
            )
    values = {"episodes": float(session.collector.episodes), **values}
    if session.recent:
        values["return"] = float(np.mean(session.recent))
    metrics.write({"step": session.step, **values})
    for sink in sinks:
        sink.write(session.step, values)
    return values


def _evaluate(
    session: Session, evaluator: Evaluator, run: RunDir, evaluations: JsonLines, sinks: list[Sink]
) -> dict[str, float]:
    traces = evaluator.rollouts(session.policy.agent, session.policy.device)
    learned = learned_rewards(session.policy.method, traces)
    result = summary(traces, learned)
    if learned is not None:
        true = np.concatenate([t.reward for t in traces]).astype(np.float32)
        lengths = np.array([len(t.reward) for t in traces])
        run.credit.mkdir(exist_ok=True)
        with full_disk(run.credit, "the checkpoints are kept"):
            columns = {"true": true, "learned": np.concatenate(learned).astype(np.float32), "length": lengths}
            columns |= strip([t.obs for t in traces], **columns, spec=session.policy.spec)
            save_file(columns, run.credit / f"step_{session.step:09d}.safetensors")
    evaluations.write({"step": session.step, "seeds": evaluator.seeds, **result})
    audit = {f"audit/{k}": v for k, v in (result["audit"] or {}).items() if v is not None}
    shown = {"evaluation/return": float(np.mean(result["returns"])), **audit}
    for sink in sinks:
        sink.write(session.step, shown)
    return shown


def probe_update(spec: Spec, episode: Episode) -> None:
    """One update of a reward model and an agent on `episode`; raises where its data cannot be learned from."""
    from apportion.config import DQNConfig
    from apportion.rng import Streams
    from apportion.store.episodes import EpisodeStore

    agent_config = SACConfig() if spec.act_kind == "box" else DQNConfig()
    reward = RewardConfig(rrd_sample_size=8, rrd_batch_size=32)
    streams = Streams(0)
    policy = make_policy(OnlineConfig(env="probe", reward=reward, agent=agent_config), spec, streams)
    store = EpisodeStore(episode.length + 1, spec)
    store.add(policy.method.closed(episode))
    batch, subsets = next(iter(policy.method.draws(store, 1, 32, 0.99, streams)))
    noise = policy.agent.update_noise(streams, 32)
    for name, value in learner_update(policy.method, policy.agent, batch, subsets, noise, policy.agent.due()).items():
        if not bool(torch.isfinite(value)):
            raise UserError(f"one update on an episode of {episode.length} steps gave {name} = {float(value)}")


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
