"""What can be known to be wrong before anything is written: a slip leaves no half-made run directory behind."""

from __future__ import annotations

import importlib.util

from apportion.config import OnlineConfig
from apportion.envs.make import check_agent, make_one, spec_of, step_limit
from apportion.run.sinks import NAMES
from apportion.train.session import check_subset_size, torch_device
from apportion.types import UserError


def preflight(config: OnlineConfig, log: tuple[str, ...] = ()) -> None:
    """Makes one environment and asks whether agent, subset size, device and sinks fit. Raises UserError."""
    env = make_one(config.env, config.env_type == "ep_rews")
    try:
        check_agent(spec_of(env), config.basis_alg)
        check_subset_size(config, step_limit(env))
    finally:
        env.close()
    torch_device(config.device)
    for name in log:
        if name not in NAMES:
            raise UserError(f"--log {name} is unknown: choose from {', '.join(NAMES)}")
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--log {name} needs a package that is missing: pip install 'apportion[{name}]'")
