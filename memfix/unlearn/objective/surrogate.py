"""Unlearning towards a surrogate (arXiv 2603.10445): the forget image is replaced by an edited copy of itself.

The weight of time is a reconstruction from a secondary text.
"""

from __future__ import annotations

import torch


def weight_of_time(signal: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """ω = min(1, σ²/γ²), [n]: late steps, where a point is all but its picture, count less.

    There the target (m - γs)/σ of a surrogate s that is not the picture grows like 1/σ; ω undoes that.
    """
    return (noise.square() / signal.square().clamp(min=1e-12)).clamp(max=1)
