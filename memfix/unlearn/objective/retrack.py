"""ReTrack (arXiv 2509.13007): the noisy forget image is denoised to what its nearest keep images make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from memfix.unlearn.data.bank import Bank


def posterior_weights(m: torch.Tensor, near: torch.Tensor, signal: float, noise: float) -> torch.Tensor:
    """softmax_k(-‖m - γx_k‖²/2σ²): how likely the noisy point m [C, h, w] came from each of K pictures; [K]."""
    distance = (m.double() - signal * near.double()).flatten(1).square().sum(1)
    return torch.softmax(-distance / (2 * noise**2), 0)


def posterior_mean(
    m: torch.Tensor, near: Sequence[torch.Tensor], signal: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Σ_k w_k x_k for each of n noisy points, [n, C, h, w]; `near` holds [K, C, h, w] for each, K may differ.

    Targets are affine in the picture, so regression on the mean's target has the gradient of the weighted sum of the
    K regressions, at a K-th of the cost.
    """
    means = []
    for point, pictures, g, s in zip(m, near, signal.tolist(), noise.tolist(), strict=True):
        w = posterior_weights(point, pictures, g, s)
        means.append(torch.einsum("k,k...->...", w, pictures.double()).to(point))
    return torch.stack(means)


def nearest_keep(bank: Bank, k: int) -> Bank:
    """The bank with, as surrogates of each forget image, its k nearest keep images.

    Those of the same prompt; those of other prompts only where it has none. Distance: ‖a - x‖ between latents.
    """
    targets = []
    for target in bank.targets:
        pool = torch.stack(target.keep or [x for _, x in bank.prior])
        surrogates = []
        for a in target.forget:
            distance = (pool - a).flatten(1).square().sum(1)
            surrogates.append(pool[distance.topk(min(k, len(pool)), largest=False).indices])
        targets.append(replace(target, surrogates=surrogates))
    return bank.of(targets)
