"""What a network predicts, by its own answer to pure noise: one of ε gives the noise back, one of v does not."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import network_of
from memfix.models.latents import LatentSpace, generators

LIKE_NOISE = 0.5
"""Correlation with the noise. A trained network of ε comes near to 1; one of v answers with the picture, near to 0."""


@torch.no_grad()
def likeness_to_noise(pipe: StableDiffusionPipeline, told: Conditioning) -> float:
    """Correlation of the network's answer to pure noise, at the last timestep, with the noise.

    told: what it is told without a prompt, one row.
    """
    noise, last = LatentSpace(pipe).noise(generators([0])), len(pipe.scheduler.alphas_cumprod) - 1
    dtype = pipe.unet.dtype
    answer = network_of(pipe.unet, "no")(noise.to(dtype), last, told.to(dtype))
    both = torch.stack([noise.flatten(), answer.flatten()])
    return float(torch.corrcoef(both)[0, 1])
