"""At whose cost is a human helped? The user's and a bystander's power beside robots with different objectives.

    python benchmarks/bystander.py                              # about an hour on 2 cores; goes on where it was stopped
    python benchmarks/bystander.py --kinds push --worlds 5 --out /tmp/bystander.json

In small generated worlds (power/grid/generate.py: push, pull, freeze) with two humans and one robot every objective's
policy is worked out exactly and judged exactly, against a robot that does nothing. Counted are the worlds in which the
user's power rises and the bystander's falls, each by more than MARGIN bits: by our measure (log2 X_h at the start), and
by n-step empowerment (the expected discounted sum from the start on), the measure of Yang, Cakmak & Kleiman-Weiner
2025 (arXiv 2511.04177). Baselines choose the best action; ours is shown as soft as its default (beta_r 10) and about
as sharp as they are (beta_r 1000). Seeds are 0, 1, ... for each kind; no world is left out. Intervals: Wilson's, 95 %,
over worlds; of mean gains, the percentile bootstrap. Writes docs/results/bystander.json and bystander.png.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from apportion.power.baselines import OBJECTIVES, STEPS
from apportion.power.compare import NOTHING, OURS, Comparison, compare
from apportion.power.grid.generate import KINDS, bystander_world
from apportion.power.grid.world import GridWorld
from apportion.power.params import PowerParams
from apportion.report.style import BLUE, GREEN, ORANGE, save, styled
from apportion.run.files import write_json
from figures import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "bystander.json"
SIZES: dict[str, dict[str, int]] = {
    "push": {"floor": 8, "size": 4, "steps": 8},
    "pull": {"floor": 7, "size": 4, "steps": 6},  # seven actions each: 343 joint ones
    "freeze": {"floor": 6, "size": 4, "steps": 6},
}
XI = (1.0, 2.0, 4.0, 8.0)
SHARP = 1000.0
MARGIN = 1e-3  # bits
BOOTSTRAP = 10_000
MEASURES = {"power": "power, log2 X_h", "empowerment": f"{STEPS}-step empowerment"}


def ours(base: PowerParams) -> dict[str, PowerParams]:
    """Our own objective, more and more averse to unequal power, soft and sharp."""
    soft = {f"power xi={xi:g}": replace(base, xi=xi) for xi in XI if xi != base.xi}
    return soft | {f"power xi={xi:g} sharp": replace(base, xi=xi, beta_r=SHARP) for xi in XI}


def judged(kind: str, seed: int, base: PowerParams) -> dict[str, Any]:
    """One world: the gains of user and bystander under every policy, by both measures."""
    config = bystander_world(kind, seed, **SIZES[kind])
    world = GridWorld.from_config(config, f"{kind} {seed}")
    user = world.humans.index(config["metadata"]["user"])
    start = time.perf_counter()
    compiled = world.compile()
    found = compare(compiled, base, user=user, also=ours(base))
    return {
        "kind": kind,
        "seed": seed,
        "states": len(compiled.states),
        "seconds": round(time.perf_counter() - start, 1),
        "gains": {
            row.policy: {"power": _by_power(found, row.policy), "empowerment": _by_empowerment(found, row.policy)}
            for row in found.rows
            if row.policy != NOTHING
        },
    }


def _by_power(found: Comparison, policy: str) -> list[float]:
    gains = found.gains(policy)
    return [gains[found.user], gains[1 - found.user]]


def _by_empowerment(found: Comparison, policy: str) -> list[float]:
    of, nothing = found.row(policy).returns, found.row(NOTHING).returns
    user, both = (of[name] - nothing[name] for name in ("empowerment", "joint-empowerment"))
    return [user, both - user]


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    middle = (hits + z * z / 2) / (n + z * z)
    half = z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return max(0.0, middle - half), min(1.0, middle + half)


def table(worlds: list[dict[str, Any]], measure: str) -> dict[str, dict[str, Any]]:
    """By policy: how often the user gains at the bystander's cost, how often each alone, and mean gains."""
    out = {}
    for policy in worlds[0]["gains"]:
        gains = np.array([world["gains"][policy][measure] for world in worlds])
        up, down = gains[:, 0] > MARGIN, gains[:, 1] < -MARGIN
        hits, n = int((up & down).sum()), len(worlds)
        rng = np.random.default_rng(0)
        means = np.percentile(gains[rng.integers(n, size=(BOOTSTRAP, n))].mean(1), [2.5, 97.5], axis=0)
        out[policy] = {
            "worlds": n,
            "user_up_bystander_down": hits,
            "share": hits / n,
            "interval": wilson(hits, n),
            "user_up": int(up.sum()),
            "bystander_down": int(down.sum()),
            "bystander_down_of_user_up": hits / int(up.sum()) if up.any() else None,
            "mean_gain": {"user": float(gains[:, 0].mean()), "bystander": float(gains[:, 1].mean())},
            "mean_gain_interval": {"user": means[:, 0].tolist(), "bystander": means[:, 1].tolist()},
        }
    return out


def summary(worlds: list[dict[str, Any]], base: PowerParams) -> dict[str, Any]:
    """Everything that is written: how, the tables, and each world."""
    kinds = list(dict.fromkeys(world["kind"] for world in worlds))
    groups = {kind: [world for world in worlds if world["kind"] == kind] for kind in kinds}
    groups |= {"all": worlds} if len(kinds) > 1 else {}
    return {
        "machine": machine(),
        "setting": setting(base),
        "seeds": {kind: [world["seed"] for world in groups[kind]] for kind in kinds},
        "tables": {name: {group: table(of, name) for group, of in groups.items()} for name in MEASURES},
        "worlds": worlds,
    }


def setting(base: PowerParams) -> dict[str, Any]:
    return {
        "sizes": SIZES,
        "params": vars(base),
        "objectives": [objective.name for objective in OBJECTIVES],
        "empowerment_steps": STEPS,
        "xi": list(XI),
        "sharp_beta_r": SHARP,
        "margin_bits": MARGIN,
        "against": NOTHING,
    }


@styled
def picture(result: dict[str, Any]) -> Figure:
    """Shares with intervals, a dot for each kind of world; left by our measure, right by empowerment."""
    tables = result["tables"]
    kinds = [kind for kind in tables["power"] if kind != "all"]
    policies = list(tables["power"][kinds[0]])
    fig = Figure(figsize=(8.3, 0.34 * len(policies) + 1.7), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, measure in zip(axes, MEASURES, strict=True):
        for i, (kind, color) in enumerate(zip(kinds, (BLUE, ORANGE, GREEN), strict=False)):
            cells = [tables[measure][kind][policy] for policy in policies]
            y = np.arange(len(policies)) + 0.2 * (i - (len(kinds) - 1) / 2)
            low, high = np.array([cell["interval"] for cell in cells]).T
            share = np.array([cell["share"] for cell in cells])
            errors = np.maximum(0, [share - low, high - share])  # Wilson's ends can pass the share by rounding
            label = f"{kind} ({cells[0]['worlds']} worlds)"
            ax.errorbar(share, y, xerr=errors, fmt="o", color=color, markersize=5, label=label)
        ax.set_xlim(-0.03, 1.03)
        ax.set_title(f"by {MEASURES[measure]}")
        ax.set_xlabel("share of worlds")
        ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes[0].set_yticks(np.arange(len(policies)), ["power xi=1" if name == OURS else name for name in policies])
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=len(kinds))
    fig.suptitle(
        "How often the user gains and the bystander loses, beside a robot that does nothing", x=0.01, ha="left"
    )
    return fig


def done_before(out: Path, base: PowerParams) -> list[dict[str, Any]]:
    """The worlds in `out`, if they were made with the same settings."""
    if not out.exists():
        return []
    found = json.loads(out.read_text())
    if found["setting"] != json.loads(json.dumps(setting(base))):
        raise SystemExit(f"{out} was made with other settings: remove it, or give another --out")
    return found["worlds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--worlds", type=int, default=60, help="of each kind, their seeds from 0 on (default: 60)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = PowerParams()
    worlds = done_before(args.out, base)
    known = {(world["kind"], world["seed"]) for world in worlds}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(args.worlds):
        for kind in args.kinds:
            if (kind, seed) in known:
                continue
            found = judged(kind, seed, base)
            worlds = sorted([*worlds, found], key=lambda w: (KINDS.index(w["kind"]), w["seed"]))
            write_json(args.out, summary(worlds, base))
            print(f"{kind} {seed}: {found['states']:,} states, {found['seconds']} s", flush=True)
    result = summary(worlds, base)
    write_json(args.out, result)
    save(picture(result), args.out.with_suffix(".png"))
    for measure, groups in result["tables"].items():
        for group, rows in groups.items():
            print(f"\n{group}, by {MEASURES[measure]}")
            for policy, cell in rows.items():
                low, high = cell["interval"]
                print(f"  {policy:<20}{cell['user_up_bystander_down']:>4} of {cell['worlds']}  {low:.0%} to {high:.0%}")


if __name__ == "__main__":
    main()
