"""From YAML to a layout and settings: every slip is one line that names file, key, row and column."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from apportion.flags import did_you_mean
from apportion.power.grid import layout as L
from apportion.power.grid.codes import read_rows
from apportion.power.grid.goals import Rectangle, read_goals
from apportion.power.grid.plain import refuse_what_json_lacks
from apportion.types import UserError

# Keys with a meaning, and keys of the format that change nothing here.
_KEYS = ("map", "max_steps", "orientations", "can_push_rocks", "can_enter_magic_walls", "possible_goals", "goals_cover")
_KEYS += ("stumble_probability", "solidify_probability", "enter_bush_success_prob", "action_class", "actions")
_KEYS += ("humans", "robots", "box_contents")
_IGNORED = ("seed", "metadata", "partial_obs", "agent_view_size", "see_through_walls")
_LARGEST = 32_000  # cells: positions are int16


@dataclass(frozen=True)
class Settings:
    """What a world's file says beside its map."""

    max_steps: int | None  # None: it goes on for ever
    actions: tuple[str, ...]
    humans: tuple[int, ...]  # agents
    robots: tuple[int, ...]
    pushers: tuple[int, ...]  # who may push rocks
    magicians: tuple[int, ...]  # who may enter magic walls
    goals: tuple[Rectangle, ...]
    stumble: float
    solidify: float
    bush: float
    warnings: tuple[str, ...]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, or the `config` of a JSON file with reference values."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise UserError("grid worlds need PyYAML: pip install 'apportion[power]'") from None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix == ".json":
        return _read_json(text, path)
    try:
        data = yaml.load(text, _loader(yaml))
        if isinstance(data, dict):
            refuse_what_json_lacks(data, str(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UserError(f"{at}: not valid YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # PyYAML on `!!int x`, `!!timestamp x`
        raise UserError(f"{path}: not valid YAML: a tag does not fit its value ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: not a world: its lists are nested too deeply") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a world is a mapping with at least the key map, this is {type(data).__name__}")
    return data


def _loader(yaml: Any) -> Any:
    """PyYAML's safe loader, but dates stay text: they stand in metadata, and a world is also kept as JSON."""

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


def _read_json(text: str, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise UserError(f"{path}: no world in it: a JSON file needs the key config")
    return data["config"]


def _rows(value: Any, place: str) -> list[list[str]]:
    if isinstance(value, list) and all(isinstance(row, str) for row in value):
        value = "\n".join(value)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{place}: map: rows of two-character cells are needed, as in   We Ay .. We")
    rows = [_cells(line.split()) for line in value.splitlines() if line.strip()]
    if (len(rows) + 2) * (len(rows[0]) + 2) > _LARGEST:
        raise UserError(
            f"{place}: map: {len(rows[0])} x {len(rows)} cells are too many; at most {_LARGEST} with a border"
        )
    return rows


def _cells(words: list[str]) -> list[str]:
    """A row's cells. Some files write a whole row without blanks."""
    if len(words) == 1 and len(words[0]) % 2 == 0:
        return [words[0][k : k + 2] for k in range(0, len(words[0]), 2)]
    return words


def _share(config: Mapping[str, Any], key: str, default: float, place: str) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{place}: {key}: a probability from 0 to 1 is needed, not {value!r}")
    return float(value)


def _colours(config: Mapping[str, Any], key: str, default: str, place: str) -> set[int]:
    value = config.get(key, default)
    value = "" if value is None else "".join(value) if isinstance(value, list) and all(map(_is_text, value)) else value
    if not isinstance(value, str) or not set(value) <= set(L.LETTERS):
        raise UserError(f"{place}: {key}: colour letters out of {' '.join(L.LETTERS)} are needed, not {value!r}")
    return {L.LETTERS.index(letter) for letter in value}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _max_steps(config: Mapping[str, Any], place: str) -> int | None:
    value = config.get("max_steps", 100)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{place}: max_steps: a whole number of 1 or more is needed (null: no end), not {value!r}")
    return value


def _orientations(config: Mapping[str, Any], agents: int, place: str) -> tuple[list[int], list[str]]:
    """The agents' dir, and warnings. Agents that are not named face east."""
    value = config.get("orientations")
    if value is None or (isinstance(value, str) and value.startswith("default")):
        return [0] * agents, []
    warnings = []
    if not isinstance(value, list):
        if agents > 1:
            warnings.append("orientations: one value is for agent 0, the others face east; write a list to turn them")
        value = [value]
    dirs = []
    for k, entry in enumerate(value):
        word = str(entry).strip().lower()
        if isinstance(entry, bool) or word not in (*"eswn", *"0123"):
            raise UserError(f"{place}: orientations entry {k + 1}: e, s, w, n or 0 to 3 is needed, not {entry!r}")
        dirs.append(int(word) if word.isdigit() else "eswn".index(word))
    if len(dirs) > agents:
        warnings.append(f"orientations: {len(dirs)} values, agents: {agents}; those beyond change nothing")
    return [*dirs, *[0] * agents][:agents], warnings


def _actions(config: Mapping[str, Any], layout: L.Layout, place: str) -> tuple[str, ...]:
    given = config.get("actions")
    if given is not None:
        if not isinstance(given, list) or tuple(given) not in L.ACTION_SETS.values():
            sets = "; ".join(" ".join(names) for names in L.ACTION_SETS.values())
            raise UserError(f"{place}: actions: {given!r} is no action set; there are: {sets}")
        return tuple(given)
    name = config.get("action_class")
    if name is None:
        plain = (L.FLOOR, L.WALL, L.LAVA, L.UNSTEADY, L.BUSH, L.MAGIC)
        things = layout.portables or not bool((layout.terrain[..., None] == plain).any(-1).all())
        return L.ACTION_SETS["object" if things else "small"]
    word = str(name).lower().removesuffix("actions") or "full"
    if word not in L.ACTION_SETS:
        hint = did_you_mean(word, L.ACTION_SETS) or f"; there are {', '.join(L.ACTION_SETS)}"
        raise UserError(f"{place}: action_class: unknown {name!r}{hint}")
    return L.ACTION_SETS[word]


def _box_contents(
    config: Mapping[str, Any], portables: list[tuple[int, int, L.Kind]], place: str
) -> list[tuple[int, int, L.Kind]]:
    """`box_contents: {"x,y": "blue key"}`: what is in the box on that cell."""
    given = config.get("box_contents") or {}
    if not isinstance(given, dict):
        raise UserError(
            f'{place}: box_contents: cells and what is in their boxes are needed, as in {{"2,3": "blue key"}}'
        )
    names = {word: letter for letter, word in L.COLOURS.items()}
    inside: dict[tuple[int, int], L.Kind] = {}
    boxes = [(x, y) for x, y, kind in portables if kind.type == "box"]
    for cell, content in given.items():
        words = str(content).split()
        where = [int(n) if n.strip().isdigit() else -1 for n in str(cell).split(",")]
        if len(where) != 2 or tuple(where) not in boxes:
            raise UserError(f"{place}: box_contents: there is no box on cell {cell!r}")
        if len(words) != 2 or words[0] not in names or words[1] not in L.PORTABLE:
            raise UserError(f"{place}: box_contents of cell {cell}: a colour and key, ball or box, not {content!r}")
        inside[where[0], where[1]] = L.Kind(words[1], L.LETTERS.index(names[words[0]]))
    return [(x, y, L.Kind(k.type, k.colour, inside.get((x, y)))) for x, y, k in portables]


def _kinds(portables: list[tuple[int, int, L.Kind]]) -> tuple[L.Kind, ...]:
    kinds: list[L.Kind] = []
    for _, _, kind in portables:
        inner: L.Kind | None = kind
        while inner:
            if inner not in kinds:
                kinds.append(inner)
            inner = inner.contains
    return tuple(sorted(kinds, key=lambda k: (L.PORTABLE.index(k.type), k.colour, str(k))))


def _unknown_keys(config: Mapping[str, Any]) -> list[str]:
    known = (*_KEYS, *_IGNORED)
    return [f"unknown key {key!r} does nothing{did_you_mean(str(key), known)}" for key in config if key not in known]


def read_config(config: Mapping[str, Any], place: str) -> tuple[L.Layout, Settings]:
    """A world's map and settings. `place` heads every message: the file, or the world's name. Raises UserError."""
    warnings = _unknown_keys(config)
    if "map" not in config:
        near = [key for key in config if did_you_mean(str(key), ["map"])]
        raise UserError(f"{place}: there is no map" + (f"; is it {near[0]!r}?" if near else ""))
    found = read_rows(_rows(config["map"], place), place)
    if not found.agents:
        raise UserError(f"{place}: map: there is no agent; put Ay (a human) or Ae (a robot) somewhere")
    dirs, notes = _orientations(config, len(found.agents), place)
    warnings += notes
    portables = _box_contents(config, found.portables, place)
    height, width = found.terrain.shape
    layout = L.Layout(
        width=width,
        height=height,
        codes=tuple(tuple(row) for row in _rows(config["map"], place)),
        terrain=found.terrain,
        detail=found.detail,
        goal_tiles=tuple(found.goal_tiles),
        switch_tiles=tuple(found.switch_tiles),
        agents=tuple((x, y, d, c) for (x, y, c), d in zip(found.agents, dirs, strict=True)),
        blocks=tuple(found.blocks),
        rocks=tuple(found.rocks),
        portables=tuple(portables),
        kinds=_kinds(portables),
        devices=tuple(found.devices),
    )
    return layout, _settings(config, layout, warnings, place)


def _settings(config: Mapping[str, Any], layout: L.Layout, warnings: list[str], place: str) -> Settings:
    def who(key: str, default: str) -> tuple[int, ...]:
        colours = _colours(config, key, default, place)
        return tuple(i for i, agent in enumerate(layout.agents) if agent[3] in colours)

    humans, robots = who("humans", "y"), who("robots", "e")
    both = sorted(set(humans) & set(robots))
    if both:
        raise UserError(f"{place}: agent {both[0]} is a human and a robot: humans and robots both name its colour")
    others = [i for i in range(len(layout.agents)) if i not in humans and i not in robots]
    if others:
        letters = "y" + "".join(sorted({L.LETTERS[layout.agents[i][3]] for i in others}))
        who_they_are = f"agent {', '.join(map(str, others))}: neither human (yellow) nor robot (grey)"
        warnings.append(f"{who_they_are}; humans: {letters} makes humans of them")
    cover = config.get("goals_cover", True)
    if not isinstance(cover, bool):
        raise UserError(f"{place}: goals_cover: true or false is needed, not {cover!r}")
    magicians = who("can_enter_magic_walls", "")
    starts = [layout.agents[i][:2] for i in humans]
    goals, notes = read_goals(config.get("possible_goals"), layout, starts, bool(magicians), cover, place)
    return Settings(
        max_steps=_max_steps(config, place),
        actions=_actions(config, layout, place),
        humans=humans,
        robots=robots,
        pushers=who("can_push_rocks", "e"),
        magicians=magicians,
        goals=tuple(goals),
        stumble=_share(config, "stumble_probability", 0.5, place),
        solidify=_share(config, "solidify_probability", 0.1, place),
        bush=_share(config, "enter_bush_success_prob", 1.0, place),
        warnings=(*warnings, *notes),
    )
