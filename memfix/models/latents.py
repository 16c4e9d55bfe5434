"""Pictures → latents, each encoded once; and the noise schedule in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from PIL import Image

BATCH = 8


@torch.no_grad()
def encode(pipe: StableDiffusionPipeline, images: Sequence[Image.Image]) -> Iterator[torch.Tensor]:
    """Latents [C, h, w] in the UNet's scale, one an image; pictures are cropped to a centred square and resized."""
    side = int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)
    for i in range(0, len(images), BATCH):
        pixels = np.stack([np.asarray(square(image, side), np.float32) for image in images[i : i + BATCH]])
        x = torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2).to(pipe.device)
        mean = pipe.vae.encode(x).latent_dist.mode()
        shift = getattr(pipe.vae.config, "shift_factor", None) or 0.0
        yield from ((mean - shift) * pipe.vae.config.scaling_factor).float().cpu()


def square(image: Image.Image, side: int) -> Image.Image:
    """The centred square of a picture, `side` pixels wide."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.resize((side, side), Image.Resampling.LANCZOS, box=box)


class NoiseSchedule:
    """A pipeline's training noise: x_t = signal_scale[t] x + noise_scale[t] ε.

    The paper's γ_t = √ᾱ_t is `signal_scale`, its σ_t = √(1-ᾱ_t) is `noise_scale`; both [T], float64.
    """

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        alphas = DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod.double()
        self.prediction_type = str(pipe.scheduler.config.prediction_type)
        self.signal_scale = alphas.sqrt()
        self.noise_scale = (1 - alphas).sqrt()

    def __len__(self) -> int:
        return len(self.signal_scale)
