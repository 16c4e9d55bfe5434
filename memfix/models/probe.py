"""What a network predicts, by its own answers to noise: one of ε gives back noise alone, and one of v only noise in
which half of a picture could be."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import network_of
from memfix.models.latents import LatentSpace, generators

EPSILON, V = "epsilon", "v_prediction"
LIKE_NOISE = 0.5
"""Correlation with the noise. A trained network of ε comes near to 1; one of v answers noise alone with the picture,
near to 0. With as much signal as noise, where the signal is a blank picture (latents of 0), both come near to 1,
and damaged ones to 0."""
HALF = 0.5  # ᾱ, the power of the signal there


@torch.no_grad()
def likeness_to_noise(pipe: StableDiffusionPipeline, told: Conditioning, power: float = 0.0) -> float:
    """Correlation of the network's answer to noise, where the signal has about this power, with the noise.

    told: what it is told without a prompt, one row.
    """
    noise, powers = LatentSpace(pipe).noise(generators([0])), pipe.scheduler.alphas_cumprod
    timestep = int((powers - power).abs().argmin())
    noisy = noise * float(1 - powers[timestep]) ** 0.5
    dtype = pipe.unet.dtype
    answer = network_of(pipe.unet, "no")(noisy.to(dtype), timestep, told.to(dtype))
    both = torch.stack([noise.flatten(), answer.flatten()])
    return float(torch.corrcoef(both)[0, 1])


def asked_prediction(pipe: StableDiffusionPipeline, told: Conditioning) -> str | None:
    """What the network predicts by its answers; None where it answers neither as one of ε nor as one of v, as damaged
    and untrained networks do."""
    if likeness_to_noise(pipe, told) > LIKE_NOISE:
        return EPSILON
    return V if likeness_to_noise(pipe, told, HALF) > LIKE_NOISE else None
