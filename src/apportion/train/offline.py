"""The offline loop: draw clips of demonstrations, learn the reward, validate, save. Read it top to bottom."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from apportion.config import FitConfig, from_json, to_json
from apportion.data.as_store import as_store, located, numbers_of, open_any, settled
from apportion.data.store import DemoStore
from apportion.run import checkpoint
from apportion.run.cadence import crossed
from apportion.run.files import write_json
from apportion.run.metrics import JsonLines
from apportion.run.progress import Progress, duration
from apportion.run.rundir import RunDir
from apportion.run.sinks import Sink, open_sinks
from apportion.train.fit_session import FitSession, draw, learn, make_fit, restore, save
from apportion.train.fit_validate import survival, validate
from apportion.train.process import interrupts, torch_threads
from apportion.train.ranks import Ranks, join
from apportion.train.split import Split, episode_ids, read_split, write_split
from apportion.types import UserError

TRIAL = 5  # steps taken on a copy, before the start, to say how long all will take


def fit(
    config: FitConfig,
    run_dir: Path,
    *,
    log: tuple[str, ...] = (),
    command: list[str] | None = None,
    progress: bool = True,
) -> None:
    """Fit `config` from its first step in the new directory `run_dir`; a slip leaves no directory behind."""
    with torch_threads(config.threads), join(config.device) as (ranks, device):
        config = located(config)
        config = settled(config, open_any(config.data, config.suite, config.timing).info)
        if ranks.first:
            RunDir.create(run_dir, to_json(config), command or [])
        ranks.wait()
        run = RunDir(run_dir)
        with ExitStack() as stack:
            if ranks.first:
                stack.enter_context(run.lock())
            store = _store(config, run, ranks)
            _loop(make_fit(config, store, ranks, _warner(ranks), device), run, None, log, progress)


def resume(run_dir: Path, *, log: tuple[str, ...] = (), progress: bool = True) -> None:
    """Go on with the fit in `run_dir` from its newest whole checkpoint, exactly as if it had never stopped.

    A finished one is left as it is.
    """
    run = RunDir.open(run_dir)
    try:
        config = from_json(FitConfig, run.config())
    except UserError as error:
        raise UserError(f"{run.config_file}: {error}") from error
    with torch_threads(config.threads), join(config.device) as (ranks, device), ExitStack() as stack:
        if ranks.first:
            stack.enter_context(run.lock())
        if run.info().get("finished"):
            _warner(ranks)(f"{run.path}: already finished")
            return
        warn = _warner(ranks)
        saved = checkpoint.newest(run.checkpoints, warn)[1] if checkpoint.steps(run.checkpoints) else None
        if saved is None:
            warn(f"{run.path} has no checkpoint yet: starting from its first step")
        store = _store(config, run, ranks)
        # the split it began with, for another release may draw another one
        session = make_fit(config, store, ranks, warn, device, _sides(run, store))
        _loop(session, run, saved, log, progress)


def _store(config: FitConfig, run: RunDir, ranks: Ranks) -> DemoStore:
    """The store to learn from; where it has to be made first, one process makes it."""
    demos = open_any(config.data, config.suite, config.timing)
    store = as_store(config, demos, _cache(run), _warner(ranks)) if ranks.first else None
    ranks.wait()
    return store or as_store(config, demos, _cache(run), _warner(ranks))


def _cache(run: RunDir) -> Path:
    return run.path / "cache" / "demos"


def _sides(run: RunDir, store: DemoStore) -> tuple[list[int], list[int]] | None:
    """The episodes of `store` to learn from and those held out, by split.json; None where there is none yet."""
    split = read_split(run.path)
    if split is None:
        return None
    place = {number: i for i, number in enumerate(numbers_of(store, _cache(run)))}
    gone = sorted({*split.train, *split.val} - place.keys())
    if gone:
        raise UserError(f"{run.path / 'split.json'} names episode {gone[0]}, which the data has not: was it changed?")
    if _ids(store, run) != split.ids:
        raise UserError(f"{store.path} does not hold the episodes that {run.path} began with: give what it was")
    train, val = ([place[number] for number in side] for side in (split.train, split.val))
    return train, val


def _ids(store: DemoStore, run: RunDir) -> dict[int, str]:
    """`episode_id` by the number in the set."""
    return dict(zip(numbers_of(store, _cache(run)), episode_ids(store).values(), strict=True))


def _loop(session: FitSession, run: RunDir, saved: dict[str, Any] | None, log: tuple[str, ...], progress: bool) -> None:
    config, ranks = session.config, session.ranks
    if saved is not None:
        restore(session, saved)
    with ExitStack() as stack:
        screen = Console(quiet=not (progress and ranks.first))
        table = Progress(config.steps, run.path.name, first_step=session.step, console=screen)
        stack.enter_context(table)
        lines = _Lines(session, run, saved is not None, log) if ranks.first else None
        if lines is not None:
            stack.callback(lines.close)
        table.message(f"writing to {run.path}")
        table.message(_about(session))
        table.message(_how_long(session))
        stopping = stack.enter_context(interrupts(table.message))
        first, clock, waited = session.step, time.monotonic(), 0.0
        over = session.step >= config.steps or not session.patient
        stop = False
        while not over and not stop:
            before = session.step
            start = time.monotonic()
            batch, keep = draw(session)
            waited += time.monotonic() - start
            learn(session, batch, keep)
            over, stop = session.step >= config.steps, ranks.any(stopping.is_set())
            shown: dict[str, float] = {}
            if crossed(before, session.step, config.validate_every) or over:
                shown |= _validate(session)
                over = over or not session.patient
            if crossed(before, session.step, config.log_every) or over:
                shown = _means(session) | shown
            if shown and lines is not None:
                seconds = time.monotonic() - clock
                speed = {"steps_per_s": (session.step - first) / seconds, "loader_share": waited / seconds}
                lines.write(session.step, shown, {"seconds": seconds, **speed})
            if ranks.first and (crossed(before, session.step, config.save_freq) or over or stop):
                save(session, run)
            table.update(session.step, shown)
        if ranks.first:
            _end(session, run, over, table.message)
        ranks.wait()  # the others' exit codes are read from what the first one has just written


class _Lines:
    """metrics.jsonl, timing.jsonl and whatever else was asked for."""

    def __init__(self, session: FitSession, run: RunDir, resumed: bool, log: tuple[str, ...]):
        self.metrics = JsonLines(run.metrics, truncate_after_step=session.step)
        self.timing = JsonLines(run.timing, truncate_after_step=session.step)
        at = session.step if resumed else None
        self.sinks: list[Sink] = open_sinks(list(log), run.path, run.path.name, to_json(session.config), resumed_at=at)
        numbers = numbers_of(session.store, _cache(run))
        train, val = ([numbers[i] for i in side] for side in session.sides)
        write_split(run.path, Split(train, val, _ids(session.store, run)))

    def write(self, step: int, values: dict[str, float], timing: dict[str, float]) -> None:
        """metrics.jsonl holds no clock: the same seed on the same machine gives the same bytes."""
        self.metrics.write({"step": step, **values})
        self.timing.write({"step": step, **timing})
        for sink in self.sinks:
            sink.write(step, values)

    def close(self) -> None:
        for file in (self.metrics, self.timing, *self.sinks):
            file.close()


def _means(session: FitSession) -> dict[str, float]:
    values = session.ranks.mean(session.metrics.flush())
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"metric {name} is {value} at step {session.step}: the fit has diverged; try a lower --r-lr, or "
                "--max-grad-norm 1"
            )
    return values


def _validate(session: FitSession) -> dict[str, float]:
    """The first process validates and remembers the best weights; all learn whether it was better."""
    shown = validate(session) if session.ranks.first else {}
    loss = session.ranks.from_first([shown.get("val/loss", math.nan)])[0]
    if math.isnan(loss):
        return shown
    if loss < session.best_loss:
        session.best_loss, session.best_step, session.stale = loss, session.step, 0
        session.best = {name: x.clone() for name, x in session.reward.state_dict().items()}
    else:
        session.stale += 1
    return shown


def _about(session: FitSession) -> str:
    pool, inputs = session.pool, session.reward.inputs
    seen = [*(name for name, _ in inputs.proprio), *inputs.cameras, *([inputs.feature] if inputs.feature else [])]
    held = 0 if session.held is None else len(session.held)
    return (
        f"{len(pool)} episodes to learn from ({int(pool.success.sum())} successes), {held} held out; the network sees "
        f"{', '.join(seen)} (condition: {session.reward.conditions.kind})"
    )


def _how_long(session: FitSession) -> str:
    """Steps to go and their time, from a few that are taken on a copy: the fit itself does not move."""
    trial = copy.copy(session)
    trial.reward = copy.deepcopy(session.reward)
    trial.net, trial.ranks = trial.reward.net, Ranks()
    trial.optim = copy.copy(session.optim)
    trial.optim.params = list(trial.net.parameters())
    for name in ("mean", "square", "steps"):
        setattr(trial.optim, name, [x.clone() for x in getattr(session.optim, name)])
    trial.streams, trial.metrics = copy.deepcopy(session.streams), copy.deepcopy(session.metrics)
    learn(trial, *draw(trial))  # the first one pays for what is made once
    start = time.monotonic()
    for _ in range(TRIAL):
        learn(trial, *draw(trial))
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
    each = (time.monotonic() - start) / TRIAL
    left = session.config.steps - session.step
    return f"{left:,} gradient steps at about {1 / each:,.0f} a second: about {duration(left * each)} in all"


def _end(session: FitSession, run: RunDir, over: bool, say: Callable[[str], None]) -> None:
    if not over:
        run.mark("finished", False)
        say(f"stopped at step {session.step:,}: go on with `apportion resume {run.path}`")
        return
    config = session.config
    if session.best:
        session.reward.load_state_dict(session.best)
    paid = _success_rewards(session)
    warning = None if config.is_potential else survival(paid)
    summary = {
        "steps": session.step,
        "best_step": session.best_step if session.best else session.step,
        "validation": validate(session),
        "mean_success_reward": float(paid.mean()) if len(paid) else None,
        "warnings": [warning] if warning else [],
    }
    write_json(run.path / "fit.json", summary)
    run.mark("finished", True)  # after its summary: a kill in between leaves a run that resume brings to its end
    if session.step < config.steps:
        say(f"stopped early at step {session.step}: no lower validation loss since step {session.best_step}")
    if warning:
        print(warning, file=sys.stderr)
    say(f"{run.path}: finished; the reward model is {run.path / 'reward'}")


def _success_rewards(session: FitSession) -> np.ndarray:
    """The learned reward of each step of training successes that ended their episodes, without the bonus."""
    from dataclasses import replace

    from apportion.data.batches import read_demo

    pool, out = session.pool, [np.zeros(0, np.float32)]
    for i in pool.episode[pool.success][: session.config.val_episodes].tolist():
        demo = read_demo(session.store, i, session.reward.inputs)
        if demo.terminated:
            out.append(session.reward.rewards(replace(demo, success=None)))
    return np.concatenate(out)


def _warner(ranks: Ranks) -> Callable[[str], None]:
    return (lambda line: print(line, file=sys.stderr)) if ranks.first else (lambda line: None)
