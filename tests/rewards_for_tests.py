"""Untrained reward models of demonstrations, and runs that look like fitted ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.config import FitConfig, to_json
from apportion.data.as_store import open_any
from apportion.data.batches import Inputs
from apportion.data.conditions import Conditions
from apportion.data.schema import Demo
from apportion.rewards.demo_model import DemoReward
from apportion.train.split import Split, episode_ids, write_split


def reward_model(
    demo: Demo, proprio: Sequence[str] = ("state",), tasks: Sequence[str] = (), **settings: Any
) -> DemoReward:
    """A network with random weights for episodes like `demo`."""
    config = FitConfig(**{"data": "unknown", "features": "proprio", "r_hidden": (8,), **settings})
    sizes = tuple((name, demo.proprio[name].shape[1]) for name in proprio)
    inputs = Inputs(sizes, config.cameras, config.image_size, "", 0, demo.action.shape[1])
    told = Conditions("none", ("",), np.zeros((1, 0), np.float32))
    if tasks:
        told = Conditions("task", tuple(tasks), np.eye(len(tasks), dtype=np.float32))
    model = DemoReward(config, inputs, told, torch.Generator().manual_seed(0)).eval()
    if proprio:
        model.net.norm.observe(torch.from_numpy(np.concatenate([demo.proprio[name] for name in proprio], 1)))
    if model.net.act_norm is not None:
        model.net.act_norm.observe(torch.from_numpy(demo.action))
    return model


def fitted_run(path: Path, model: DemoReward, train: Sequence[int] = (), val: Sequence[int] = ()) -> Path:
    """A run directory with what `apportion fit` leaves there for those who use the model."""
    model.save(path / "reward")
    (path / "config.json").write_text(json.dumps(to_json(model.config)))
    data = Path(model.config.data)
    ids = episode_ids(open_any(str(data), model.config.suite)) if data.exists() and (train or val) else {}
    write_split(path, Split(list(train), list(val), ids))
    return path
