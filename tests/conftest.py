"""Runs before any test module is imported: shapes in annotations are checked, and one thread is enough."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for envs_for_tests
jaxtyping.install_import_hook("apportion", "beartype.beartype")
torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of jobs in the background; processes of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TRAINING = {"probes", "resume", "examples"}  # tests that take hundreds of updates: the shapes in one are those in all


@pytest.fixture(autouse=True)
def shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Are shapes checked in this test? Not in these folders, nor in what is marked `trains`."""
    trains = request.path.parent.name in TRAINING or request.node.get_closest_marker("trains") is not None
    jaxtyping.config.update("jaxtyping_disable", trains)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
