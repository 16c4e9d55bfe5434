"""The training step of SISS as it was published, written out plainly: one forward pass over the mixture, a backward
pass for each side over all of it, copies of both gradients (Alberti et al., ICLR 2025, arXiv 2503.01034)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from memfix.models.denoiser import Network
from memfix.models.prediction import target
from memfix.unlearn.data.bank import Batch
from memfix.unlearn.objective.siss import ImportanceWeights, importance_weights, log_density_ratio

RATIO = 0.1  # of the norm of the forget gradient to that of the keep gradient


def published_step(
    network: Network, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer,
    draw: Callable[[], Batch], prediction_type: str = "epsilon",
) -> Callable[[], list[float]]:  # fmt: skip
    """A function that takes a step and returns the losses of both sides."""

    def gradient(loss: torch.Tensor, retain: bool) -> list[torch.Tensor]:
        optimizer.zero_grad()
        torch.autograd.backward(loss, retain_graph=retain)
        return [p.grad.clone() for p in parameters if p.grad is not None]

    def step() -> list[float]:
        batch = draw()
        m = batch.points
        answer = network(m.noisy, m.t, m.conditioning)
        losses = []
        for weight, clean in zip(weights_of(batch), (batch.keep.clean, batch.forget.clean), strict=True):
            wanted = target(m.noisy, clean, m.signal, m.noise, prediction_type).to(answer)
            losses.append((weight.to(answer) * (answer - wanted).square().flatten(1).sum(1)).mean())
        keep, forget = gradient(losses[0], True), gradient(losses[1], False)
        norms = [torch.stack([g.norm() for g in side]).norm() for side in (keep, forget)]
        for p, k, f in zip(parameters, keep, forget, strict=True):
            p.grad = k - RATIO * norms[0] / norms[1] * f
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return [loss.item() for loss in losses]

    return step


def weights_of(batch: Batch) -> ImportanceWeights:
    """Importance weights of the points of a mixture."""
    m = batch.points
    ratio = log_density_ratio(m.noisy, batch.keep.clean, batch.forget.clean, m.signal, m.noise)
    return importance_weights(ratio, batch.mixture)
