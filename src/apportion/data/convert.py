"""One set of episodes into another format, filtered and merged on the way; one episode in memory at a time.

Two passes: the first reads no pixels and finds out what would be left, so that a refusal comes before hours of work.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from apportion.data import filters
from apportion.data.agree import Options, agreed
from apportion.data.libero import LiberoSet
from apportion.data.schema import BadDemo, Demo, DemoSet, Frames, SetInfo, Source
from apportion.data.store import StoreWriter
from apportion.flags import did_you_mean
from apportion.run.files import full_disk
from apportion.types import UserError


@dataclass
class Result:
    """What came of it."""

    episodes: int = 0
    steps: int = 0
    noops: int = 0  # steps that were dropped as no-ops
    failures: int = 0
    filtered: int = 0  # episodes left out by --success-only and --drop-task
    skipped: list[str] = field(default_factory=list)  # a line for each bad episode
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Plan:
    """What the first pass found: which episodes stay, (set, index), and which extra columns all of them have."""

    kept: list[tuple[int, int]]
    extra: tuple[str, ...]
    tasks: Counter[str]  # episodes that each task keeps
    rows: int
    last_seen: int  # episodes with an observation after the last action


def convert(
    sources: Sequence[DemoSet], path: Path, options: Options, step: Callable[[int, int], None] = lambda done, all_: None
) -> Result:
    """Writes the episodes of all `sources` to `path`, which must not exist. `sources[1:]` are --add-failures.

    `step(done, all)` is told of each episode written. Raises UserError where sources do not agree, a task would be
    left without episodes, or there is no room; BadDemo for a bad episode, unless it may be skipped. Then, and after
    Ctrl-C, nothing is left at `path`.
    """
    _place(path, sources)
    if options.to == "lerobot" and not (options.hz or options.fps or sources[0].info.fps):
        raise UserError(f"{sources[0].info.path} does not say its steps per second, which LeRobot needs: add --fps N")
    info = agreed([source.info for source in sources], options)
    info = replace(info, path=str(path))
    result = Result()
    plan = _plan(sources, info, options, result)
    _room(path, plan, info, options)
    _notes(plan, options, result)
    stream = _stream(sources, plan, info, options, result, step)
    with full_disk(path, "nothing was kept"):
        _write(stream, info, path, options)
    return result


def _write(stream: Iterator[Demo], info: SetInfo, path: Path, options: Options) -> None:
    if options.to == "store":
        with StoreWriter(path, info) as out:
            for demo in stream:
                out.add(demo)
    elif options.to == "rlds":
        from apportion.data.write_rlds import write_rlds

        write_rlds(stream, info, path, png=options.lossless)
    elif options.to == "hdf5":
        from apportion.data.write_libero import write_libero

        write_libero(stream, info, path)
    else:
        from apportion.data.lerobot_write import write_lerobot

        write_lerobot(stream, info, path, version=options.version, lossless=options.lossless)


def _place(path: Path, sources: Sequence[DemoSet]) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already: remove it, or give another place")
    for source in sources:
        if isinstance(source, LiberoSet) and source.path.is_file():
            continue  # nothing can lie inside of it
        if Path(source.info.path).resolve() in path.resolve().parents:
            raise UserError(f"{path} lies inside {source.info.path}, which it is made from: give a place outside")
    if not path.resolve().parent.is_dir():
        raise UserError(f"{path.resolve().parent} does not exist: make it first (mkdir -p)")


def _read(sources: Sequence[DemoSet], where: tuple[int, int], info: SetInfo, options: Options, frames: Frames) -> Demo:
    """Episode `where` = (set, index), with the columns that stay, its outcome settled, its source told apart."""
    number, index = where
    demo = sources[number].read(index, frames)
    demo = filters.select(demo, tuple(info.cameras), tuple(info.proprio), tuple(demo.extra))
    if demo.success is None and (options.assume_failure if number else options.assume_success):
        demo = replace(demo, success=not number)
    if number:
        inside = f"{sources[number].info.name}/{demo.source.path}"
        demo = replace(demo, source=replace(demo.source, path=inside))
    return demo


def _shortened(demo: Demo, factor: int, options: Options) -> tuple[Demo, int, set[str]]:
    """The episode with the steps that stay, how many no-ops went, and the extra columns whose sum is another now."""
    whole = filters.stop_at_success(demo) if options.stop_at_success else demo
    demo = filters.downsample(whole, factor, options.sum_columns) if factor > 1 else whole
    short = filters.drop_noops(demo, options.sum_columns) if options.drop_noops else demo
    return short, demo.length - short.length, filters.changed_sums(whole, short)


def _factor(source: DemoSet, options: Options) -> int:
    """How many recorded steps of `source` become one. Raises UserError where that is no whole number."""
    fps = options.fps or source.info.fps
    if options.hz is None:
        return 1
    if fps is None:
        raise UserError(f"--hz {options.hz:g}: {source.info.path} does not say its steps per second: add --fps N")
    factor = round(fps / options.hz) if options.hz > 0 else 0
    if factor < 1 or abs(fps / factor - options.hz) > 1e-3 * options.hz:
        rates = ", ".join(f"{fps / k:g}" for k in (1, 2, 3, 4, 5))
        raise UserError(f"--hz {options.hz:g}: it must be the recorded {fps:g} divided by a whole number: {rates}, ...")
    return factor


def _plan(sources: Sequence[DemoSet], info: SetInfo, options: Options, result: Result) -> _Plan:
    factors = [_factor(source, options) for source in sources]
    before, after = Counter[str](), Counter[str]()
    kept: list[tuple[int, int]] = []
    columns: list[set[tuple[str, str, tuple[int, ...]]]] = []
    outcomes: list[set[bool]] = [set() for _ in sources]
    changes: set[str] = set()
    rows = last_seen = 0
    for where in ((n, i) for n, source in enumerate(sources) for i in range(len(source))):
        try:
            demo = _read(sources, where, info, options, "none")
            before[demo.task] += 1
            outcomes[where[0]].add(demo.success is not None)
            if demo.task in options.drop_tasks or (options.success_only and not demo.success):
                result.filtered += 1
                continue
            short, _, changed = _shortened(demo, factors[where[0]], options)
        except BadDemo as error:
            _skip(error, options, result)
            continue
        kept.append(where)
        after[demo.task] += 1
        changes |= changed
        columns.append({(k, v.dtype.name, v.shape[1:]) for k, v in short.extra.items()})
        rows, last_seen = rows + short.observations, last_seen + (short.observations > short.length)
    _outcomes_known(sources, outcomes)
    _nothing_emptied(before, after, options)
    if not kept:
        bad = f": {result.skipped[0]}" if result.skipped else ""
        raise UserError(f"no episode would be left to write{bad}")
    return _Plan(kept, _extra(columns, changes, options, result), after, rows, last_seen)


def _extra(
    columns: Sequence[set[tuple[str, str, tuple[int, ...]]]], changes: set[str], options: Options, result: Result
) -> tuple[str, ...]:
    """The extra columns that all episodes have alike; notes those left out, and those whose sums changed.

    `columns`: (name, type, shape of a step) of each episode. Raises UserError for --sum-columns that are not there.
    """
    there = {name for name, *_ in set.union(*columns)}
    for name in options.sum_columns:
        if name not in there:
            near = did_you_mean(name, there)
            raise UserError(f"--sum-columns {name}: extra columns are {', '.join(sorted(there)) or 'none'}{near}")
    shared = set.intersection(*columns)
    lost = {name for name, *_ in set.union(*columns) - shared}
    if lost:
        result.notes.append(f"left out, for not all episodes have them alike: {', '.join(sorted(lost))}")
    if changes - lost:
        what = "columns of which only the steps that stay were kept, so that their sums (--return column:NAME) changed"
        names = ",".join(sorted(changes - lost))
        result.notes.append(f"{what}: {names.replace(',', ', ')}; to add them up as rewards are: --sum-columns {names}")
    return tuple(sorted({name for name, *_ in shared} - lost))


def _skip(error: BadDemo, options: Options, result: Result) -> None:
    if not options.skip_bad:
        raise error
    result.skipped.append(str(error))


def _outcomes_known(sources: Sequence[DemoSet], outcomes: Sequence[set[bool]]) -> None:
    """Sets that say how episodes ended do not mix with sets that do not."""
    if len(sources) == 1 or len(set.union(*outcomes)) < 2:
        return
    silent = next(number for number, known in enumerate(outcomes) if False in known)
    flag = "--assume-failure" if silent else "--assume-success"
    raise UserError(f"{sources[silent].info.path} does not say which episodes succeeded, and others do: say {flag}")


def _nothing_emptied(before: Counter[str], after: Counter[str], options: Options) -> None:
    unknown = [task for task in options.drop_tasks if task not in before]
    if unknown:
        raise UserError(f"--drop-task {unknown[0]}: there is no such task{did_you_mean(unknown[0], before)}")
    empty = [task for task in before if not after[task] and task not in options.drop_tasks]
    if empty and after:
        why = "--success-only leaves" if options.success_only else "there is"
        count = f"{len(empty)} of {len(before)} tasks"
        raise UserError(f"{why} no episode of {count}; to give one up: --drop-task '{empty[0]}'")
    if empty and options.success_only:
        raise UserError("--success-only leaves no episode at all: none of them succeeded")


def _room(path: Path, plan: _Plan, info: SetInfo, options: Options) -> None:
    """Raises UserError where raw frames will not fit on the disk."""
    if options.to not in ("store", "hdf5"):
        return
    need = plan.rows * sum(3 * camera.height * camera.width for camera in info.cameras.values())
    free = shutil.disk_usage(path.resolve().parent).free
    if need > free:
        gib = f"{need / 2**30:.1f} GiB of frames do not fit into the {free / 2**30:.1f} GiB that are free"
        raise UserError(f"cannot write {path}: {gib}; --resize 128 or --cameras make it less, --to rlds compresses")


def _notes(plan: _Plan, options: Options, result: Result) -> None:
    if options.to in ("rlds", "lerobot") and plan.last_seen:
        what = f"{plan.last_seen} of {len(plan.kept)} episodes have an observation after the last action"
        result.notes.append(f"{what}; {options.to} has no place for it, it is left out")


def _stream(
    sources: Sequence[DemoSet],
    plan: _Plan,
    info: SetInfo,
    options: Options,
    result: Result,
    step: Callable[[int, int], None],
) -> Iterator[Demo]:
    """The episodes as they will be written; counts them in `result`."""
    factors, left = [_factor(source, options) for source in sources], Counter(plan.tasks)
    sizes = {name: (camera.height, camera.width) for name, camera in info.cameras.items()}
    frames: Frames = "all" if info.cameras else "none"
    seen: set[Source] = set()
    for where in plan.kept:
        try:
            demo = _read(sources, where, info, options, frames)
        except BadDemo as error:
            _skip(error, options, result)
            task = sources[where[0]].read(where[1], "none").task
            left[task] -= 1
            if not left[task]:
                raise UserError(f"all episodes of the task {task} are bad, the last one: {error}") from error
            continue
        demo, noops, _ = _shortened(demo, factors[where[0]], options)
        demo = replace(demo, extra={name: demo.extra[name] for name in plan.extra})
        demo = filters.resize(filters.turn(demo, options.rotate_180, options.flip), sizes)
        while demo.source in seen:  # sets of one name, or one set twice: an episode is known by its source
            demo = replace(demo, source=replace(demo.source, path=f"{where[0]}/{demo.source.path}"))
        seen.add(demo.source)
        result.episodes += 1
        result.steps += demo.length
        result.noops += noops
        result.failures += demo.success is False
        yield demo
        step(result.episodes, len(plan.kept))


def size_on_disk(path: Path) -> int:
    """Bytes of all files below `path`."""
    return int(np.sum([file.stat().st_size for file in path.rglob("*") if file.is_file()], dtype=np.int64))
