"""What is in a set of episodes: a table per task, cameras, ranges, rewards; and a sheet of frames to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.schema import Demo, DemoSet, SetInfo
from apportion.data.summary import Summary
from apportion.run.files import write_atomic
from apportion.types import UserError

LIES = {
    "upright": "upright",
    "opengl": "upside down (the simulator's raw buffer, opengl)",
    "rotated": "rotated by 180 degrees: upright, but left and right are swapped",
    "unknown": "orientation not recorded",
}


def overview(info: SetInfo, episodes: Sequence[Summary], skipped: int = 0) -> dict[str, Any]:
    """Everything `apportion data inspect` shows, as plain JSON values. Needs at least one episode."""
    lengths = np.array([e.length for e in episodes])
    return {
        "path": info.path,
        "name": info.name,
        "format": info.format,
        "suites": sorted({e.suite or info.name for e in episodes}),
        "episodes": len(episodes),
        "skipped": skipped,
        "steps": int(lengths.sum()),
        "length": _lengths(lengths),
        "fps": info.fps,
        "obs_timing": info.obs_timing,
        "cameras": {
            name: {"height": c.height, "width": c.width, "orientation": c.orientation}
            for name, c in info.cameras.items()
        },
        "proprio": {name: x if isinstance(x, int) else list(x) for name, x in info.proprio.items()},
        "action": _actions(episodes),
        "rewards": _rewards(episodes),
        "noop_share": _noops(episodes),
        "tasks": [
            _task(name, [e for e in episodes if e.task == name]) for name in dict.fromkeys(e.task for e in episodes)
        ],
    }


def _lengths(lengths: np.ndarray) -> dict[str, int | float]:
    return {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())}


def _noops(episodes: Sequence[Summary]) -> float | None:
    """Share of no-op steps by openvla's rule; None: the rule is not made for these actions."""
    ruled = [e for e in episodes if e.still >= 0]
    return round(sum(e.still for e in ruled) / sum(e.length for e in ruled), 4) if ruled else None


def _actions(episodes: Sequence[Summary]) -> dict[str, Any]:
    gripper = sorted({x for e in episodes for x in e.gripper})
    return {
        "low": [float(x) for x in np.min([e.action_low for e in episodes], axis=0)],
        "high": [float(x) for x in np.max([e.action_high for e in episodes], axis=0)],
        "last_entry_values": gripper if len(gripper) <= 3 else None,
    }


def _rewards(episodes: Sequence[Summary]) -> dict[str, Any]:
    known = [e.success for e in episodes if e.success is not None]
    sums = [e.reward_sum for e in episodes]
    return {
        "successes": sum(known) if known else None,
        "failures": len(known) - sum(known) if known else None,
        "unknown": len(episodes) - len(known),
        "flag": all(e.flag for e in episodes),
        "sum": {"min": min(sums), "max": max(sums)},
        "episodes_with_several": sum(e.rewarded > 1 for e in episodes),
        "last_step_only": sum(e.rewarded == 1 and e.reward_last > 0 for e in episodes),
    }


def _task(name: str, episodes: Sequence[Summary]) -> dict[str, Any]:
    lengths = np.array([e.length for e in episodes])
    known = [e.success for e in episodes if e.success is not None]
    return {
        "task": name,
        "instructions": sorted({e.language for e in episodes}),
        "episodes": len(episodes),
        "steps": int(lengths.sum()),
        "length": _lengths(lengths),
        "successes": sum(known) if known else None,
        "noop_share": _noops(episodes),
    }


def lines(about: dict[str, Any]) -> list[str]:
    """The facts of `overview` outside the table of tasks, one line each."""
    length, rewards, action = about["length"], about["rewards"], about["action"]
    words = [
        f"{about['path']}: {about['name']} ({about['format']})",
        f"suites     {', '.join(about['suites'])}",
        f"episodes   {about['episodes']:,} of {len(about['tasks'])} tasks, {about['steps']:,} steps; "
        f"length {length['min']} / {length['median']:g} / {length['max']} (min / median / max)",
    ]
    if about["skipped"]:
        words.append(f"skipped    {about['skipped']} bad episodes")
    cameras = [f"{k} {c['height']} x {c['width']}, {LIES[c['orientation']]}" for k, c in about["cameras"].items()]
    words += [f"camera     {camera}" for camera in cameras or ["none"]]
    words += [f"proprio    {k}: {_entries(x)}" for k, x in about["proprio"].items()] or ["proprio    none"]
    fps = f"{about['fps']:g} steps per second" if about["fps"] else "steps per second not recorded"
    words.append(f"time       {fps}; observations in the files are from {about['obs_timing']} the action")
    ranges = " ".join(f"[{low:.3g}, {high:.3g}]" for low, high in zip(action["low"], action["high"], strict=True))
    words.append(f"action     {len(action['low'])} entries, each within {ranges}")
    if action["last_entry_values"]:
        words.append(f"           the last one is {' or '.join(f'{x:g}' for x in action['last_entry_values'])}")
    if about["noop_share"] is not None:
        words.append(f"no-ops     {about['noop_share']:.1%} of the steps (openvla's rule)")
    return [*words, *_reward_lines(about, rewards)]


def _entries(names: int | list[str]) -> str:
    return f"{names} entries" if isinstance(names, int) else f"{len(names)} entries ({', '.join(names)})"


def _reward_lines(about: dict[str, Any], rewards: dict[str, Any]) -> list[str]:
    if rewards["successes"] is None:
        outcome = "successes  not recorded"
    else:
        unknown = f", {rewards['unknown']} unknown" if rewards["unknown"] else ""
        outcome = f"successes  {rewards['successes']}, failures {rewards['failures']}{unknown}"
    low, high = rewards["sum"]["min"], rewards["sum"]["max"]
    kind = "0 or 1" if rewards["flag"] else "graded"
    paid = f"rewards    {kind}; an episode's sum is {low:g}" + ("" if low == high else f" to {high:g}")
    if rewards["last_step_only"] == about["episodes"]:
        paid += "; paid on the last step only"
    elif rewards["flag"] and rewards["episodes_with_several"]:
        paid += f"; on several steps in {rewards['episodes_with_several']} episodes: a flag, not to be summed up"
    return [outcome, paid]


def contact_sheet(
    demos: DemoSet, episodes: Sequence[tuple[int, Summary]], path: Path, per_task: int = 2, most: int = 40
) -> int:
    """First, middle and last frame of some episodes of each task, all cameras side by side, as a PNG: how many.

    `episodes`: (index in the set, summary). Frames are shown as they are stored. At most `most` rows, spread over the
    tasks. Raises UserError where there are no cameras.
    """
    if not demos.info.cameras:
        raise UserError(f"{demos.info.path} has no cameras: there is nothing to put on a sheet")
    by_task: dict[str, list[int]] = {}
    for index, summary in episodes:
        by_task.setdefault(summary.task, []).append(index)
    picked = [indices[i] for i in range(per_task) for indices in by_task.values() if i < len(indices)][:most]
    picked.sort(key=[index for indices in by_task.values() for index in indices].index)
    rows = [_row(demos.read(index, "ends")) for index in picked]
    data = io.BytesIO()
    _stack(rows).save(data, "PNG")
    write_atomic(path, data.getvalue())
    return len(rows)


def _row(demo: Demo, size: int = 128) -> Any:
    """One episode as a picture: a line of text, below it three frames of each camera."""
    from PIL import Image, ImageDraw

    gap = 4
    row = Image.new("RGB", ((size + gap) * 3 * len(demo.images) + gap, size + 22), "white")
    name = demo.source.name or str(demo.source.index)
    outcome = {True: "success", False: "failure", None: "outcome not recorded"}[demo.success]
    head = f"{demo.language or demo.task} | {name}, {demo.length} steps, {outcome}"
    ImageDraw.Draw(row).text((gap, 3), head.encode("ascii", "replace").decode(), "black")
    at = gap
    for frames in demo.images.values():
        for frame in frames:
            picture = Image.fromarray(frame)
            picture.thumbnail((size, size))
            row.paste(picture, (at, 18))
            at += size + gap
    return row


def _stack(rows: list[Any]) -> Any:
    from PIL import Image

    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    at = 0
    for row in rows:
        sheet.paste(row, (0, at))
        at += row.height
    return sheet
