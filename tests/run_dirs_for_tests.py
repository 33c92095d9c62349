"""Run directories made by hand, with the files that a run leaves, for the tests of the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from apportion.config import OnlineConfig, RewardConfig, to_json

VERSIONS = {"python": "3.11.9", "torch": "2.6.0", "gymnasium": "1.1.0"}


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(
    path: Path, config: OnlineConfig, returns: dict[int, list[float]], finished: bool = True, lean: bool = False
) -> Path:
    """A run with these evaluation returns at these steps; learned rewards are the true ones plus alternating 1, -1.

    lean: without audit, credit and metrics (each costs the report a picture, and the test a second).
    """
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(to_json(config)))
    info = {"versions": VERSIONS, "platform": "Linux", "device": config.device, "command": ["apportion", "train"]}
    (path / "run.json").write_text(json.dumps(info | ({"finished": True} if finished else {})))
    audit = {"pearson": 0.8, "spearman": 0.75, "r2_return": 0.9} if config.reward.alg != "none" and not lean else None
    evaluations = [
        {"step": step, "seeds": [1, 2], "returns": r, "lengths": [4] * len(r), "audit": audit}
        for step, r in returns.items()
    ]
    write_lines(path / "evaluations.jsonl", evaluations)
    metrics = [
        {
            "step": step,
            "episodes": step // 50,
            "return": float(np.mean(r)),
            "reward/R_loss": 1 / step,
            "agent/alpha": 0.2,
        }
        for step, r in returns.items()
    ]
    write_lines(path / "metrics.jsonl", [] if lean else metrics)
    write_lines(path / "timing.jsonl", [{"step": s, "seconds": s / 100, "steps_per_s": 100.0} for s in returns])
    if audit:
        (path / "credit").mkdir()
        for step, r in returns.items():
            write_credit(path / "credit" / f"step_{step:09d}.safetensors", r)
    return path


def write_credit(path: Path, returns: list[float]) -> None:
    """Episodes of four steps whose true rewards 1, 2, 3, 4 tenths of the return add up to it."""
    true = np.outer(returns, [0.1, 0.2, 0.3, 0.4]).ravel().astype(np.float32)
    learned = true + np.tile([1, -1], len(true) // 2).astype(np.float32)
    save_file({"true": true, "learned": learned, "length": np.full(len(returns), 4)}, path)


def config(alg: str = "rrd", seed: int = 0, env: str = "Reacher-v5", **reward: object) -> OnlineConfig:
    base = OnlineConfig(env, RewardConfig(alg=alg), steps=2000, seed=seed)  # type: ignore[arg-type]
    return replace(base, reward=replace(base.reward, **reward))  # type: ignore[arg-type]
