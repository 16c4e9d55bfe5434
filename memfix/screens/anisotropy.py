"""How far the prompt moves the prediction at high noise, and whether it moves it along its own way at low noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from memfix.models.model import DiffusionModel
from memfix.screens.base import mean_over_seeds, norms, start
from memfix.screens.sampling import Sampling

NORM_WEIGHT, ALIGNMENT_WEIGHT = 1.0, 2.0


@torch.no_grad()
def anisotropy(
    model: DiffusionModel,
    prompts: Sequence[str],
    sampling: Sampling,
    norm_weight: float = NORM_WEIGHT,
    alignment_weight: float = ALIGNMENT_WEIGHT,
) -> torch.Tensor:
    """Mean over seeds of α ‖d(x, t_first)‖₂ + β cos(d(x, t_last), ε_θ(x, ∅, t_last)) on the same pure noise x, [P].

    Asthana and Belagiannis, Detecting and Mitigating Memorization in Diffusion Models through Anisotropy of the
    Log-Probability, ICLR 2026, arXiv 2601.20642. d = ε_θ(x, c) - ε_θ(x, ∅). 4 UNet evaluations.

    The cosine is taken over channels and averaged over positions, and α = 1, β = 2, as the authors' code has it for
    SD 1 (β = 0.1 for SD 2). Reconstructed: t_first and t_last are the first and last timesteps of the sampler, and a
    v-prediction is converted to ε, where the authors take scores.
    """
    pull, noise, times = start(model, prompts, sampling)
    magnitude = norms(pull(noise, times[0]))
    alignment = _alignment(*pull.noises(noise, times[-1]))
    return mean_over_seeds(norm_weight * magnitude + alignment_weight * alignment, len(sampling.seeds))


def _alignment(conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
    """Mean over positions of cos(ε_c - ε_∅, ε_∅) over channels, [n]."""
    return cosine_similarity(conditional - unconditional, unconditional, dim=1).mean((1, 2))
