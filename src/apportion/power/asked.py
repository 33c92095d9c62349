"""What a file asks for: described states, samples of transitions, parameters; each slip is one line with its place."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from apportion.flags import did_you_mean
from apportion.power.compiled import Compiled
from apportion.power.params import PowerParams, with_values
from apportion.power.world import World
from apportion.types import UserError

VALUES = (
    "V_r", "robot_action_profiles", "Q_r", "pi_r", "V_h_e", "V_h_m", "pi_h_goal", "pi_h_marginal", "X_h", "U_r",
    "V_r_check",
)  # fmt: skip  # what is told of a state, and may be compared
SUMS = (  # what is told of the whole world
    "num_states", "num_terminal_states", "num_state_action_profiles", "num_transition_edges", "num_stochastic_profiles",
    "states_per_step", "aggregates",
)  # fmt: skip
_TIME = ("step_count", "terminal")  # beside the world's own description
_STATES = ("initial_state", "other_states", "states")
_TOP = (*_STATES, "transition_samples", "params", "config", "duration_weight_on_U_r")


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Slips that are told inside are told with the file's name."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_states(path: Path) -> dict[str, Any]:
    """A file with described states: a reference file, a list of states, or one state. Raises UserError for others."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if isinstance(data, dict):
        _refuse_other_kinds(data, path)
    if isinstance(data, dict) and "initial_state" not in data and "other_states" not in data:
        data = data.get("states", [data])
    asked = {"other_states": data} if isinstance(data, list) else data
    if not isinstance(asked, dict) or not isinstance(asked.get("other_states", []), list):
        raise UserError(f"{path}: a list of states is wanted, each a mapping")
    for what, state in asked_states(asked):
        if not isinstance(state, dict):
            raise UserError(f"{path}: {what} is {_short(state)}: a list of states is wanted, each a mapping")
    for name in ("params", "config"):
        if not isinstance(asked.get(name, {}), dict):
            raise UserError(f"{path}: {name}: names and values are wanted, a mapping, not {_short(asked[name])}")
    _check_samples(asked, path)
    with of_file(path):
        params_in(asked)
    return asked


def _refuse_other_kinds(data: Mapping[str, Any], path: Path) -> None:
    """Raises UserError for a run's own record, and for a key that is nearly one of those with states."""
    if {"digest", "policy"} <= data.keys():
        raise UserError(f"{path} is the record of a run and describes no states: give a file that does (docs/power.md)")
    for name in data:
        near = did_you_mean(name, _TOP) if name not in (*_TOP, *SUMS) and data.keys() & set(_STATES) else ""
        if near:
            raise UserError(f"{path}: unknown key {name}{near}")


def _check_samples(asked: Mapping[str, Any], path: Path) -> None:
    samples = asked.get("transition_samples", [])
    if not isinstance(samples, list):
        raise UserError(f"{path}: transition_samples: a list is wanted, not {_short(samples)}")
    for i, sample in enumerate(samples):
        what = f"{path}: transition_samples[{i}]"
        if not isinstance(sample, dict) or not {"state", "actions"} <= sample.keys():
            raise UserError(f"{what}: a mapping with state and actions is wanted, not {_short(sample)}")
        if not isinstance(sample["state"], dict):
            raise UserError(f"{what}.state: a state is wanted, a mapping, not {_short(sample['state'])}")


def check_outcomes(asked: Mapping[str, Any], path: Path) -> None:
    """Raises UserError where samples lack what a comparison needs: their outcomes, each a state and its p."""
    for i, sample in enumerate(asked.get("transition_samples", [])):
        outcomes, what = sample.get("outcomes"), f"{path}: transition_samples[{i}].outcomes"
        if not isinstance(outcomes, list):
            raise UserError(f"{what}: a list is wanted to compare with, not {_short(outcomes)}")
        for k, outcome in enumerate(outcomes):
            if not isinstance(outcome, dict) or not {"state", "p"} <= outcome.keys():
                raise UserError(f"{what}[{k}]: a mapping with state and p is wanted, not {_short(outcome)}")


def check_values(asked: Mapping[str, Any], path: Path) -> None:
    """Raises UserError where a file holds no value to compare with."""
    keys = {key: None for _, state in asked_states(asked) for key in state}
    if not keys.keys() & {*VALUES} and not asked.keys() & {*SUMS} and not asked.get("transition_samples"):
        near = next((f"{key} is none{near}" for key in keys if (near := did_you_mean(key, VALUES))), "")
        known = near or f"its states hold none of {', '.join(VALUES)}: leave --compare out"
        raise UserError(f"{path}: there are no values to compare with; {known}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def asked_states(asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(place, description) of each."""
    if "initial_state" in asked:
        yield "initial_state", asked["initial_state"]
    for i, state in enumerate(asked.get("other_states", [])):
        yield f"other_states[{i}]", state


def params_of(asked: Mapping[str, Any], given: Mapping[str, Any]) -> PowerParams:
    """The parameters that a file of states names, and over them those of the command line. Raises UserError."""
    return with_values(params_in(asked), given)


def params_in(asked: Mapping[str, Any]) -> PowerParams:
    """The parameters that a file of states names. Raises UserError, with the place, for what is no value of one."""
    known = asdict(PowerParams())
    own = {k: v for k, v in asked.get("params", {}).items() if k in known}
    weight = asked.get("duration_weight_on_U_r", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise UserError(f"duration_weight_on_U_r: a number is wanted, not {_short(weight)}")
    if weight != 1.0:
        own["duration_weight"] = True
    for name, value in own.items():
        if isinstance(value, bool) and not isinstance(known[name], bool):  # to Python they are numbers too
            raise UserError(f"params: {name} {_short(value)}: a number is wanted")
    try:
        return with_values(PowerParams(), own)
    except UserError as error:
        raise UserError(f"params: {error}") from None


def check_fits(world: World, compiled: Compiled, asked: Mapping[str, Any], compared: bool = False) -> None:
    """Raises UserError for a state or an action that the world does not have: before it is solved, not after.

    `compared`: also for what is no value of a state.
    """
    own = tuple(world.describe(compiled.states[0]))
    for what, description in asked_states(asked):
        _check_keys(world, own, description, what, compared)
        step_count(compiled, description, what)
        parsed(world, description, what)
    for i, sample in enumerate(asked.get("transition_samples", [])):
        what = f"transition_samples[{i}]"
        sample_time(sample["state"], what)
        parsed(world, sample["state"], f"{what}.state")
        joint_action(world, sample["actions"], what)


def _check_keys(world: World, own: Collection[str], description: Mapping[str, Any], what: str, compared: bool) -> None:
    """Raises UserError for keys that a state cannot have: where it lacks one of its own, or is held against another."""
    unknown = [key for key in description if key not in (*own, *_TIME, *VALUES)]
    if unknown and (compared or any(key not in description for key in own)):
        near = did_you_mean(unknown[0], (*own, *_TIME, *VALUES)) or did_you_mean(unknown[0], _STATES)
        values = f", and its values are {', '.join(VALUES)}" if compared else ""
        holds = f"state of {world.name} has {', '.join((*own, 'step_count'))}{values}"
        raise UserError(f"{what}: unknown key {unknown[0]}{f'{near} A' if near else '; a'} {holds}")


def step_count(compiled: Compiled, description: Mapping[str, Any], what: str) -> int:
    """A described state's time; 0 where there is no horizon. Raises UserError where it is missing."""
    if compiled.horizon is None:
        return 0
    t = description.get("step_count")
    if not isinstance(t, int) or isinstance(t, bool):
        raise UserError(f"{what}: step_count, a whole number, is missing: the values depend on the steps that are left")
    return t


def parsed(world: World, description: Mapping[str, Any], what: str) -> np.ndarray:
    """The state that a description means. Raises UserError, with the place, if the world cannot read it."""
    try:
        return world.parse(dict(description))
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:  # of one's own world
        raise UserError(f"{what}: {world.name} cannot read this state ({type(error).__name__}: {error})") from None


def joint_action(world: World, actions: Any, what: str) -> np.ndarray:
    """A sample's joint action (N,). Raises UserError for other than one action number of each agent."""
    if not isinstance(actions, list) or len(actions) != len(world.agents):
        raise UserError(
            f"{what}.actions: one number of each of {len(world.agents)} agents is wanted, not {_short(actions)}"
        )
    for i, (action, names) in enumerate(zip(actions, world.actions, strict=True)):
        if not isinstance(action, int) or isinstance(action, bool) or not 0 <= action < len(names):
            raise UserError(
                f"{what}.actions[{i}]: {world.agents[i]} has actions 0 to {len(names) - 1}, not {_short(action)}"
            )
    return np.array(actions, np.int64)


def sample_time(state: Mapping[str, Any], what: str) -> int | None:
    """The step count of a sampled state, which need not have one."""
    t = state.get("step_count")
    if t is not None and (not isinstance(t, int) or isinstance(t, bool)):
        raise UserError(f"{what}.state: step_count: a whole number is wanted, not {_short(t)}")
    return t
