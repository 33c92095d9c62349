"""The loop of human power, learned: humans and robots act, the learner learns, and is held to the exact solution."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from apportion.config import from_json, to_json
from apportion.device import torch_device
from apportion.fast.compile import check_compiler
from apportion.power.grid.ensemble import Ensemble
from apportion.power.learn.check import ExactCheck, Learned
from apportion.power.learn.check_members import MembersCheck
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.fit import compiled_fit
from apportion.power.learn.learner import Learner
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.priors import make_prior
from apportion.power.learn.replay import Steps
from apportion.power.learn.stages import beta_r_at, epsilon_at, lr_factor_at, stage_at
from apportion.power.learn.worlds import open_kept, reopen, unseen_worlds
from apportion.power.own import own_faults
from apportion.power.world import World
from apportion.run import checkpoint
from apportion.run.cadence import crossed
from apportion.run.files import write_json
from apportion.run.metrics import Accumulator, JsonLines
from apportion.run.progress import Progress
from apportion.run.rundir import RunDir
from apportion.run.sinks import Sink, check_sinks, open_sinks
from apportion.train.actors import Crew, make_crew
from apportion.train.process import interrupts, torch_threads
from apportion.types import UserError


@dataclass
class Session:
    """A run in memory."""

    config: Phase2Config
    world: World
    kept: dict[str, Any]  # what the world is made from
    learner: Learner
    prior: HumanPrior
    step: int = 0  # environment steps so far
    owed: float = 0.0  # training steps that are due
    metrics: Accumulator = field(default_factory=Accumulator)
    actors: list[Any] | None = None  # their states, from a checkpoint


def train_power(
    config: Phase2Config,
    run_dir: Path,
    *,
    log: tuple[str, ...] = (),
    command: list[str] | None = None,
    progress: bool = True,
) -> None:
    """Run `config` from its first step in the new directory `run_dir`; what a slip leaves there is no run yet."""
    if config.compile:
        check_compiler(torch_device(config.device))
    check_sinks(log)
    with torch_threads(config.threads), own_faults(config.world, config.human_prior):
        world, kept = open_kept(config)
        session = make_session(config, world, kept, prior_steps=config.prior_steps)
        run = RunDir.create(run_dir, to_json(config), command or [])
        with run.lock():
            write_json(run.path / "world.json", kept)
            _loop(session, run, False, log, progress)


def resume(run_dir: Path, *, log: tuple[str, ...] = (), progress: bool = True) -> None:
    """Go on with the run in `run_dir` from its newest whole checkpoint; exactly, unless its actors ran ahead."""
    run = RunDir.open(run_dir)
    config, kept = settings(run)
    with torch_threads(config.threads), run.lock(), own_faults(config.world, config.human_prior):
        if not checkpoint.steps(run.checkpoints):
            _warn(f"{run.path} has no checkpoint yet: starting from its first step")
            session = make_session(config, reopen(kept), kept, prior_steps=config.prior_steps)
            _loop(session, run, False, log, progress)
            return
        session = load_session(run, None)
        if session.step >= config.steps:
            run.mark("finished", True)
            print(f"{run.path}: already finished at step {session.step:,}; apportion report {run.path}")
            return
        if config.use_async and not config.lockstep:
            run.mark("resume", "approximate")
        _loop(session, run, True, log, progress)


def make_session(config: Phase2Config, world: World, kept: dict[str, Any], *, prior_steps: int) -> Session:
    """A run at its step 0. Raises UserError for a world that cannot be learned as asked."""
    if not world.humans:
        raise UserError(f"{world.name} has no human: whose power is meant?")
    if config.targets == "model" and not world.enumerable:
        raise UserError(f"{world.name} can only be sampled: --preset sampled --human-prior learned --robot-belief mean")
    prior = make_prior(config.human_prior, world, config.params, steps=prior_steps, seed=config.seed, say=_warn)
    return Session(config, world, kept, Learner(world, prior, config), prior)


def settings(run: RunDir) -> tuple[Phase2Config, dict[str, Any]]:
    """What the run was started with, and its world. Raises UserError where its files do not say so."""
    try:
        return from_json(Phase2Config, run.config()), json.loads((run.path / "world.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run.path}/world.json cannot be read ({error}): start a new run") from error


def load_session(run: RunDir, path: Path | None) -> Session:
    """The run as it was at its newest whole, or the given, checkpoint."""
    config, kept = settings(run)
    parts = checkpoint.newest(run.checkpoints, _warn)[1] if path is None else checkpoint.load(path)[0]
    session = make_session(config, reopen(kept), kept, prior_steps=0)
    session.prior.load_state(parts["prior"])
    session.learner.load_state(parts["learner"])
    loop = parts["loop"]
    session.step, session.owed, session.actors = int(loop["step"]), float(loop["owed"]), loop["actors"]
    session.metrics.load_state(loop["metrics"], session.learner.device)
    return session


def _loop(session: Session, run: RunDir, resumed: bool, log: tuple[str, ...], progress: bool) -> None:
    config = session.config
    with ExitStack() as stack:
        metrics, timing, evaluations = (
            JsonLines(path, truncate_after_step=session.step) for path in (run.metrics, run.timing, run.evaluations)
        )
        at = session.step if resumed else None
        sinks = open_sinks(list(log), run.path, run.path.name, to_json(config), resumed_at=at)
        for file in (metrics, timing, evaluations, *sinks):
            stack.callback(file.close)
        screen = Console(quiet=not progress)
        table = stack.enter_context(Progress(config.steps, run.path.name, first_step=session.step, console=screen))
        table.message(f"writing to {run.path}")
        check = make_check(session, table.message)
        crew = make_crew(session.world, session.kept, session.prior, config, session.actors, table.message)
        stack.callback(crew.close)
        if config.compile:
            session.learner.fit = compiled_fit(session.learner.device, table.message)
        stopping = stack.enter_context(interrupts(table.message))
        clock, start = time.monotonic(), session.step
        table.begin()
        while session.step < config.steps and not stopping.is_set():
            before = session.step
            iteration(session, crew)
            now, shown = session.step, dict[str, float | str]()
            over = now >= config.steps
            if crossed(before, now, config.log_every) or over:
                seconds = time.monotonic() - clock
                stage = stage_at(config, now)
                shown |= _log(session, crew, metrics, sinks) | {"stage": f"{stage.number} ({stage.name})"}
                rates = {"steps_per_s": (now - start) / seconds, "updates": session.learner.updates}
                timing.write({"step": now, "seconds": seconds, **rates})
            if check is not None and (crossed(before, now, config.check_every) or over):
                shown |= _check(session, check, evaluations, sinks)
            if crossed(before, now, config.save_freq) or over or stopping.is_set():
                save(session, crew, run)
            table.update(session.step, shown)
        finished = session.step >= config.steps
        run.mark("finished", finished)
        way_on = (
            "finished; apportion report"
            if finished
            else f"stopped at step {session.step:,}: go on with apportion resume"
        )
        table.message(f"{run.path}: {way_on} {run.path}")


def iteration(session: Session, crew: Crew) -> None:
    """Take the steps that are there, then train.

    Where actors run ahead: one training step between two looks, and at the end all that are still due.
    """
    config, learner = session.config, session.learner
    lead = math.ceil(session.owed / config.updates_per_step) if session.owed >= 1 else 0
    take(session, crew.collect(learner, session.step, lead))
    over = session.step >= config.steps
    for steps in crew.drain() if over else ():
        take(session, steps)
    due = math.floor(session.owed)
    for _ in range(due if over or not config.use_async or config.lockstep else min(1, due)):
        session.owed -= 1
        session.metrics.add(learner.update(session.step))


def take(session: Session, steps: Steps | None) -> None:
    """Steps become material to learn from, and training steps become due, once there is a batch to learn from."""
    if steps is None:
        return
    before, session.step = session.step, session.step + len(steps.t)
    session.learner.take(steps, before, session.step)
    more = session.config.updates_per_step * len(steps.t)
    # what is due stays so where actors that ran ahead came to a stage that begins with an empty replay
    session.owed = session.owed + more if session.learner.ready() else math.floor(session.owed)


def save(session: Session, crew: Crew, run: RunDir) -> Path:
    """Write a checkpoint; actors that run ahead come to rest first. A diverged run is not saved: NonFinite."""
    for steps in crew.drain():
        take(session, steps)
    session.actors = crew.state()
    loop = {"step": session.step, "owed": session.owed, "actors": session.actors, "metrics": session.metrics.state()}
    parts = {"learner": session.learner.state(), "prior": session.prior.state(), "loop": loop}
    return checkpoint.save(run.checkpoints, session.step, parts, {}, session.config.keep_checkpoints)


def _log(session: Session, crew: Crew, metrics: JsonLines, sinks: list[Sink]) -> dict[str, float]:
    config, step = session.config, session.step
    values = {
        "stage": float(stage_at(config, step).number),
        "beta_r": beta_r_at(config, step),
        "epsilon": epsilon_at(config, step),
        "lr_factor": lr_factor_at(config, step),
        "episodes": float(crew.episodes()),
        "updates": float(session.learner.updates),
        "states": float(len(session.learner.table)),
        **session.metrics.flush(),
    }
    metrics.write({"step": step, **values})
    for sink in sinks:
        sink.write(step, values)
    return values


def make_check(session: Session, say: Callable[[str], None]) -> ExactCheck | MembersCheck | None:
    """The exact solution to hold the run against, where it is wanted and can be had."""
    config, world = session.config, session.world
    if config.check == "never":
        return None
    try:
        if isinstance(world, Ensemble):
            return MembersCheck(world, unseen_worlds(session.kept), config.params, config.check_states)
        return ExactCheck(world, config.params, max_states=config.check_states)
    except UserError as error:
        if config.check == "exact":
            raise
        say(f"no check against the exact solution: {error}")
        return None


def _check(
    session: Session, check: ExactCheck | MembersCheck, evaluations: JsonLines, sinks: list[Sink]
) -> dict[str, float]:
    if isinstance(check, MembersCheck):
        errors = check.errors(lambda world, states, t: learned(session, world, states, t))
    else:
        errors = check.errors(lambda states, t: learned(session, session.world, states, t))
    evaluations.write({"step": session.step, "updates": session.learner.updates, **errors})
    shown = {f"exact/{name}": value for name, value in errors.items()}
    for sink in sinks:
        sink.write(session.step, shown)
    return shown


def learned(session: Session, world: World, states: np.ndarray, t: np.ndarray) -> Learned:
    """What the learner says, with the policy that beta_r asks for in the end."""
    found = session.learner.estimates(world, states, t, session.config.params.beta_r)
    return Learned(*(x.cpu().numpy() for x in (found.v_e, found.x, found.q, found.pi)))


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
