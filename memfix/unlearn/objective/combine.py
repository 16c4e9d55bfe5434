"""Combiners: from the gradients of the keep and of the forget term to the one that the optimizer sees.

Both are gradients of terms to be minimised (a term that is climbed comes with its sign turned). All work in place on
lists of gradients in the order of the parameters: `keep` is a copy that the caller owns, `forget` what `.grad` holds
and where the result goes. One extra gradient-sized buffer is all that any of them needs. Gradients may be sharded over
ranks (FSDP2): norms and inner products are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial

SMALLEST_NORM = 1e-12

Gradients: TypeAlias = list[torch.Tensor]


class Combined(NamedTuple):
    """Norms of the two gradients, and the factor on the forget side."""

    norm_keep: float
    norm_forget: float
    scale: float


Combiner: TypeAlias = Callable[[Gradients, Gradients], Combined]


def global_norm(gradients: Gradients) -> float:
    """L2 norm over all gradients together."""
    norm = nn.utils.get_total_norm(gradients)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def inner(a: Gradients, b: Gradients) -> float:
    """Inner product over all gradients together; no temporary of their size."""
    dots = [torch.dot(_here(x).reshape(-1), _here(y).reshape(-1)).double() for x, y in zip(a, b, strict=True)]
    return _over_ranks(dots, _mesh(a[0]))


def total(tensors: Iterable[torch.Tensor]) -> float:
    """Sum over all entries of all tensors together, of which only one is looked at a time."""
    sums, meshes = zip(*((_here(t).sum(), _mesh(t)) for t in tensors), strict=True)
    return _over_ranks(sums, meshes[0])


def _over_ranks(numbers: Sequence[torch.Tensor], mesh: DeviceMesh | None) -> float:
    """Sum of what was found in this rank's part, and in those of the others if there are any."""
    found = torch.stack(list(numbers)).sum()
    if mesh is not None:
        found = DTensor.from_local(found, mesh, [Partial()]).full_tensor()
    return float(found)


def _mesh(gradient: torch.Tensor) -> DeviceMesh | None:
    """The ranks over which it is sharded."""
    return gradient.device_mesh if isinstance(gradient, DTensor) else None


def _here(gradient: torch.Tensor) -> torch.Tensor:
    """The part of a sharded gradient that this rank holds; a whole one itself."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def rescale(keep: Gradients, forget: Gradients, ratio: float, norm: float | None = None) -> Combined:
    """SISS: keep + s·forget, s = ρ‖keep‖/‖forget‖, or C/‖forget‖ with a fixed norm C.

    A forget gradient of (almost) no length would make s infinite; it is then left out.
    """
    norm_keep, norm_forget = global_norm(keep), global_norm(forget)
    length = ratio * norm_keep if norm is None else norm
    scale = length / norm_forget if norm_forget > SMALLEST_NORM else 0.0
    _add(keep, forget, 1.0, scale)
    return Combined(norm_keep, norm_forget, scale)


def weighted_sum(keep: Gradients, forget: Gradients, keep_weight: float, forget_weight: float) -> Combined:
    """keep_weight·keep + forget_weight·forget."""
    norms = global_norm(keep), global_norm(forget)
    _add(keep, forget, keep_weight, forget_weight)
    return Combined(*norms, forget_weight)


def bome(keep: Gradients, forget: Gradients, eta: float) -> Combined:
    """EraseDiff by BOME: keep + max(η - ⟨keep, forget⟩/‖forget‖², 0)·forget.

    The least multiplier with which the step lowers the forget term at rate η. Source: arXiv 2209.08709 with
    φ = η‖forget‖², as in arXiv 2401.05779.
    """
    norm_keep, norm_forget = global_norm(keep), global_norm(forget)
    scale = max(eta - inner(keep, forget) / norm_forget**2, 0.0) if norm_forget > SMALLEST_NORM else 0.0
    _add(keep, forget, 1.0, scale)
    return Combined(norm_keep, norm_forget, scale)


def project(keep: Gradients, forget: Gradients, forget_weight: float) -> Combined:
    """keep + w·forget', where forget' = forget - min(0, ⟨forget, keep⟩)/‖keep‖²·keep.

    One-sided: what of the forget step would raise the keep term is taken out, what helps it stays.
    """
    norm_keep, norm_forget = global_norm(keep), global_norm(forget)
    against = min(0.0, inner(forget, keep)) / norm_keep**2 if norm_keep > SMALLEST_NORM else 0.0
    _add(keep, forget, 1.0 - forget_weight * against, forget_weight)
    return Combined(norm_keep, norm_forget, forget_weight)


def _add(keep: Gradients, forget: Gradients, keep_factor: float, forget_factor: float) -> None:
    """keep_factor·keep + forget_factor·forget, written into `forget`."""
    torch._foreach_mul_(forget, forget_factor)
    torch._foreach_add_(forget, keep, alpha=keep_factor)
