"""SISS: Subtracted Importance Sampled Scores (Alberti et al., ICLR 2025, arXiv 2503.01034). Pure functions of tensors.

One noisy point m is drawn from a defensive mixture of the noised keep image x and the noised forget image a, and
importance weights turn the one network answer at m into an estimate of both denoising losses. The forget loss is
subtracted. Symbols: `signal` is the paper's γ_t, `noise` its σ_t, `mixture` its λ.

Shapes: latents [B, C, h, w]; weights, `signal`, `noise`, losses [B].
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from memfix.models.prediction import expand

LARGEST_EXPONENT = 80.0  # e^80 is finite in float32
SMALLEST_SHARE = 1e-12  # of a side on which nothing is drawn
NEGLIGIBLE = 1e-7  # an item whose weight on a side is below this adds nothing to that side's float32 gradient


class ImportanceWeights(NamedTuple):
    """Importance weights of a noisy point on the keep and on the forget side, each [B]."""

    keep: torch.Tensor
    forget: torch.Tensor


def log_density_ratio(
    m: torch.Tensor, keep: torch.Tensor, forget: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """D = log q(m|a) - log q(m|x) = ‖m-γx‖²/2σ² - ‖m-γa‖²/2σ², [B], in float64."""
    m, keep, forget = m.double(), keep.double(), forget.double()
    gamma = expand(signal, m)
    from_keep = (m - gamma * keep).flatten(1).square().sum(1)
    from_forget = (m - gamma * forget).flatten(1).square().sum(1)
    return (from_keep - from_forget) / (2 * noise.double().to(m.device) ** 2)


def importance_weights(log_ratio: torch.Tensor, mixture: float) -> ImportanceWeights:
    """w_x = 1/((1-λ) + λe^D) and w_a = 1/((1-λ)e^-D + λ), stable for any D and for λ from 0 to 1.

    (1-λ)w_x + λw_a = 1. At λ = 0 or 1 a weight may be astronomical; it is capped at e^80.
    """
    d = log_ratio.double()
    share = torch.tensor(mixture, dtype=torch.float64, device=d.device)
    log_keep, log_forget = torch.log1p(-share), torch.log(share)
    keep = -torch.logaddexp(log_keep.expand_as(d), log_forget + d)
    forget = -torch.logaddexp(log_keep - d, log_forget.expand_as(d))
    return ImportanceWeights(keep.clamp(max=LARGEST_EXPONENT).exp(), forget.clamp(max=LARGEST_EXPONENT).exp())


def one_sided(from_forget: torch.Tensor, mixture: float) -> ImportanceWeights:
    """Weights of points that only the picture they were drawn from explains, as where each side has a text of its own:
    1/(1-λ) for one drawn on the keep side, 1/λ for one drawn on the forget side, 0 on the other side."""
    drawn = from_forget.double()
    return ImportanceWeights((1 - drawn) / max(1 - mixture, SMALLEST_SHARE), drawn / max(mixture, SMALLEST_SHARE))
