"""Frozen weights in half precision where the arithmetic rounds them to it anyway: half the memory, the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class FullWeights(list[tuple[nn.Parameter, torch.Tensor]]):
    """Weights that are held in half precision, each with its full numbers, which lie on the CPU.

    A copy of it is empty: copies of a model are only asked.
    """

    def put_back(self) -> None:
        """Give the weights their full numbers."""
        for weight, full in self:
            weight.data = full.to(weight.device, copy=True)

    def round_to(self, dtype: torch.dtype) -> None:
        """Give the weights these numbers rounded, whatever became of them since."""
        for weight, full in self:
            weight.data = full.to(weight.device).to(dtype)

    def __deepcopy__(self, memo: object) -> FullWeights:
        """Nothing."""
        return FullWeights()


def is_rounded(module: nn.Module) -> bool:
    """Whether autocast rounds a module's weights each time that it computes. Norms keep theirs in full precision."""
    return isinstance(module, (nn.Linear, nn.Conv2d))


def halve(module: nn.Module, dtype: torch.dtype) -> FullWeights:
    """Hold the frozen weights of linear layers and convolutions in this dtype from now on; what they were is returned.

    Under autocast to it every answer is the same as before, bit for bit; without, there is none.
    """
    kept = FullWeights()
    for layer in module.modules():
        for weight in layer.parameters(recurse=False) if is_rounded(layer) else ():
            if not weight.requires_grad and weight.dtype == torch.float32:
                kept.append((weight, weight.data.to("cpu", copy=True) if weight.is_cuda else weight.data))
                weight.data = weight.data.to(dtype)
    return kept


@contextmanager
def frozen_in(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """The same for a while; None leaves all as it is."""
    kept = halve(module, dtype) if dtype else FullWeights()
    try:
        yield
    finally:
        kept.put_back()
