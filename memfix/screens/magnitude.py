"""How far the prompt moves the noise prediction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch

from memfix.models.model import DiffusionModel
from memfix.screens.base import mean_over_seeds, norms, probe
from memfix.screens.sampling import Sampling


def magnitude(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """Mean over the first s steps and over seeds of ‖ε_θ(x_t, c) - ε_θ(x_t, ∅)‖₂, [P].

    Wen et al., Detecting, Explaining, and Mitigating Memorization in Diffusion Models, ICLR 2024. 2 s UNet evaluations.
    """
    walk = islice(probe(model, prompts, sampling), sampling.steps)
    by_step = torch.stack([norms(step.difference) for step in walk])
    return mean_over_seeds(by_step.mean(0), len(sampling.seeds))
