"""The front door for the RRD repository's command lines: `python train.py --alg=rrd --basis_alg=sac --env=Ant-v2`.

Flags, their meaning and their defaults are those of the code released with Ren et al. 2022 (arXiv 2111.13485); what
is different is listed in docs/coming-from-rrd.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from apportion.config import AGENTS, DQNConfig, OnlineConfig
from apportion.flags import FALSE, TRUE, Parser, check_flags, free_path
from apportion.presets import compile_if_it_pays, defaults
from apportion.types import UserError

_ATARI = """
Adventure AirRaid Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk Bowling Boxing
Breakout Carnival Centipede ChopperCommand CrazyClimber Defender DemonAttack DoubleDunk ElevatorAction Enduro
FishingDerby Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond JourneyEscape Kangaroo Krull KungFuMaster
MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank
Seaquest Skiing Solaris SpaceInvaders StarGunner Tennis TimePilot Tutankham UpNDown Venture VideoPinball WizardOfWor
YarsRevenge Zaxxon
"""


# the names of these fields are the same in both worlds
_SAME_INT = ("test_rollouts", "timesteps", "buffer_size", "batch_size", "warmup", "train_batches", "save_freq", "seed")
_SAME_AGENT = {
    "train_target": int, "pi_lr": float, "q_lr": float, "polyak": float, "alpha_lr": float, "alpha_init": float,
    "std_act": float, "q_reg": float, "pi_t_std": float, "pi_t_clip": float, "pi_delay_freq": int,
    "eps_l": float, "eps_r": float, "eps_decay": int, "double": bool, "dueling": bool,
}  # fmt: skip
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
    base = defaults(alg, basis_alg, env)
    config = replace(
        base,
        env_type=given.get("env_type", "ep_rews"),
        reward=replace(base.reward, **_pick(given, _SAME_REWARD)),
        agent=_agent(base, given),
        gamma=given.get("gamma", base.gamma),
        obs_normalization=given.get("obs_normalization", base.obs_normalization),
        device=_device(given),
        test_timesteps=given.get("test_timesteps", 0),
        **_pick(given, _SAME_INT),
        **_lengths(given, base.timesteps),
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
    add("--basis_alg", choices=list(AGENTS), help="agent (default: sac)")
    for name in ("epochs", "cycles", "iterations", *_SAME_INT, "test_timesteps"):
        add(f"--{name}", type=int)
    for name in ("obs_normalization", "save_rews", "save_final", "cuda"):
        add(f"--{name}", type=truth, nargs="?", const=True)
    for name, kind in {**_SAME_AGENT, **_SAME_REWARD, "gamma": float, "Adam_eps": float}.items():
        if kind is bool:
            add(f"--{name}", type=truth, nargs="?", const=True)
        else:
            add(f"--{name}", type=kind)
    add("--optimizer", choices=["adam", "rmsprop"], help="of dqn")
    add("--checkpoint_dir", help="directory that holds the run directories (default: runs)")
    add("--device", help="cpu, cuda, cuda:1")
    for name in ("sticky", "noop", "frames", "test_eps", "rews_scale"):  # Atari's, refused with a plain word
        add(f"--{name}", help=argparse.SUPPRESS)
    return parser


def truth(text: str) -> bool:
    """True or False as people write it, for argparse."""
    if text.lower() not in (*TRUE, *FALSE):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() in TRUE


def _method(given: dict[str, Any]) -> tuple[str, str, str]:
    """alg, basis_alg, env. `--alg=sac` was the old way to say: the bare agent. Raises UserError for Atari."""
    env = given.get("env", "Ant-v2")
    game = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?(-ram)?(-v\d+)?$", "", env)
    atari_flags = [name for name in ("sticky", "noop", "frames", "test_eps", "rews_scale") if name in given]
    if game in _ATARI.split() or env.startswith("ALE/") or atari_flags:
        what = f"--env={env}" if game in _ATARI.split() or env.startswith("ALE/") else f"--{atari_flags[0]}"
        raise UserError(
            f"{what}: Atari's frames are not supported yet; dqn takes environments with vector observations"
        )
    if given.get("optimizer") == "rmsprop":
        raise UserError("--optimizer=rmsprop is not offered: dqn uses Adam (--q_lr, --Adam_eps)")
    alg = given.get("alg", "rrd")
    if alg in AGENTS:
        other = given.get("basis_alg", alg)
        if other != alg:
            raise UserError(f"--alg={alg} is the bare agent {alg}: leave out --basis_alg={other}")
        return "none", alg, env
    return alg, given.get("basis_alg", "sac"), env


def _pick(given: dict[str, Any], names: Sequence[str] | dict[str, type]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _agent(base: OnlineConfig, given: dict[str, Any]) -> Any:
    known = {f.name for f in fields(base.agent)}
    changes = {name: value for name, value in _pick(given, _SAME_AGENT).items() if name in known}
    if "Adam_eps" in given or "optimizer" in given:
        if not isinstance(base.agent, DQNConfig):
            flag = "--Adam_eps" if "Adam_eps" in given else "--optimizer"
            raise UserError(f"{flag} is a setting of dqn, and the agent here is {base.basis_alg}")
        if "Adam_eps" in given:
            changes["adam_eps"] = given["Adam_eps"]
    return replace(base.agent, **changes)


def _lengths(given: dict[str, Any], timesteps: int) -> dict[str, int]:
    """epochs x cycles x iterations x timesteps env steps, an evaluation after each cycle. Raises UserError below 1."""
    old = {"epochs": 3, "cycles": 100, "iterations": 100, "timesteps": timesteps}
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
