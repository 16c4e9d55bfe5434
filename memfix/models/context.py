"""A linear edit of what cross-attention makes of text embeddings: c → c + write (read c), built into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from memfix.errors import MemfixError

READERS = ("attn2.to_k", "attn2.to_v")


class ContextEdit(NamedTuple):
    """read: [q, D], write: [D, q], where D is the width of a text embedding; float32 on the CPU."""

    read: torch.Tensor
    write: torch.Tensor

    def __call__(self, context: torch.Tensor) -> torch.Tensor:
        """Edited embeddings, [..., D]."""
        return context + context @ self.read.T @ self.write.T

    def inverse(self) -> ContextEdit:
        """The edit that takes this one off: (I + write read)⁻¹ = I - write (I + read write)⁻¹ read (Woodbury)."""
        read, write = self.read.double(), self.write.double()
        inner = torch.eye(len(read), dtype=torch.float64) + read @ write
        return ContextEdit(torch.linalg.solve(inner, read).float(), -self.write)

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        file.write_bytes(save({"read": self.read.contiguous(), "write": self.write.contiguous()}))

    @classmethod
    def load(cls, file: Path) -> ContextEdit:
        """What `save` wrote. Raises MemfixError for anything else."""
        try:
            state = load_file(file)
            return cls(state["read"], state["write"])
        except (SafetensorError, KeyError):
            raise MemfixError(f"{file} holds no rewording.", "Restore it, or unlearn again with --overwrite.") from None


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


@contextmanager
def taken_off(unet: nn.Module, edit: ContextEdit) -> Iterator[None]:
    """Let a UNet that an edit is built into answer without it for a while; afterwards its weights are the same ones."""
    kept = [(layer.weight, layer.weight.detach().clone()) for _, layer in readers(unet)]
    build_in(unet, edit.inverse())
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)
