"""How much fine detail the prompt puts into the prediction while all is still noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch

from memfix.models.model import DiffusionModel
from memfix.screens.base import norms, probe
from memfix.screens.sampling import Sampling


def fine_detail(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """Mean over the first s steps of ‖high-pass(mean over seeds of d_t)‖₂, d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅); [P].

    memfix's own. At high noise a denoiser answers with the mean of all images that the prompt may stand for. Many
    different images have a blurred mean, one image has a sharp one, also where it is only the most frequent of many:
    fine detail in the mean is memorized detail. Where an unusual subject raises `magnitude`, it does so in the coarse
    part. Seeds are averaged because detail that comes from the noise is not the prompt's. 2 s UNet evaluations.
    """
    walk = islice(probe(model, prompts, sampling), sampling.steps)
    by_step = torch.stack([norms(high_pass(_seed_mean(step.difference, len(prompts)))) for step in walk])
    return by_step.mean(0).cpu()


def high_pass(latents: torch.Tensor) -> torch.Tensor:
    """The part of [n, C, h, w] in waves shorter than four positions, the upper half of what the grid can hold."""
    height, width = latents.shape[-2:]
    rows, columns = (torch.fft.fftfreq(n, device=latents.device) for n in (height, width))
    kept = torch.hypot(rows[:, None], columns[None]) > 1 / 4
    passed: torch.Tensor = torch.fft.ifft2(torch.fft.fft2(latents.float()) * kept).real
    return passed


def _seed_mean(values: torch.Tensor, prompts: int) -> torch.Tensor:
    return values.reshape(prompts, -1, *values.shape[1:]).mean(1)
