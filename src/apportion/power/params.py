"""The parameters of human power (Heitzig & Potham, arXiv 2508.00159), their defaults and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from apportion.types import UserError


@dataclass(frozen=True)
class PowerParams:
    """What is solved. The defaults are the specification's; `inf` is allowed where noted."""

    gamma_h: float = 0.99  # the humans' discount, (0, 1]; 1 needs a horizon
    gamma_r: float = 0.99  # the robot's discount, (0, 1]; 1 needs a horizon
    beta_h: float = 10.0  # how sharply humans choose, [0, inf]; inf: uniform over their best actions
    beta_r: float = 10.0  # how sharply the robot chooses, [0, inf)
    zeta: float = 2.0  # preference for reliable goals, >= 1
    xi: float = 1.0  # aversion to unequal power, >= 1
    eta: float = 1.1  # aversion to change over time, >= 1
    nu_h: float = 0.0  # share of habit in what humans do, [0, 1]
    robot_belief: Literal["min", "max", "mean"] = "min"  # what humans expect of the robot: worst, best, uniform
    aggregate: Literal["mean", "sum"] = "mean"  # over humans, in U_r
    duration_weight: bool = False  # multiply U_r in V_r by (1 - gamma_r) / -ln gamma_r, as the public implementation
    x_floor: float = 0.0  # smallest X_h, [0, 1); above 0 only where a human may be unable to reach anything


_RANGES: dict[str, tuple[float, bool, float, bool]] = {  # smallest, whether it is allowed itself; largest, likewise
    "gamma_h": (0, False, 1, True),
    "gamma_r": (0, False, 1, True),
    "beta_h": (0, True, math.inf, True),
    "beta_r": (0, True, math.inf, False),
    "zeta": (1, True, math.inf, False),
    "xi": (1, True, math.inf, False),
    "eta": (1, True, math.inf, False),
    "nu_h": (0, True, 1, True),
    "x_floor": (0, True, 1, False),
}


def check(params: PowerParams, horizon: int | None) -> None:
    """Raises UserError, one line, for the first value out of range, and for no discount in a world without an end."""
    for name, (low, low_in, high, high_in) in _RANGES.items():
        value = getattr(params, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{name} {value!r}: a number is wanted")
        above = value >= low if low_in else value > low
        if not (above and (value <= high if high_in else value < high)):  # NaN fails as well
            allowed = f"{'[' if low_in else '('}{low:g}, {high:g}{']' if high_in else ')'}"
            raise UserError(f"{name} {value:g} is out of range: allowed is {allowed}")
    for name, choices in _choices().items():
        _one_of(name, getattr(params, name), choices)
    for name in ("gamma_h", "gamma_r"):
        if horizon is None and getattr(params, name) == 1:
            raise UserError(f"{name} 1 needs an end: give a horizon, or a discount below 1")


def with_values(params: PowerParams, values: Mapping[str, Any]) -> PowerParams:
    """`params` with other values, given as numbers or as written on a command line. Raises UserError for others."""
    from apportion.flags import did_you_mean

    known, choices, given = {f.name for f in fields(PowerParams)}, _choices(), {}
    for written, value in values.items():
        name = written.replace("-", "_")
        if name not in known:
            near = did_you_mean(name, known)
            there = f"{near} There" if near else "; there"
            raise UserError(f"no parameter {written}{there} are {', '.join(sorted(known))}")
        if name == "duration_weight":
            given[name] = _switch(name, value)
        else:
            given[name] = _one_of(name, value, choices[name]) if name in choices else _number(name, value)
    return replace(params, **given)


def parse_values(words: Sequence[str]) -> dict[str, str]:
    """`k=v` words, several with commas or apart: {"xi": "2", ...}. Raises UserError for a word without `=`."""
    pairs = [pair for word in words for pair in word.split(",") if pair]
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UserError(f"{pair!r}: a parameter is given as name=value, like xi=2")
    return {pair.partition("=")[0].strip(): pair.partition("=")[2].strip() for pair in pairs}


def _one_of(name: str, value: Any, choices: Sequence[Any]) -> Any:
    if value not in choices:
        raise UserError(f"{name} {value}: choose from {', '.join(map(str, choices))}")
    return value


def _choices() -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(PowerParams)
    return {"duration_weight": (False, True)} | {name: get_args(hint) for name, hint in hints.items() if get_args(hint)}


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{name} {value}: a number is wanted") from None


def _switch(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false"):
        raise UserError(f"{name} {value}: true or false is wanted")
    return str(value).lower() == "true"
