"""Processes that train one model together: what each takes of a step, and how their gradients become one.

They are started by `accelerate launch` or `torchrun`. Knows nothing of terms, methods and runs.
"""

from __future__ import annotations

import os
from typing import NamedTuple, TypeVar

import torch
from accelerate.utils import parse_flag_from_env
from torch import distributed
from torch.distributed.tensor import DTensor

from memfix.errors import ExitCode, MemfixError
from memfix.models.device import device, state

T = TypeVar("T")


class Ranks(NamedTuple):
    """This process, `rank`, among `of`. The first one decides, writes and talks.

    `sharded`: each holds a part of the trained weights (FSDP), else each has them whole.
    """

    rank: int = 0
    of: int = 1
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
        of = state().num_processes
        return cls(state().process_index, of, _asked("FSDP") and of > 1)

    @staticmethod
    def missing() -> bool:
        """Whether accelerate was asked for several processes and started one: on CPUs it leaves them to mpirun."""
        asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ  # set for several only
        return asked and _asked("CPU") and "LOCAL_RANK" not in os.environ and state().num_processes == 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that decides."""
        return self.rank == 0

    def average(self, gradients: list[torch.Tensor]) -> None:
        """Replace gradients by their mean over all ranks. Of sharded ones that is done already, by their backward."""
        if self.of == 1:
            return
        whole = [g for g in gradients if not isinstance(g, DTensor)]
        sums = [distributed.all_reduce(g, async_op=True) for g in whole]
        for gradient, done in zip(whole, sums, strict=True):
            done.wait()
            gradient.div_(self.of)

    def mean(self, number: float) -> float:
        """Mean of a number over all ranks."""
        if self.of == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64, device=device())
        distributed.all_reduce(total)
        return float(total) / self.of

    def wait(self) -> None:
        """Until all ranks have come here."""
        if self.of > 1:
            distributed.barrier()

    def shared(self, thing: T) -> T:
        """What the first rank gives; the others wait for it, and what they give is ignored."""
        if self.of == 1:
            return thing
        box = [thing]
        distributed.broadcast_object_list(box, src=0, device=device())
        return box[0]


def _asked(name: str) -> bool:
    """Whether the launcher was told to use something."""
    return bool(parse_flag_from_env(f"ACCELERATE_USE_{name}"))
