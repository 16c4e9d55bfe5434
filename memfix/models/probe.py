"""What a network predicts, by its own answer to pure noise: one of ε gives the noise back, one of v does not."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline

from memfix.models.latents import LatentSpace, generators

LIKE_NOISE = 0.5
"""Correlation with the noise. A trained network of ε comes near to 1; one of v answers with the picture, near to 0."""


@torch.no_grad()
def likeness_to_noise(pipe: StableDiffusionPipeline) -> float:
    """Correlation of the network's answer to pure noise, at the last timestep and without a prompt, with the noise."""
    noise = LatentSpace(pipe).noise(generators([0]))
    told, _ = pipe.encode_prompt("", pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    last = len(pipe.scheduler.alphas_cumprod) - 1
    dtype = pipe.unet.dtype
    answer = pipe.unet(noise.to(dtype), last, told.to(dtype)).sample
    both = torch.stack([noise.flatten(), answer.float().flatten()])
    return float(torch.corrcoef(both)[0, 1])
