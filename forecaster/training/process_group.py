"""The processes that train together. Knows torch.distributed; no model, no data, no Ray.

One process is a group of one: the same code runs with and without a process group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """This process's place in its group."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of_process_group(cls, device: torch.device | None = None) -> Peers:
        """The default process group, or a group of one where none was set up."""
        where = device or torch.device("cpu")
        if not dist.is_initialized():
            return cls(device=where)
        return cls(dist.get_rank(), dist.get_world_size(), where)

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """Sum over all ranks, without gradient."""
        if self.world == 1:
            return value.detach()
        summed = value.detach().clone().to(self.device)
        dist.all_reduce(summed)
        return summed.to(value.device)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all ranks, without gradient."""
        return value.detach() if self.world == 1 else self.total(value) / self.world

    def group_mean(self, value: Tensor) -> Tensor:
        """Mean over all ranks, whose gradients, averaged over ranks, are those of the mean.

        Every rank back-propagates into its own share as if it were the whole: averaging the
        parameters' gradients afterwards makes that exact.
        """
        if self.world == 1:
            return value
        return value + (self.mean(value) - value.detach())

    def gather(self, value: T) -> list[T]:
        """What every rank gave, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def replicated(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over ranks as they are computed."""
        if self.world == 1:
            return module
        where = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=where, find_unused_parameters=True
        )
