"""The latents of a model: their shape, those of pictures, and noise to start from."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.errors import ExitCode, MemfixError
from memfix.models.activations import decoding
from memfix.models.finite import require_finite

BATCH, DECODED_PIXELS = 8, 512 * 512
"""Pictures that the autoencoder takes at once at most, and pixels of these where it is more than one picture: of large
ones it would hold more than the denoiser, and be no faster."""


class LatentSpace:
    """Where a model denoises."""

    def __init__(self, pipe: StableDiffusionPipeline, full_precision: bool = False) -> None:
        """full_precision: the autoencoder computes in fp32 under every autocast, as in half precision it overflows."""
        self._pipe, self._scale, self._full = pipe, 1.0, full_precision

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, h, w of the latents of one picture; h and w are 0 where a model says no size and none was given."""
        config = self._pipe.unet.config
        size = config.sample_size or 0
        height, width = (size, size) if isinstance(size, int) else size
        return int(config.in_channels), self._scaled(height), self._scaled(width)

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Pictures of another size for a while, as near to `scale` times their height and width as the model can."""
        self._scale = scale
        try:
            yield
        finally:
            self._scale = 1.0

    def _scaled(self, length: int) -> int:
        """A length in latents, in steps that every level of the denoiser can halve and pipelines take (8 pixels)."""
        if self._scale == 1:
            return int(length)
        halved, factor = 2 ** (len(self._pipe.unet.config.block_out_channels) - 1), int(self._pipe.vae_scale_factor)
        step = math.lcm(halved, 8 // math.gcd(8, factor))
        return max(1, round(self._scale * length / step)) * step

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of pictures, in pixels."""
        _, height, width = self.shape
        return height * int(self._pipe.vae_scale_factor), width * int(self._pipe.vae_scale_factor)

    @property
    def _at_once(self) -> int:
        """Pictures that the autoencoder takes at once."""
        height, width = self.picture_size
        return max(1, min(BATCH, DECODED_PIXELS // (height * width)))

    @property
    def step(self) -> int:
        """Pixels that both sides of a picture are a multiple of."""
        return math.lcm(8, int(self._pipe.vae_scale_factor))

    def resize(self, height: int, width: int) -> None:
        """Let the model draw pictures of another size, in pixels. Raises MemfixError for one that it cannot have."""
        if (height, width) == self.picture_size:
            return
        if height % self.step or width % self.step:
            raise MemfixError(
                f"Pictures of {height} by {width} pixels cannot be drawn: both must be multiples of {self.step}.",
                "Give other values to --resolution, --height and --width.",
                ExitCode.USAGE,
            )
        factor = int(self._pipe.vae_scale_factor)
        high, wide = height // factor, width // factor
        self._pipe.unet.register_to_config(sample_size=high if high == wide else (high, wide))

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> Iterator[torch.Tensor]:
        """Latents [C, h, w] in the denoiser's scale, one an image, on the CPU; pictures are fitted.

        Raises MemfixError where they are not numbers.
        """
        for i in range(0, len(images), self._at_once):
            pixels = np.stack([np.asarray(self.fit(image), np.float32) for image in images[i : i + self._at_once]])
            x = torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2).to(self._pipe.device)
            vae = self._pipe.vae
            with self._precision():
                mean = vae.encode(x).latent_dist.mode()
                require_finite(mean, {"vae": vae}, functools.partial(vae.encode, x))
            config = vae.config
            shift = getattr(config, "shift_factor", None) or 0.0
            yield from ((mean - shift) * config.scaling_factor).float().cpu()

    def _precision(self) -> AbstractContextManager[Any]:
        """That of the autoencoder's arithmetic: full, or the caller's."""
        return torch.autocast(self._pipe.device.type, enabled=False) if self._full else nullcontext()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Pictures of latents [n, C, h, w] in the denoiser's scale. Raises MemfixError where they are not numbers."""
        vae, images = self._pipe.vae, list[Image.Image]()
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        for i in range(0, len(latents), self._at_once):
            x = latents[i : i + self._at_once].to(self._pipe.device).float() / vae.config.scaling_factor + shift
            with self._precision():
                pixels = vae.decode(x).sample.float()
                require_finite(pixels, {"vae": vae}, functools.partial(vae.decode, x))
            levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            images += [Image.fromarray(picture) for picture in levels]
        return images

    def count_decoding(self, dtype: torch.dtype | None, pictures: int) -> int:
        """The most bytes that the autoencoder holds as it decodes so many pictures, under autocast to this dtype."""
        shape = (min(pictures, self._at_once), *self.shape)
        return decoding(self._pipe.vae, None if self._full else dtype, shape)

    def drawn(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures as the autoencoder draws them, encoded and decoded. No sample can be finer than these.

        They are squeezed into the model's size and not cut: what lies at the edges of a wide one may be copied too.
        """
        height, width = self.picture_size
        whole = [image.resize((width, height), Image.Resampling.LANCZOS) for image in images]
        return self.decode(torch.stack(list(self.encode(whole)))) if whole else []

    def fit(self, image: Image.Image) -> Image.Image:
        """A picture in the model's size."""
        return fit(image, *self.picture_size)

    def noise(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """[n, C, h, w] of unit variance, an item a generator; the noise that the model's own sampler starts from."""
        return torch.stack([torch.randn(self.shape, generator=g) for g in generators]).to(self._pipe.device)


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One for each item, so that no item depends on its batch."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred part of a picture that has the shape height : width, in that size."""
    scale = min(image.height / height, image.width / width)
    h, w = round(scale * height), round(scale * width)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return image.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + w, top + h))


def covered(image: Image.Image, height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture once it just covers height × width, before `fit` cuts it."""
    scale = max(height / image.height, width / image.width)
    return max(height, round(scale * image.height)), max(width, round(scale * image.width))
