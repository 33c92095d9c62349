"""Every random draw is a function of (root seed, stream name, counter); the counters are the whole state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


class Streams:
    """Named, independent, counter-based random streams (Philox).

    Two streams never share numbers, and a draw depends only on how many draws its own stream made before: adding a
    consumer elsewhere does not shift anybody's numbers. `state()` is a dictionary of counters.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._philox: dict[str, np.random.Philox] = {}
        self._counters: dict[str, int] = {}

    def generator(self, name: str) -> np.random.Generator:
        """The generator of the next draw of stream `name`: a block of 2**192 numbers that is never given out again.

        It is the same object at each call, moved on to its next block: use it before you ask for the next one.
        """
        if name not in self._philox:
            digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=16).digest()
            self._philox[name] = np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64))
        philox = self._philox[name]
        count = self._counters.get(name, 0)
        self._counters[name] = count + 1
        state = philox.state  # assigning a state costs 3 us, making a Philox 30 us
        state["state"]["counter"] = np.array([0, 0, 0, count], np.uint64)
        state["buffer_pos"] = 4  # nothing left over from the block before
        state["has_uint32"] = 0
        philox.state = state
        return np.random.Generator(philox)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal float32 numbers of `shape`, on the CPU."""
        return torch.from_numpy(self.generator(name).standard_normal(shape, dtype=np.float32))

    def integer(self, name: str) -> int:
        """One integer in [0, 2**31): a seed for an environment or a network."""
        return int(self.generator(name).integers(2**31))

    def torch_generator(self, name: str) -> torch.Generator:
        """A CPU torch generator, for initialising networks."""
        return torch.Generator().manual_seed(self.integer(name))

    def state(self) -> dict[str, int]:
        return dict(self._counters)

    def load_state(self, state: dict[str, int]) -> None:
        self._counters = {name: int(count) for name, count in state.items()}
