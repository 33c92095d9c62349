"""Two methods on the same seeds, and one page that compares them: no claim rests on a single run.

    python examples/several_seeds.py --steps 10000 --seeds 0 1 2 --out runs/seeds

The command line does it in processes side by side: apportion train quickstart --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from apportion import PRESETS, RewardConfig, train_online, write_report


def last_return(run: Path) -> float:
    """Mean true return of the last evaluation."""
    returns = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])["returns"]
    return sum(returns) / len(returns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"), help="directory, must not exist")
    args = parser.parse_args()
    base = replace(
        PRESETS["quickstart"].config(),  # Reacher-v5, RRD, SAC
        steps=args.steps,
        warmup=min(1_000, args.steps // 2),
        eval_every=args.steps // 2,
        log_every=args.steps // 2,
        test_rollouts=5,
    )
    methods = {"rrd": base.reward, "uniform": RewardConfig("uniform")}
    for seed in args.seeds:
        for name, reward in methods.items():
            train_online(replace(base, reward=reward, seed=seed), args.out / name / f"seed_{seed}", progress=False)
        pair = {name: last_return(args.out / name / f"seed_{seed}") for name in methods}
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.1f}" for name, value in pair.items()))
    runs = [args.out / name / f"seed_{seed}" for name in methods for seed in args.seeds]
    print(f"page: {write_report(runs, args.out / 'report.html')}")


if __name__ == "__main__":
    main()
