"""A linear edit of what cross-attention makes of text embeddings: c → c + write (read c), built into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

READERS = ("attn2.to_k", "attn2.to_v")


class ContextEdit(NamedTuple):
    """read: [q, D], write: [D, q], where D is the width of a text embedding; float32 on the CPU."""

    read: torch.Tensor
    write: torch.Tensor

    def __call__(self, context: torch.Tensor) -> torch.Tensor:
        """Edited embeddings, [..., D]."""
        return context + context @ self.read.T @ self.write.T


def readers(unet: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that read text embeddings, by name; layers that a LoRA wraps come as their wrapper."""
    yield from ((name, module) for name, module in unet.named_modules() if name.endswith(READERS))


@torch.no_grad()
def build_in(unet: nn.Module, edit: ContextEdit) -> None:
    """Let a UNet answer to context c as it did to edit(c), by W ← W (I + write read) in every reader."""
    for _, layer in readers(unet):
        weight: torch.Tensor = layer.weight
        read, write = edit.read.to(weight), edit.write.to(weight)
        weight += (weight @ write) @ read
