"""Processes that train one model together: what each takes of a step, and how their gradients become one.

They are started by `accelerate launch` or `torchrun`. Knows nothing of terms, methods and runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import torch
from accelerate.utils import parse_flag_from_env
from torch import distributed
from torch.distributed.tensor import DTensor

from memfix.errors import ExitCode, MemfixError
from memfix.models.device import device, state
from memfix.world import World

T = TypeVar("T")


class Ranks(NamedTuple):
    """The processes of a training, whose first one decides, writes and talks.

    `sharded`: each holds a part of the trained weights (FSDP), else each has them whole.
    """

    world: World = World()
    sharded: bool = False

    @classmethod
    def here(cls) -> Ranks:
        """As this process was started. Raises MemfixError where the launcher was told to use DeepSpeed."""
        if _asked("DEEPSPEED"):
            raise MemfixError(
                "memfix does not use DeepSpeed.",
                "Launch without it, or use FSDP if full weights do not fit on one device.",
                ExitCode.USAGE,
            )
        world = World(state().process_index, state().num_processes)
        return cls(world, _asked("FSDP") and not world.alone)

    @staticmethod
    def missing() -> bool:
        """Whether accelerate was asked for several processes and started one: on CPUs it leaves them to mpirun."""
        asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ  # set for several only
        return asked and _asked("CPU") and "LOCAL_RANK" not in os.environ and state().num_processes == 1

    def average(self, gradients: list[torch.Tensor]) -> None:
        """Replace gradients by their mean over all ranks. Of sharded ones that is done already, by their backward."""
        if self.world.alone:
            return
        whole = [g for g in gradients if not isinstance(g, DTensor)]
        sums = [distributed.all_reduce(g, async_op=True) for g in whole]
        for gradient, done in zip(whole, sums, strict=True):
            done.wait()
            gradient.div_(self.world.world_size)

    def mean(self, number: float) -> float:
        """Mean of a number over all ranks."""
        if self.world.alone:
            return number
        total = torch.tensor(number, dtype=torch.float64, device=device())
        distributed.all_reduce(total)
        return float(total) / self.world.world_size

    def wait(self) -> None:
        """Until all ranks have come here."""
        if not self.world.alone:
            distributed.barrier()

    def shared(self, thing: T) -> T:
        """What the first rank gives; the others wait for it, and what they give is ignored."""
        if self.world.alone:
            return thing
        box = [thing]
        distributed.broadcast_object_list(box, src=0, device=device())
        return box[0]

    def gathered(self, thing: T) -> list[T]:
        """What each rank gives, in the order of ranks."""
        if self.world.alone:
            return [thing]
        found: list[T] = [thing] * self.world.world_size
        distributed.all_gather_object(found, thing)
        return found

    def spread(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by those of the first rank."""
        for tensor in tensors if not self.world.alone else ():
            distributed.broadcast(tensor, src=0)


def _asked(name: str) -> bool:
    """Whether the launcher was told to use something."""
    return bool(parse_flag_from_env(f"ACCELERATE_USE_{name}"))
