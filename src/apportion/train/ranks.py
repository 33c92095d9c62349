"""Several processes that share one fit: started by torchrun, each takes its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from apportion.types import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among `world` of them."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Does this process write, speak and validate?"""
        return self.rank == 0

    def part(self, total: int, what: str) -> tuple[int, int]:
        """This process's share of `total` equal parts: from, to. Raises UserError where they do not come out even."""
        if total % self.world:
            raise UserError(f"{what} is {total}, which {self.world} processes cannot share evenly: take a multiple")
        each = total // self.world
        return self.rank * each, (self.rank + 1) * each

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over all processes, of the same names in each."""
        if self.world == 1:
            return values
        total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(sorted(values), (total / self.world).tolist(), strict=True))

    def from_first(self, values: list[float]) -> list[float]:
        """What the first process has, in all of them."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.world == 1:
            return flag
        shared = torch.tensor([float(flag)])
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared.item())

    def shared(self, net: nn.Module, device: torch.device) -> nn.Module:
        """`net`, its gradients averaged over all processes."""
        if self.world == 1:
            return net
        return DistributedDataParallel(net, device_ids=[device] if device.type == "cuda" else None)


@contextmanager
def join(device: str) -> Iterator[tuple[Ranks, str]]:
    """Meets the other processes that torchrun started; alone without it. Yields this one's device too.

    On GPUs each process of a machine takes its own. Numbers that are few (flags, metrics) travel by gloo everywhere.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(), device
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), world), device
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise UserError(f"process {dist.get_rank()}: another process is gone; what it said tells why") from error
    finally:
        dist.destroy_process_group()
