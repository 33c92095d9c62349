"""The front door for the RRD repository's command lines: `python train.py --alg=rrd --basis_alg=sac --env=Ant-v2`.

Flags, their meaning and their defaults are those of the code released with Ren et al. 2022 (arXiv 2111.13485); what
is different is listed in docs/coming-from-rrd.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from apportion.config import AGENTS, OnlineConfig
from apportion.flags import FALSE, TRUE, Parser, check_flags, check_frames, check_optimizer, free_path
from apportion.presets import compile_if_it_pays, default_agent, defaults, is_atari, with_rmsprop
from apportion.types import UserError

# the names of these fields are the same in both worlds
_SAME_INT = ("test_rollouts", "timesteps", "buffer_size", "batch_size", "warmup", "train_batches", "save_freq", "seed")
_SAME_AGENT = {
    "train_target": int, "pi_lr": float, "q_lr": float, "polyak": float, "alpha_lr": float, "alpha_init": float,
    "std_act": float, "q_reg": float, "pi_t_std": float, "pi_t_clip": float, "pi_delay_freq": int,
    "eps_l": float, "eps_r": float, "eps_decay": int, "double": bool, "dueling": bool, "test_eps": float,
}  # fmt: skip
_SAME_ATARI = {"sticky": bool, "noop": int, "frames": int}
_FIXED = {"RMSProp_decay": 0.95, "RMSProp_eps": 0.01, "rews_scale": 1.0}  # taken where they say what is done anyway
_SAME_REWARD = {"r_lr": float, "rrd_batch_size": int, "rrd_sample_size": int, "rrd_bias_correction": bool}


@dataclass(frozen=True)
class LegacyOptions:
    """What the old command line says besides the settings of the run."""

    runs_dir: Path  # --checkpoint_dir
    save_rews: bool  # write rews/ENV.npz when the run ends
    notes: tuple[str, ...]  # one line each, for the user


def parse(argv: Sequence[str]) -> tuple[OnlineConfig, str, LegacyOptions]:
    """Settings, run name and the rest from the RRD repository's flags. Raises UserError."""
    parser = _parser()
    given = {name: value for name, value in vars(parser.parse(argv)).items() if value is not None}
    alg, basis_alg, env = _method(given)
    check_flags(given, alg, basis_alg, dash="_")
    _check_atari(given, env)
    base = defaults(alg, basis_alg, env)
    if given.get("optimizer") == "rmsprop":
        base = with_rmsprop(base)
    config = replace(
        base,
        env_type=given.get("env_type", "ep_rews"),
        reward=replace(base.reward, **_pick(given, _SAME_REWARD)),
        agent=_agent(base, given),
        atari=replace(base.atari, **_pick(given, _SAME_ATARI)),
        gamma=given.get("gamma", base.gamma),
        obs_normalization=given.get("obs_normalization", base.obs_normalization),
        device=_device(given),
        test_timesteps=given.get("test_timesteps", 0),
        **_pick(given, _SAME_INT),
        **_lengths(given, base),
    )
    options = LegacyOptions(
        runs_dir=Path(given.get("checkpoint_dir", "runs")),
        save_rews=given.get("save_rews", True),
        notes=_notes(given, config),
    )
    return compile_if_it_pays(config), run_name(given.get("tag", ""), config), options


def main(argv: Sequence[str]) -> int:
    """Train as the old command line says. Returns the exit code."""
    from apportion.ending import ended, guarded, with_way_back

    def work() -> int:
        config, name, options = parse(argv)
        from apportion.train.online import train_online
        from apportion.train.preflight import preflight

        preflight(config)  # before anything is said of a run directory
        run = free_path(options.runs_dir / name)
        for line in (*options.notes, f"run directory: {run}"):
            print(line)
        try:
            with_way_back(run, lambda: train_online(config, run, command=["python", "train.py", *argv]))
        finally:
            if options.save_rews and run.exists():
                save_rews(run, config.env)
        return ended(run)

    return guarded(work)


def run_name(tag: str, config: OnlineConfig) -> str:
    """`RRD-L(RD) Ant-v2` -> RRD-L-RD-Ant-v2; without a tag: alg-agent-env; a seed other than 0 is added."""
    return run_name_of(tag, config.seed) or run_name_of(
        f"{config.reward.alg}-{config.basis_alg}-{config.env}", config.seed
    )


def run_name_of(tag: str, seed: int) -> str:
    """`tag` as a directory's name; "" if nothing of it is left."""
    words = re.sub(r"[^\w.]+", "-", tag).strip("-.")
    return words + (f"-seed-{seed}" if words and seed else "")


def save_rews(run: Path, env: str) -> None:
    """RUN/rews/ENV.npz: `info` of shape (evaluations, 2), env steps and mean return, as the old plots read it."""
    path = run / "evaluations.jsonl"
    if not path.exists():
        return
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    # a null among the returns becomes NaN, and so does their mean
    means = [(row["step"], np.mean(np.array(row["returns"], np.float64))) for row in rows]
    info = np.array(means, dtype=np.float64).reshape(-1, 2)
    (run / "rews").mkdir(exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", env)
    np.savez(run / "rews" / f"{name}.npz", info=info)


def _parser() -> Parser:
    parser = Parser("train.py", "Train with the flags of the RRD repository (new flags: apportion train --help).")
    add = parser.add_argument
    add("--tag", help="name of the run")
    add("--env", help="environment (default: Ant-v2)")
    add("--env_type", choices=["ep_rews", "normal"], help="is the reward withheld until the episode's end?")
    add("--alg", choices=["rrd", "rd", "ircr", "uniform", "none", *AGENTS], help="method (default: rrd)")
    add("--basis_alg", choices=list(AGENTS), help="agent (default: sac, dqn for Atari games)")
    for name in ("epochs", "cycles", "iterations", *_SAME_INT, "test_timesteps"):
        add(f"--{name}", type=int)
    for name in ("obs_normalization", "save_rews", "save_final", "cuda"):
        add(f"--{name}", type=truth, nargs="?", const=True)
    numbers = {"gamma": float, "Adam_eps": float, **dict.fromkeys(_FIXED, float)}
    for name, kind in {**_SAME_AGENT, **_SAME_REWARD, **_SAME_ATARI, **numbers}.items():
        if kind is bool:
            add(f"--{name}", type=truth, nargs="?", const=True)
        else:
            add(f"--{name}", type=kind)
    add("--optimizer", choices=["adam", "rmsprop"], help="of dqn")
    add("--checkpoint_dir", help="directory that holds the run directories (default: runs)")
    add("--device", help="cpu, cuda, cuda:1")
    return parser


def truth(text: str) -> bool:
    """True or False as people write it, for argparse."""
    if text.lower() not in (*TRUE, *FALSE):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() in TRUE


def _method(given: dict[str, Any]) -> tuple[str, str, str]:
    """alg, basis_alg, env. `--alg=sac` was the old way to say: the bare agent."""
    env = given.get("env", "Ant-v2")
    alg = given.get("alg", "rrd")
    if alg in AGENTS:
        other = given.get("basis_alg", alg)
        if other != alg:
            raise UserError(f"--alg={alg} is the bare agent {alg}: leave out --basis_alg={other}")
        return "none", alg, env
    return alg, given.get("basis_alg", default_agent(env)), env


def _check_atari(given: dict[str, Any], env: str) -> None:
    """Raises UserError for settings of frames and of RMSProp that would change nothing, or cannot be had."""
    check_frames(given, env, dash="_")
    optimizer = given.get("optimizer", "adam")
    check_optimizer({"adam_eps"} & {name.lower() for name in given}, optimizer, flag="--Adam_eps")
    for name in _FIXED.keys() & given.keys():
        flag = f"--{name}={given[name]:g}"
        if name.startswith("RMSProp") and optimizer != "rmsprop":
            raise UserError(f"{flag} is a setting of --optimizer=rmsprop, and the optimizer here is {optimizer}")
        if name == "rews_scale" and not (is_atari(env) and given.get("env_type") == "normal"):
            raise UserError(f"{flag}: rewards are clipped in Atari games with --env_type=normal only; leave it out")
        if not math.isclose(given[name], _FIXED[name]):
            raise UserError(f"{flag}: it is {_FIXED[name]:g} here, as in Mnih et al. 2015; leave it out")


def _pick(given: dict[str, Any], names: Sequence[str] | dict[str, type]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _agent(base: OnlineConfig, given: dict[str, Any]) -> Any:
    known = {f.name for f in fields(base.agent)}
    changes = {name: value for name, value in _pick(given, _SAME_AGENT).items() if name in known}
    if "Adam_eps" in given:
        if "adam_eps" not in known:
            raise UserError(f"--Adam_eps is a setting of dqn, and the agent here is {base.basis_alg}")
        changes["adam_eps"] = given["Adam_eps"]
    return replace(base.agent, **changes)


def _lengths(given: dict[str, Any], base: OnlineConfig) -> dict[str, int]:
    """epochs x cycles x iterations x timesteps env steps, an evaluation after each cycle. Raises UserError below 1."""
    atari = is_atari(base.env)
    old = {"epochs": 10 if atari else 3, "cycles": 20 if atari else 100, "iterations": 500 if atari else 100}
    old["timesteps"] = base.timesteps
    numbers = {name: given.get(name, number) for name, number in old.items()}
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"--{name}={number}: at least 1 is needed")
    cycle = numbers["iterations"] * numbers["timesteps"]
    return {"steps": numbers["epochs"] * numbers["cycles"] * cycle, "eval_every": cycle}


def _device(given: dict[str, Any]) -> str:
    cuda, device = given.get("cuda"), given.get("device")
    if cuda is not None and device is not None and cuda != device.startswith("cuda"):
        raise UserError(f"--cuda={cuda} and --device={device} contradict each other: leave one out")
    return device or ("cuda" if cuda else "cpu")


def _notes(given: dict[str, Any], config: OnlineConfig) -> tuple[str, ...]:
    notes = []
    if given.get("save_final") is False:
        notes.append("--save_final=False: the last checkpoint is kept all the same; resume and evaluate need it")
    if given.get("save_freq", config.eval_every) < min(config.eval_every, 1000):
        notes.append(
            f"--save_freq={config.save_freq} counts env steps: that is a checkpoint every {config.save_freq} steps"
        )
    return tuple(notes)
