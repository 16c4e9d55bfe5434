"""Combiners: from the gradients of the keep and of the forget term to the one that the optimizer sees.

All work in place on lists of gradients in the order of the parameters: `keep` is a copy that the caller owns,
`forget` what `.grad` holds. One extra gradient-sized buffer is all that any of them needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

SMALLEST_NORM = 1e-12


class Combined(NamedTuple):
    """Norms of the two gradients, and the factor on the forget side (negative: it is subtracted)."""

    norm_keep: float
    norm_forget: float
    scale: float


def global_norm(gradients: Sequence[torch.Tensor]) -> float:
    """L2 norm over all gradients together."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients])))


def rescale(keep: Sequence[torch.Tensor], forget: Sequence[torch.Tensor], ratio: float) -> Combined:
    """SISS: keep - s·forget with s = ρ‖keep‖/‖forget‖, written into `forget`.

    A forget gradient of (almost) no length would make s infinite; it is then left out.
    """
    norm_keep, norm_forget = global_norm(keep), global_norm(forget)
    scale = ratio * norm_keep / norm_forget if norm_forget > SMALLEST_NORM else 0.0
    for kept, grad in zip(keep, forget, strict=True):
        grad.mul_(-scale).add_(kept)
    return Combined(norm_keep, norm_forget, -scale)
