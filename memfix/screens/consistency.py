"""How alike seeds are in the direction that the prompt gives them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch.nn.functional import cosine_similarity

from memfix.models.model import DiffusionModel
from memfix.screens.base import probe, seed_pairs
from memfix.screens.sampling import Sampling


def consistency(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """Mean over pairs of seeds, and over the first s steps, of cos(d_t, d'_t), d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅); [P].

    Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, ask whether generations of
    different seeds are near-copies of each other. This asks the same of the noise differences, before there is any
    image: an adaptation, not the paper's score. 2 s UNet evaluations.
    """
    walk = islice(probe(model, prompts, sampling), sampling.steps)
    by_step = torch.stack([_mean_cosine(step.difference, len(sampling.seeds)) for step in walk])
    return by_step.mean(0).cpu()


def _mean_cosine(difference: torch.Tensor, seeds: int) -> torch.Tensor:
    return cosine_similarity(*seed_pairs(difference, seeds), dim=-1).mean(1)
