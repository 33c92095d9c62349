"""Runs before any test module is imported: shapes in annotations are checked, and one thread is enough."""

import sys
from pathlib import Path

import jaxtyping
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for envs_for_tests
jaxtyping.install_import_hook("apportion", "beartype.beartype")
torch.set_num_threads(1)
