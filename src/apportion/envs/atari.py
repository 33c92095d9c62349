"""Atari games, played by the Arcade Learning Environment (ale-py): grey frames of 84 x 84, four emulated frames a step.

The emulator is driven here directly, not through the environments that come with ale-py and Gymnasium: those load the
game anew at each seeded reset (0.14 s, as long as 200 steps), and draw idle frames or show last frames otherwise.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from jaxtyping import UInt8

from apportion.config import AtariConfig
from apportion.types import UserError

_RRD_GAMES = """
Adventure AirRaid Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk Bowling Boxing
Breakout Carnival Centipede ChopperCommand CrazyClimber Defender DemonAttack DoubleDunk ElevatorAction Enduro
FishingDerby Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond JourneyEscape Kangaroo Krull KungFuMaster
MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank
Seaquest Skiing Solaris SpaceInvaders StarGunner Tennis TimePilot Tutankham UpNDown Venture VideoPinball WizardOfWor
YarsRevenge Zaxxon
"""
GAMES = tuple(_RRD_GAMES.split())  # those of the RRD repository

SKIP = 4  # emulated frames a step
SIDE = 84  # pixels
LIMIT = 27_000  # steps an episode: half an hour at 60 emulated frames a second
_STICKY = 0.25  # Machado et al. 2018, section 5
_NOOP = 0  # ale-py's number of the idle action, in every game
_NAME = re.compile(r"(ALE/)?([A-Z]\w*?)(?:NoFrameskip|Deterministic)?(?:-v[045])?")


def game_of(env: str) -> str | None:
    """The game that `env` names ("Assault", "ALE/Assault-v5", "AssaultNoFrameskip-v4"), or None if it names none.

    Bare names are those in `GAMES`; after "ALE/" any name is taken for a game, known or not. Imports nothing.
    """
    match = _NAME.fullmatch(env)
    if match is None:
        return None
    namespace, game = match.groups()
    return game if namespace or game in GAMES else None


def rom_of(game: str) -> str:
    """ale-py's name of `game`: "MsPacman" -> "ms_pacman". Raises UserError if ale-py is missing or has no such game."""
    try:
        from ale_py import roms
        from ale_py.registration import rom_id_to_name
    except ImportError as error:
        raise UserError(f"{game} is an Atari game and needs ale-py: pip install 'apportion[atari]'") from error
    known = {rom_id_to_name(rom): rom for rom in roms.get_all_rom_ids()}
    if game in known:
        return known[game]
    by_lower = {name.lower(): name for name in known}
    near = [by_lower[name] for name in difflib.get_close_matches(game.lower(), by_lower, n=3)]
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {len(known)}, such as {', '.join(GAMES[:3])}"
    raise UserError(f"there is no Atari game {game!r}: {hint}")


def make_atari(
    game: str, atari: AtariConfig, *, clip: bool, render_mode: str | None = None, limit: int = LIMIT
) -> gym.Env:
    """One `game`: observations (84, 84) uint8, the actions that matter in it, episodes until the game is over.

    An episode is truncated after `limit` steps. Rewards are the game's points, or their sign if `clip`. `render_mode`
    is None or "rgb_array". Raises UserError for an unknown game, a missing ROM, and without ale-py.
    """
    return TimeLimit(AtariGame(game, atari, clip=clip, render_mode=render_mode), limit)


class AtariGame(gym.Env):
    """One game without a step limit (Mnih et al. 2015, with the sticky actions of Machado et al. 2018 on request).

    A step repeats its action for 4 emulated frames and shows the pixelwise maximum of the last two. An episode begins
    after 1 to `atari.noop` idle frames. Their number, and with `atari.sticky` whether a frame repeats the action of the
    frame before, are drawn from `np_random`, and every episode starts from the same state of the machine: the same seed
    and actions give the same frames, whatever was played before.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // SKIP}  # noqa: RUF012

    def __init__(self, game: str, atari: AtariConfig, *, clip: bool, render_mode: str | None = None):
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"Atari games are drawn with render_mode='rgb_array' alone, not {render_mode!r}")
        self.render_mode = render_mode
        self._atari, self._clip = atari, clip
        self._ale = _emulator(game)
        self._power_on = self._ale.cloneState()
        self._actions = self._ale.getMinimalActionSet()
        height, width = self._ale.getScreenDims()
        self._screens = np.zeros((2, height, width), np.uint8)  # the last emulated frame but one, and the last
        self._shrink = shrinker(height, width)
        self._held = _NOOP  # what the emulator was last told to do
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE), np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._begin()
        for _ in range(int(self.np_random.integers(1, self._atari.noop + 1)) if self._atari.noop else 0):
            self._ale.act(_NOOP)
            if self._ale.game_over():
                self._begin()
        return self._only_newest(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        chosen = self._actions[int(action)]
        repeats = self.np_random.random(SKIP) < _STICKY if self._atari.sticky else (False,) * SKIP
        points = 0
        for t in range(SKIP):
            self._held = self._held if repeats[t] else chosen
            points += self._ale.act(self._held)
            if self._ale.game_over():
                return self._only_newest(), self._reward(points), True, False, {}
            if t >= SKIP - 2:
                self._ale.getScreenGrayscale(self._screens[t - SKIP])
        return self._shrink(np.maximum(*self._screens)), self._reward(points), False, False, {}

    def render(self) -> np.ndarray | None:
        """The last emulated frame in colour, (210, 160, 3) uint8 in most games."""
        return self._ale.getScreenRGB() if self.render_mode else None

    def _begin(self) -> None:
        self._ale.restoreState(self._power_on)
        self._ale.reset_game()
        self._held = _NOOP

    def _only_newest(self) -> np.ndarray:
        self._ale.getScreenGrayscale(self._screens[1])
        return self._shrink(self._screens[1])

    def _reward(self, points: int) -> float:
        return float(np.sign(points)) if self._clip else float(points)


def shrinker(height: int, width: int) -> Callable[[UInt8[np.ndarray, "h w"]], UInt8[np.ndarray, "84 84"]]:
    """The function that makes grey images of this size 84 x 84, each pixel the mean over the area that it covers.

    To within rounding, this is OpenCV's INTER_AREA, which ale-py and Gymnasium shrink with.
    """
    rows, row_weights = _areas(height)
    columns, column_weights = _areas(width)

    def shrink(image: np.ndarray) -> np.ndarray:
        tall = _blended(image.astype(np.float32), rows, row_weights)
        turned = np.ascontiguousarray(tall.T)  # whole rows are gathered faster than single pixels
        return np.ascontiguousarray(np.rint(_blended(turned, columns, column_weights)).T.astype(np.uint8))

    return shrink


def _blended(image: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows (84, width) that are weighted sums of k rows of `image` each."""
    total = image[index[0]] * weights[0][:, None]
    for i, w in zip(index[1:], weights[1:], strict=True):
        total += image[i] * w[:, None]
    return total


def _areas(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` pixels each of 84 covers, and with what part of its area: both (k, 84), weights sum to 1."""
    edges = np.arange(SIDE + 1) * size / SIDE
    index = np.floor(edges[:-1]).astype(np.int64) + np.arange(size // SIDE + 2)[:, None]
    covered = np.clip(np.minimum(index + 1, edges[1:]) - np.maximum(index, edges[:-1]), 0, None)
    used = covered.max(axis=1) > 1e-9
    return np.minimum(index, size - 1)[used], (covered * SIDE / size).astype(np.float32)[used]


def _emulator(game: str) -> Any:
    """An `ALEInterface` with `game` in it, which draws nothing at random. Raises UserError if that cannot be."""
    rom = rom_of(game)
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # before there is one: no banner on the terminal
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 0)
    ale.loadROM(_rom_path(game, rom))
    return ale


def _rom_path(game: str, rom: str) -> Path:
    from ale_py import roms

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it names ALE_ROMS_DIR there, each time
            path = roms.get_rom_path(rom)
    except OSError as error:
        where = os.environ.get("ALE_ROMS_DIR")
        advice = f"look into ALE_ROMS_DIR ({where}), or unset it" if where else "pip install --force-reinstall ale-py"
        said = " ".join(str(error).split())
        raise UserError(f"{game} cannot be played, its ROM is missing or damaged ({said}): {advice}") from error
    assert path is not None  # `rom_of` knows it
    return path
