"""What can be asked of a conversion; whether several sets can become one by it, and what that one will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from apportion.data.filters import turned
from apportion.data.schema import Camera, SetInfo
from apportion.flags import did_you_mean
from apportion.types import UserError

Format = Literal["hdf5", "rlds", "lerobot", "store"]


@dataclass(frozen=True)
class Options:
    """What to do on the way; defaults: nothing."""

    to: Format = "store"
    cameras: tuple[str, ...] | None = None  # keep these; None: all
    proprio: tuple[str, ...] | None = None
    drop_tasks: tuple[str, ...] = ()
    success_only: bool = False
    assume_success: bool = False  # episodes of the source that do not say have succeeded
    assume_failure: bool = False  # episodes of the added sets that do not say have failed
    stop_at_success: bool = False
    fps: float | None = None  # what the recordings ran at, where the files say nothing, or the wrong thing
    hz: float | None = None  # down-sample to this
    drop_noops: bool = False
    sum_columns: tuple[str, ...] = ()  # with hz and drop_noops: extra columns that are added up, as rewards are
    rotate_180: bool = False
    flip: bool = False
    resize: tuple[int, int] | None = None  # height, width
    skip_bad: bool = False
    lossless: bool = False  # frames of RLDS as PNG, of LeRobot as lossless video
    version: Literal["v3.0", "v2.1"] = "v3.0"  # of LeRobot's format


def agreed(infos: Sequence[SetInfo], options: Options) -> SetInfo:
    """What the merged set is.

    Raises UserError that names every column in which a set differs from the first, with both sides.
    """
    settled = [_settled(info, options) for info in infos]
    first = settled[0]
    for info in settled[1:]:
        wrong = _differences(_columns(first), _columns(info))
        if wrong:
            raise UserError(f"{info.path} does not fit to {first.path}: {'; '.join(wrong)}{_remedy(wrong)}")
    return first


def _settled(info: SetInfo, options: Options) -> SetInfo:
    cameras, proprio = options.cameras, options.proprio
    kept = {name: info.cameras[name] for name in _chosen("--cameras", cameras, info.cameras, info.path)}
    return replace(
        info,
        cameras={name: _camera(camera, name, options) for name, camera in kept.items()},
        proprio={name: info.proprio[name] for name in _chosen("--proprio", proprio, info.proprio, info.path)},
        fps=options.hz or options.fps or info.fps,
        obs_timing="before",
    )


def _camera(camera: Camera, name: str, options: Options) -> Camera:
    camera = turned(camera, name, options.rotate_180, options.flip)
    if options.resize is None:
        return camera
    height, width = options.resize
    if height == width and camera.height != camera.width:
        size = f"{camera.height} x {camera.width}"
        raise UserError(f"--resize {height}: camera {name} is {size}, no square: say HEIGHTxWIDTH")
    return replace(camera, height=height, width=width)


def _chosen(flag: str, wanted: Sequence[str] | None, there: Mapping[str, Any], path: str) -> list[str]:
    """The names that stay, in the set's order."""
    for name in wanted or ():
        if name not in there:
            near = did_you_mean(name, there)
            raise UserError(f"{flag} {name}: {path} has {', '.join(there) or 'none'}{near}")
    return [name for name in there if wanted is None or name in wanted]


def _columns(info: SetInfo) -> dict[str, str]:
    """Column -> what it is, in words."""
    about = {f"camera {k}": f"{c.height} x {c.width} {c.orientation}" for k, c in info.cameras.items()}
    widths = {name: x if isinstance(x, int) else len(x) for name, x in info.proprio.items()}
    about |= {f"proprio {name}": f"{width} entries" for name, width in widths.items()}
    about["action"] = f"{info.action} entries"
    if info.fps is not None:
        about["steps per second"] = f"{info.fps:g}"
    return about


def _differences(first: dict[str, str], other: dict[str, str]) -> list[str]:
    names = [name for name in [*first, *(n for n in other if n not in first)] if first.get(name) != other.get(name)]
    return [
        f"{name} is {other.get(name, 'missing')} instead of {first.get(name, 'missing')}"
        for name in names
        if name != "steps per second" or (name in first and name in other)  # unknown agrees with everything
    ]


def _remedy(wrong: Sequence[str]) -> str:
    kinds = {line.partition(" ")[0] for line in wrong}
    flags = {"camera": "--cameras, --resize", "proprio": "--proprio", "steps": "--fps"}
    named = [flags[kind] for kind in flags if kind in kinds]
    if any(lie in line for line in wrong for lie in ("opengl", "rotated")):
        named.append("converting one of them first, with --rotate-180,")
    return f" ({' and '.join(named)} may make them agree)" if named else ""
