"""Frozen weights in half precision where the arithmetic rounds them to it anyway: half the memory, the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def is_rounded(module: nn.Module) -> bool:
    """Whether autocast rounds a module's weights each time that it computes. Norms keep theirs in full precision."""
    return isinstance(module, (nn.Linear, nn.Conv2d))


@contextmanager
def frozen_in(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Hold the frozen weights of linear layers and convolutions in this dtype for a while; None leaves all as it is.

    Under autocast to it every answer is the same as before, bit for bit. The full weights lie on the CPU meanwhile.
    """
    kept = list[tuple[nn.Parameter, torch.Tensor]]()
    for layer in module.modules() if dtype else ():
        for weight in layer.parameters(recurse=False) if is_rounded(layer) else ():
            if not weight.requires_grad and weight.dtype == torch.float32:
                kept.append((weight, weight.data.to("cpu", copy=True) if weight.is_cuda else weight.data))
                weight.data = weight.data.to(dtype)
    try:
        yield
    finally:
        for weight, full in kept:
            weight.data = full.to(weight.device)
