"""How fast are several Atari games side by side? Ours against ale-py's own vector environment.

    python benchmarks/atari_envs.py                   # on a quiet machine with 2 cores: two minutes

Random play, turn by turn, in steps of all environments together per second of wall time, with what resets cost. A
run goes on bit for bit only if every episode begins from a seed of its own, so this is how both are reset; theirs is
measured as well as it resets by itself, which cannot be taken up again in the middle of an episode. Single frames,
no sticky actions. Writes docs/results/atari-envs.json.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import VectorEnv

from apportion.envs.atari import rom_of
from apportion.envs.make import make_vector
from figures import machine, quartiles

OUT = Path(__file__).parent.parent / "docs" / "results" / "atari-envs.json"
OURS = ("ours in one process", "ours in one process each")


def players(game: str, n: int) -> dict[str, VectorEnv]:
    theirs = partial(AtariVectorEnv, rom_of(game), n, stack_num=1, use_fire_reset=False, reward_clipping=False)
    return {
        OURS[0]: make_vector(game, n, "sync", True),
        OURS[1]: make_vector(game, n, "async", True),
        "theirs, seeded": theirs(),
        "theirs, resetting itself": theirs(),
    }


def play(envs: VectorEnv, rounds: int, seeded: bool, rng: np.random.Generator) -> None:
    """So many steps of each environment, episode after episode."""
    n, actions = envs.num_envs, envs.single_action_space.n  # type: ignore[attr-defined]
    for _ in range(rounds):
        _, _, ended, cut, _ = envs.step(rng.integers(actions, size=n))
        over = ended | cut
        if seeded and over.any():
            seeds = rng.integers(2**31, size=n)
            # Gymnasium's take a seed for each environment, theirs one for each that is reset
            chosen: Any = seeds[over] if isinstance(envs, AtariVectorEnv) else [int(seed) for seed in seeds]
            envs.reset(seed=chosen, options={"reset_mask": over})


def measured(game: str, n: int, turns: int, steps: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    games = players(game, n)
    try:
        for envs in games.values():
            envs.reset(seed=0 if isinstance(envs, AtariVectorEnv) else list(range(n)))
        for turn in range(turns):
            for name, envs in games.items():
                start = time.perf_counter()
                play(envs, steps // n, not name.endswith("itself"), np.random.default_rng(turn))
                found.setdefault(name, []).append(steps // n * n / (time.perf_counter() - start))
    finally:
        for envs in games.values():
            envs.close()
    ratios = {
        f"{ours} / {name}": quartiles([a / b for a, b in zip(found[ours], found[name], strict=True)])
        for ours in OURS
        for name in found
        if name not in OURS
    }
    return {"steps_per_second": {name: quartiles(values) for name, values in found.items()}, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Assault")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4_000, help="of all environments together, in one turn")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    by_envs: dict[str, Any] = {}
    result = {
        "machine": machine(),
        "ale_py": version("ale-py"),
        "game": args.game,
        "turns": args.turns,
        "steps_per_turn": args.steps,
        "envs": by_envs,
    }
    for n in args.envs:
        found = by_envs[str(n)] = measured(args.game, n, args.turns, args.steps)
        for name, speed in found["steps_per_second"].items():
            print(f"{n} environments, {name}: {speed['median']:.0f} steps/s", flush=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
