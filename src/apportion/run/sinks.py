"""Where metrics go besides metrics.jsonl: TensorBoard, Weights & Biases, Trackio. All of them local unless asked."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from apportion.types import UserError

PROJECT = "apportion"


@runtime_checkable
class Sink(Protocol):
    def write(self, step: int, values: Mapping[str, float | int]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in RUN/events; `tensorboard --logdir RUN` shows them."""

    def __init__(self, run_dir: Path, resumed_at: int | None):
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_at is None else resumed_at + 1  # what came later in the life before is hidden
        self._writer = SummaryWriter(str(run_dir / "events"), purge_step=purge)

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases; offline in RUN/wandb (`wandb sync` sends it later) unless WANDB_MODE says otherwise."""

    def __init__(self, run_dir: Path, run_name: str, config: dict[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]  # an extra

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_name,
            dir=str(run_dir),
            config=config,
            mode=mode,
            settings=wandb.Settings(silent=mode == "offline"),
        )

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """Trackio; a local database (`trackio show --project apportion`) unless its own variables name a server."""

    def __init__(self, run_name: str, config: dict[str, Any], resumed_at: int | None):
        import trackio  # pyright: ignore[reportMissingImports]  # an extra

        self._run = trackio.init(
            project=PROJECT,
            name=run_name,
            config=config,
            resume="never" if resumed_at is None else "allow",
            embed=False,
            auto_log_gpu=False,  # both would poll from threads beside the training
            auto_log_cpu=False,
        )

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


NAMES = ("tensorboard", "wandb", "trackio")


def check_sinks(names: Iterable[str]) -> None:
    """Raises UserError for an unknown name or a package that is not installed."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"--log {name} is unknown: choose from {', '.join(NAMES)}")
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--log {name} needs a package that is missing: pip install 'apportion[{name}]'")


def open_sinks(
    names: list[str], run_dir: Path, run_name: str, config: dict[str, Any], resumed_at: int | None = None
) -> list[Sink]:
    """The sinks named, opened in order. Raises UserError for an unknown name or a package that is not installed.

    `config` is shown beside the run; `resumed_at` is the step from which a resumed run goes on.
    """
    check_sinks(names)
    sinks: list[Sink] = []
    for name in names:
        try:
            if name == "tensorboard":
                sinks.append(TensorBoard(run_dir, resumed_at))
            elif name == "wandb":
                sinks.append(Wandb(run_dir, run_name, config))
            else:
                sinks.append(Trackio(run_name, config, resumed_at))
        except ImportError as e:
            for sink in sinks:
                sink.close()
            raise UserError(f"--log {name} needs a package that is missing: pip install 'apportion[{name}]'") from e
    return sinks
