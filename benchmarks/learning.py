"""Does it learn? Paired runs of several reward sources on one task, over seeds, with everything else equal.

    python benchmarks/learning.py reacher        # about an hour on 2 cores
    python benchmarks/learning.py halfcheetah
    python benchmarks/learning.py agents
    python benchmarks/learning.py cartpole       # and lunarlander, breakout (MinAtar): pip install -e '.[bench]'

Every run is an ordinary run directory under --runs; finished ones are not repeated, interrupted ones are resumed. The
summary (all evaluations of all runs, IQM and 95 % bootstrap intervals over seeds, paired differences, the machine) goes
to docs/results/learning-<task>.json, its picture beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from apportion.config import OnlineConfig
from apportion.presets import defaults
from apportion.report.plots import Curve, learning_curves, save
from apportion.report.stats import bootstrap_ci, iqm
from apportion.run.metrics import read_lines

RESULTS = Path(__file__).parent.parent / "docs" / "results"


@dataclass(frozen=True)
class Task:
    """One picture: an environment, the methods to compare, and what all of them share."""

    env: str
    steps: int
    warmup: int
    train_batches: int  # after so many env steps as `timesteps`
    eval_every: int
    k: int
    methods: tuple[str, ...]
    timesteps: int = 100  # env steps before the updates
    shared: dict[str, Any] = field(default_factory=dict)  # other settings of the run
    agent: dict[str, Any] = field(default_factory=dict)  # settings of the agent


DQN = ("dense dqn", "episodic dqn", "uniform dqn", "ircr dqn", "rrd dqn")
SAC = ("dense sac", "episodic sac", "uniform sac", "ircr sac", "rrd sac", "rrd-l(rd) sac")
TASKS = {
    "reacher": Task("Reacher-v5", 20_000, 1_000, 100, 1_000, 32, SAC),
    "halfcheetah": Task("HalfCheetah-v5", 50_000, 5_000, 50, 5_000, 64, SAC),
    "agents": Task("Reacher-v5", 20_000, 1_000, 100, 1_000, 32, ("rrd td3", "rrd ddpg")),
    # the first two agents after rl-baselines3-zoo's settings for the dense reward
    "cartpole": Task(
        "CartPole-v1", 50_000, 1_000, 5, 2_500, 32, DQN, timesteps=10,
        shared={"batch_size": 64, "buffer_size": 100_000},
        agent={"q_lr": 1e-3, "eps_decay": 8_000, "eps_r": 0.04, "train_target": 100},
    ),
    "lunarlander": Task(
        "LunarLander-v3", 150_000, 5_000, 5, 7_500, 64, DQN, timesteps=10,
        shared={"batch_size": 128, "buffer_size": 100_000},
        agent={"q_lr": 6e-4, "eps_decay": 20_000, "eps_r": 0.1, "train_target": 250},
    ),
    "breakout": Task(
        "minatar_tasks:breakout", 200_000, 5_000, 4, 10_000, 32, DQN, timesteps=10,
        shared={"batch_size": 32, "buffer_size": 100_000},
        agent={"q_lr": 2.5e-4, "eps_decay": 50_000, "eps_r": 0.05, "train_target": 1_000, "double": True},
    ),
}  # fmt: skip


def settings(task: Task, method: str, seed: int) -> OnlineConfig:
    """The released settings of the method, with the task's budget; the agent and its updates per step are the same."""
    kind, agent = method.split()
    alg = {"dense": "none", "episodic": "none", "rrd-l(rd)": "rrd"}.get(kind, kind)
    config = defaults(alg, agent, task.env)
    reward = replace(config.reward, rrd_batch_size=256, rrd_sample_size=task.k, rrd_bias_correction=kind == "rrd-l(rd)")
    shared = {**task.shared, "agent": replace(config.agent, **task.agent)}
    if kind == "ircr" and "batch_size" in shared:  # half of each of its batches is drawn from the ten best episodes
        shared["batch_size"] *= 2
    config = replace(config, **shared)
    return replace(
        config,
        reward=reward,
        env_type="normal" if kind == "dense" else "ep_rews",
        seed=seed,
        steps=task.steps,
        warmup=task.warmup,
        timesteps=task.timesteps,
        train_batches=task.train_batches,
        eval_every=task.eval_every,
        log_every=1_000,
        save_freq=10_000,
        compile=agent != "dqn",  # small networks, or images
    )


def run_one(task: Task, method: str, seed: int, path: Path) -> None:
    """Train in a process of its own; a finished run is left alone, an interrupted one resumed."""
    if path.exists() and json.loads((path / "run.json").read_text()).get("finished"):
        return
    code = (
        "import json, sys; from pathlib import Path; from apportion.config import OnlineConfig, from_json; "
        "from apportion.train.online import resume, train_online; path = Path(sys.argv[1]); "
        "resume(path) if path.exists() else train_online(from_json(OnlineConfig, json.loads(sys.argv[2])), path)"
    )
    from apportion.config import to_json

    config = json.dumps(to_json(settings(task, method, seed)))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), env.get("PYTHONPATH", "")])
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f"{path.name}.log").open("w") as log:
        subprocess.run([sys.executable, "-c", code, str(path), config], check=True, stdout=log, stderr=log, env=env)
    print(f"{path} done", flush=True)


def label(method: str) -> str:
    """What the pictures call it."""
    kind, agent = method.split()
    return f"none {agent} ({kind})" if kind in ("dense", "episodic") else method


def collect(task: Task, paths: dict[str, list[Path]]) -> dict:
    """Every evaluation of every run, and their summary at the last step."""
    out: dict = {"methods": {}, "final": {}, "paired": {}}
    final: dict[str, np.ndarray] = {}
    for method, runs in paths.items():
        lines = [read_lines(run / "evaluations.jsonl") for run in runs]
        steps = [line["step"] for line in lines[0]]
        means = np.array([[float(np.mean(line["returns"])) for line in run] for run in lines])
        audits = [[line["audit"] for line in run] for run in lines]
        out["methods"][method] = {"steps": steps, "returns": means.tolist(), "audit": audits}
        # The mean of the last three evaluations: a single one is noisy.
        final[method] = means[:, -3:].mean(1)
        ci95 = [float(end) for end in bootstrap_ci(final[method])]
        out["final"][method] = {"iqm": float(iqm(final[method])), "ci95": ci95, "seeds": final[method].tolist()}
    for method, values in final.items():
        for control in (f"episodic {method.split()[1]}", f"uniform {method.split()[1]}"):
            if control in final and control != method:
                difference = values - final[control]
                out["paired"][f"{method} - {control}"] = {
                    "mean": float(difference.mean()),
                    "ci95": [float(end) for end in bootstrap_ci(difference)],
                    "seeds": difference.tolist(),
                }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)))
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--summary-only", action="store_true", help="only read finished runs")
    args = parser.parse_args()
    task = TASKS[args.task]
    paths = {
        m: [args.runs / args.task / m.replace(" ", "-") / f"seed_{s}" for s in range(args.seeds)] for m in task.methods
    }
    if not args.summary_only:
        with ThreadPoolExecutor(args.jobs) as pool:
            jobs = [pool.submit(run_one, task, m, s, paths[m][s]) for s in range(args.seeds) for m in task.methods]
            for job in jobs:
                job.result()
    result = collect(task, paths)
    about = {
        "task": args.task,
        "env": task.env,
        "steps": task.steps,
        "updates_per_100_steps": task.train_batches * 100 // task.timesteps,
    }
    machine = {
        "platform": platform.platform(),
        "cpu": json.loads((paths[task.methods[0]][0] / "run.json").read_text())["cpu"],
    }
    versions = json.loads((paths[task.methods[0]][0] / "run.json").read_text())["versions"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"learning-{args.task}.json"
    out.write_text(json.dumps({**about, "machine": machine, "versions": versions, **result}, indent=1) + "\n")
    curves = [
        Curve(label(method), np.array(data["steps"]), np.array(data["returns"]))
        for method, data in result["methods"].items()
    ]
    save(learning_curves(curves, title=f"{task.env}: return of the deterministic policy"), out.with_suffix(".png"))
    for method, value in sorted(result["final"].items(), key=lambda item: -item[1]["iqm"]):
        print(f"{method:16s} {value['iqm']:10.1f}   95 % {value['ci95'][0]:10.1f} to {value['ci95'][1]:10.1f}")


if __name__ == "__main__":
    main()
