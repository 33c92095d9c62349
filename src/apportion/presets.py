"""Settings with a name: what the RRD paper released, per method and agent, and a quick start.

Ren et al. 2022 (arXiv 2111.13485) and the code released with it; IRCR's official form: Gangwani et al. 2020.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from apportion.config import AGENTS, Alg, DQNConfig, FitConfig, OnlineConfig, RewardConfig, SACConfig
from apportion.fast.toolchain import has_cxx
from apportion.types import UserError


def defaults(alg: str, basis_alg: str, env: str, ircr_variant: str = "rrd") -> OnlineConfig:
    """The released settings of method `alg` with agent `basis_alg` on `env`.

    Raises UserError when there is no such method or agent.
    """
    if alg not in get_args(Alg):
        raise UserError(f"--alg {alg}: no such method; choose from {', '.join(get_args(Alg))}")
    if basis_alg not in AGENTS:
        raise UserError(f"--basis-alg {basis_alg}: no such agent; choose from {', '.join(AGENTS)}")
    config = OnlineConfig(
        env=env,
        # checked above; which model, --model says
        reward=RewardConfig(alg=alg, model="REQUIRED" if alg == "model" else ""),  # type: ignore[arg-type]
        agent=AGENTS[basis_alg](),
        env_type="normal" if alg in ("none", "model") else "ep_rews",
        steps=3_000_000,
        timesteps=100,
        train_batches=100,
        warmup=10_000,
        batch_size=256,
        buffer_size=1_000_000,
        eval_every=10_000,
        test_rollouts=10,
        obs_normalization=basis_alg == "ddpg",
    )
    if basis_alg == "dqn":
        config = _atari(_dqn(config)) if is_atari(env) else _dqn(config)
    elif re.fullmatch(r"Reacher(-v\d+)?", env):  # its episodes have 50 steps, fewer than the released K = 64
        config = replace(config, reward=replace(config.reward, rrd_sample_size=32))
    return _ircr(config, ircr_variant) if alg == "ircr" else config


def is_atari(env: str) -> bool:
    """Does `env` name an Atari game?"""
    from apportion.envs.atari import game_of  # its imports are not light

    return game_of(env) is not None


def default_agent(env: str) -> str:
    """The agent where none is named: dqn for Atari games, else sac, as in the RRD code."""
    return "dqn" if env and is_atari(env) else "sac"


def with_rmsprop(config: OnlineConfig) -> OnlineConfig:
    """`config` of a dqn with RMSProp, and the step size that Mnih et al. 2015 (and the RRD code) took for it."""
    return replace(config, agent=replace(config.agent, optimizer="rmsprop", q_lr=2.5e-4))  # type: ignore[call-arg]


def compile_if_it_pays(config: OnlineConfig) -> OnlineConfig:
    """`config` with its update compiled where that saves more than its minute: many updates, a CPU, a C++ compiler.

    Not in Atari games: large convolutions stay what they are, and `--threads 2` puts reward model and agent side by
    side instead.
    """
    updates = (config.steps - config.warmup) // config.timesteps * config.train_batches
    pays = updates >= 30_000 and config.device == "cpu" and has_cxx() and not is_atari(config.env)
    return replace(config, compile=pays)


def _dqn(config: OnlineConfig) -> OnlineConfig:
    """The released DQN settings, which were made for Atari: small batches, one subset, one update per four steps."""
    reward = replace(config.reward, rrd_batch_size=32, rrd_sample_size=32)
    return replace(config, reward=reward, train_batches=25, warmup=30_000, batch_size=32)


def _atari(config: OnlineConfig) -> OnlineConfig:
    """What the released settings have besides: 10 epochs of 20 cycles of 500 x 100 steps, 5 episodes after each."""
    agent = replace(config.agent, test_eps=0.001)  # type: ignore[call-arg]
    return replace(config, agent=agent, steps=10_000_000, eval_every=50_000, test_rollouts=5)


def _ircr(config: OnlineConfig, variant: str) -> OnlineConfig:
    """IRCR draws half of each batch from the ten best episodes, so its batch is twice as large (official: 2 x 512)."""
    agent = config.agent
    if not isinstance(agent, DQNConfig):
        agent = replace(agent, polyak=0.999)
        config = replace(config, buffer_size=300_000, batch_size=1024 if variant == "official" else 512)
    if isinstance(agent, SACConfig) and re.fullmatch(r"Humanoid(-v\d+)?", config.env):
        agent = replace(agent, alpha_init=0.1, alpha_lr=0.0)
    if variant == "official":
        agent = replace(agent, critic_loss="huber", max_grad_norm=1.0)
    return replace(config, agent=agent, reward=replace(config.reward, ircr_variant=variant))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Preset:
    """A method, an agent and what differs from their defaults; the environment is the user's, unless one is named."""

    alg: Alg
    basis_alg: str
    about: str
    env: str = ""
    ircr_variant: Literal["rrd", "official"] = "rrd"
    tune: Callable[[OnlineConfig], OnlineConfig] = lambda config: config

    def config(self, env: str = "") -> OnlineConfig:
        """This preset's settings on `env`. Raises UserError if neither the caller nor the preset names one."""
        if not (env or self.env):
            raise UserError("--env is missing: which environment? For example --env HalfCheetah-v5")
        return self.tune(defaults(self.alg, self.basis_alg, env or self.env, self.ircr_variant))


def _bias_corrected(config: OnlineConfig) -> OnlineConfig:
    return replace(config, reward=replace(config.reward, rrd_bias_correction=True))


def _withheld(config: OnlineConfig) -> OnlineConfig:
    return replace(config, env_type="ep_rews")


def _quickstart(config: OnlineConfig) -> OnlineConfig:
    """Reacher's episodes have 50 steps, so K = 32 leaves something to leave out; one update per step."""
    return replace(
        config,
        reward=replace(config.reward, rrd_batch_size=256, rrd_sample_size=32),
        steps=15_000,
        warmup=1_000,
        timesteps=1,
        train_batches=1,
        batch_size=256,
        buffer_size=100_000,
        eval_every=1_000,
        test_rollouts=10,
        log_every=500,
        save_freq=5_000,
    )


def _family() -> dict[str, Preset]:
    """Every method with every agent: `rrd-sac`, `rrd-lrd-td3`, `ircr-ddpg`, `dense-sac`, ..."""
    family = {}
    for agent in AGENTS:
        name = agent.upper()
        family |= {
            f"rrd-{agent}": Preset("rrd", agent, f"RRD with {name}"),
            f"rrd-lrd-{agent}": Preset(
                "rrd", agent, f"RRD-L(RD), the unbiased form, with {name}", tune=_bias_corrected
            ),
            f"rd-{agent}": Preset("rd", agent, f"return decomposition on whole episodes, with {name}"),
            f"ircr-{agent}": Preset("ircr", agent, f"IRCR as in the RRD code, with {name}"),
            f"ircr-official-{agent}": Preset(
                "ircr", agent, f"IRCR as in its own paper, with {name}", ircr_variant="official"
            ),
            f"uniform-{agent}": Preset("uniform", agent, f"R/T for every step (the control), with {name}"),
            f"dense-{agent}": Preset("none", agent, f"{name} on the environment's own reward (the ceiling)"),
            f"episodic-{agent}": Preset(
                "none", agent, f"{name} on the raw episodic reward (the floor)", tune=_withheld
            ),
        }
    return family


PRESETS: dict[str, Preset] = {
    "quickstart": Preset("rrd", "sac", "RRD on Reacher-v5 in a few minutes", env="Reacher-v5", tune=_quickstart),
    **_family(),
}


@dataclass(frozen=True)
class FitPreset:
    """Settings of `apportion fit` with a name."""

    about: str
    settings: dict[str, Any]  # fields of FitConfig that differ from its defaults

    def config(self, data: str) -> FitConfig:
        """This preset's settings for the demonstrations `data`."""
        return FitConfig(data=data, **self.settings)


FIT_PRESETS: dict[str, FitPreset] = {
    "libero-rrd": FitPreset(
        "RRD with the sizes of the LIBERO command line: one subset of 32 steps per update",
        {"method": "rrd", "rrd_batch_size": 32, "rrd_sample_size": 32},
    ),
    "successes-only": FitPreset(
        "for demonstrations without failures: progress t/T as a potential, with clips that run back",
        {"method": "progress", "rewind": True, "patience": 10},
    ),
    "with-failures": FitPreset(
        "for successes and failures: RD on whole episodes, as in benchmarks/demos.py",
        {"method": "rd", "r_hidden": (64, 64), "r_lr": 1e-3, "steps": 2_000, "validate_every": 250},
    ),
}
