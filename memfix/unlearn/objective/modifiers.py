"""Modifiers, usable with any method: which weights may move, and what pulls them back. They know no method.

Like gradients, weights and what is known of them may be sharded over ranks (FSDP2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from memfix.errors import MemfixError
from memfix.models.denoiser import GROUPS
from memfix.models.lora import FIRST, SECOND
from memfix.unlearn.objective.combine import total

SMALLEST_VARIANCE = 1e-3  # of the mean variance: a weight that never moved is held, not nailed down
BISECTIONS = 60


def parameter_group(weights: Mapping[str, nn.Parameter], group: str) -> dict[str, nn.Parameter]:
    """Those of the weights that belong to a group; the others are frozen.

    Raises MemfixError if there are none.
    """
    chosen = {name: p for name, p in weights.items() if GROUPS[group].search(name)}
    if not chosen:
        raise MemfixError(f"The model has no {group} weights to train.", "Set --parameter-group all.")
    for name, p in weights.items():
        p.requires_grad_(name in chosen)
    return chosen


def top_share(magnitudes: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Boolean masks of the largest entries of all tensors together, about `share` of them; entries of 0 never.

    The bound is found by bisection, so that nothing of the size of the tensors is sorted or copied.
    """
    wanted = share * sum(m.numel() for m in magnitudes)
    low, high = 0.0, total(magnitudes)  # no entry is larger, and a sum is the same for all ranks
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if total(m > middle for m in magnitudes) > wanted:
            low = middle
        else:
            high = middle
    return [m > high for m in magnitudes]


def salient(names: Sequence[str], sensitivity: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Boolean masks of about `share` of the weights: those that sensitivity says matter most.

    In a LoRA, B is 0 at first, so that A has no gradient whatever the layer matters. What row i of B is to become is
    what row i of the layer's weights is to change by. So rows of B are ranked, by the length of their gradient, and
    move or stay as one; A is free. Where a row of B stays 0, that row of the layer keeps every bit.
    """
    ranked = [_by_row(s) if SECOND in n else s for n, s in zip(names, sensitivity, strict=True) if FIRST not in n]
    masks = iter(top_share(ranked, share))
    return [
        torch.ones_like(s, dtype=torch.bool) if FIRST in n else next(masks)
        for n, s in zip(names, sensitivity, strict=True)
    ]


def _by_row(sensitivity: torch.Tensor) -> torch.Tensor:
    """The length of each row in the place of each of its entries."""
    rows: torch.Tensor = sensitivity.flatten(1).norm(dim=1)
    return rows.reshape(-1, *[1] * (sensitivity.ndim - 1)).expand_as(sensitivity)


def with_first_factors(names: Sequence[str], fisher: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A Fisher diagonal in which that of a LoRA's A is the mean over its B.

    A's own is 0 as long as B is, but what A does grows with B, and nothing else would hold it.
    """
    found = dict(zip(names, fisher, strict=True))
    return [
        torch.full_like(f, float(found[n.replace(FIRST, SECOND)].mean())) if FIRST in n else f for n, f in found.items()
    ]


@dataclass(frozen=True)
class ParameterPrior:
    """A Gaussian belief about the weights: mean μ and precision 1/s², one number a weight, precision 1 on average.

    Costs two buffers of the size of the weights.
    """

    mean: list[torch.Tensor]
    precision: list[torch.Tensor]

    @classmethod
    def from_variance(cls, mean: Sequence[torch.Tensor], variance: Sequence[torch.Tensor]) -> ParameterPrior:
        """Damped by a small share of the mean variance, so that no precision is infinite."""
        count = sum(v.numel() for v in variance)
        floor = SMALLEST_VARIANCE * total(variance) / count or 1.0
        return cls(list(mean), _to_mean_one([1 / (v + floor) for v in variance]))

    @classmethod
    def from_checkpoints(
        cls, parameters: Mapping[str, torch.Tensor], checkpoints: Sequence[Mapping[str, torch.Tensor]]
    ) -> ParameterPrior:
        """Mean and spread of two or more checkpoints, or of weights and their moving average, which are whole.

        `parameters`: by their names in the checkpoints. Where they are sharded, all ranks come here at once.
        """
        stacks = [torch.stack([c[name].float() for c in checkpoints]) for name in parameters]
        mean, variance = [s.mean(0) for s in stacks], [s.var(0, unbiased=False) for s in stacks]
        return cls.from_variance(*([*map(_placed, part, parameters.values())] for part in (mean, variance)))

    @classmethod
    def from_fisher(cls, parameters: Sequence[nn.Parameter], fisher: Sequence[torch.Tensor]) -> ParameterPrior:
        """The weights as they are, held where the keep loss is sensitive: precision is the Fisher diagonal."""
        mean = [p.detach().clone() for p in parameters]
        floor = SMALLEST_VARIANCE * total(fisher) / sum(f.numel() for f in fisher)
        return cls(mean, _to_mean_one([f + floor for f in fisher]))

    def loss(self, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """Σ (θ - μ)²/2s²."""
        pairs = zip(parameters, self.mean, self.precision, strict=True)
        return torch.stack([(s * (p - m).square()).sum() / 2 for p, m, s in pairs]).sum()

    @torch.no_grad()
    def pull(self, parameters: Sequence[nn.Parameter], strength: float) -> None:
        """Turn each `.grad` g into (1-γ) g + γ (θ - μ)/s², where γ is `strength`."""
        for p, mean, precision in zip(parameters, self.mean, self.precision, strict=True):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            p.grad.mul_(1 - strength).addcmul_(precision.to(p), p - mean.to(p), value=strength)


def _placed(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor where a weight is, and in parts where that is."""
    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements) if isinstance(like, DTensor) else whole


def _to_mean_one(values: list[torch.Tensor]) -> list[torch.Tensor]:
    mean = total(v.double() for v in values) / sum(v.numel() for v in values)
    return [v.div_(mean) if mean > 0 else torch.ones_like(v) for v in values]


@dataclass(frozen=True)
class Mask:
    """Which weights may move, one bit each; the others keep every bit of theirs, weight decay included."""

    allowed: list[torch.Tensor]

    @property
    def share(self) -> float:
        """Share of all weights that may move."""
        return total(self.allowed) / sum(m.numel() for m in self.allowed)

    @torch.no_grad()
    def apply(self, parameters: Sequence[nn.Parameter]) -> None:
        """Zero the gradient of the others."""
        for p, allowed in zip(parameters, self.allowed, strict=True):
            if p.grad is not None:
                p.grad.mul_(allowed)

    @torch.no_grad()
    def decay(self, parameters: Sequence[nn.Parameter], factor: float) -> None:
        """AdamW's weight decay, θ ← θ - factor·θ, on those that may move."""
        for p, allowed in zip(parameters, self.allowed, strict=True):
            p.sub_(p * allowed, alpha=factor)
