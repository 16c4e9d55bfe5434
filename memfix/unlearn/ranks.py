"""Processes that train one model together: what each takes of a step, and how their gradients become one.

They are started by `accelerate launch` or `torchrun`. Knows nothing of terms, methods and runs.
"""

from __future__ import annotations

import os
from typing import NamedTuple, TypeVar

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from memfix.errors import MemfixError
from memfix.models.device import device, state

T = TypeVar("T")


class Ranks(NamedTuple):
    """This process, `rank`, among `of`. The first one decides, writes and talks."""

    rank: int = 0
    of: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """As this process was started. Raises MemfixError where the launcher was told to shard the weights."""
        if any(os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" for name in ("FSDP", "DEEPSPEED")):
            raise MemfixError(
                "memfix does not shard weights by itself.",
                "Launch without FSDP and DeepSpeed; from Python, a Trainer takes a network that fully_shard has split.",
            )
        return cls(state().process_index, state().num_processes)

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
