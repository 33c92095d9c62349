"""Runs before any test module is imported: shapes in annotations are checked, and one thread is enough."""

import signal
import sys
from collections.abc import Generator
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Shapes are checked but in these folders, and where a test, with the fixtures made for it, is `unchecked`."""
    unchecked = item.path.parent.name in TRAINING or item.get_closest_marker("unchecked") is not None
    jaxtyping.config.update("jaxtyping_disable", unchecked)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
