"""How far the prompt moves the prediction at high noise, and whether it moves it along its own way at low noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from memfix.screens.base import mean_over_seeds, norms
from memfix.screens.denoiser import Denoiser
from memfix.screens.sampling import Sampling

NORM_WEIGHT, ALIGNMENT_WEIGHT = 1.0, 2.0


@torch.no_grad()
def anisotropy(
    denoiser: Denoiser,
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
    contexts = denoiser.contexts(prompts, sampling)
    noise = denoiser.noise(denoiser.generators(sampling.seeds, len(prompts)))
    timesteps = denoiser.scheduler(sampling.num_inference_steps).timesteps
    first, last = float(timesteps[0]), float(timesteps[-1])
    magnitude = norms(denoiser.difference(noise, first, contexts))
    alignment = _alignment(denoiser, noise, last, contexts)
    return mean_over_seeds(norm_weight * magnitude + alignment_weight * alignment, len(sampling.seeds))


def _alignment(denoiser: Denoiser, noise: torch.Tensor, timestep: float, contexts: torch.Tensor) -> torch.Tensor:
    """Mean over positions of cos(ε_c - ε_∅, ε_∅) over channels, [n]."""
    predicted = denoiser.predict_both(noise, timestep, contexts)
    conditional, unconditional = (denoiser.epsilon(p, noise, round(timestep)) for p in predicted)
    return cosine_similarity(conditional - unconditional, unconditional, dim=1).mean((1, 2))
