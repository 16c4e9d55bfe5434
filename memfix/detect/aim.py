"""From which noise a prompt leads nearest to a given picture, told after two steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from memfix.models.latents import encode
from memfix.screens.denoiser import Denoiser
from memfix.screens.sampling import Sampling


class Aim:
    """Says which seeds of a prompt lead nearest to a picture.

    Two UNet evaluations a seed: the first step is guided by the prediction without text, which is the same for all
    prompts and made once; the second prediction is not.
    """

    def __init__(self, denoiser: Denoiser, sampling: Sampling, batch_size: int) -> None:
        self._denoiser, self._sampling = denoiser, sampling
        self._prompts = max(1, batch_size // len(sampling.seeds))
        self._unguided: torch.Tensor | None = None

    def __call__(self, texts: Sequence[str], pictures: Sequence[Image.Image], most: int) -> list[list[int]]:
        """For each text the `most` seeds whose second prediction of the clean latents is nearest to the text's picture.

        The nearest first, by cosine, without the mean of each channel. Pictures may be small: what matters is where
        things are.
        """
        seeds: list[list[int]] = []
        for i in range(0, len(texts), self._prompts):
            part = slice(i, i + self._prompts)
            latents = torch.stack(list(encode(self._denoiser.pipe, pictures[part])))
            seeds += [own[:most] for own in self._aim(texts[part], latents.to(self._denoiser.pipe.device))]
        return seeds

    @torch.no_grad()
    def _aim(self, prompts: Sequence[str], pictures: torch.Tensor) -> list[list[int]]:
        """All seeds, the nearest first; pictures: latents [P, C, h, w]."""
        d, seeds = self._denoiser, self._sampling.seeds
        contexts, generators = d.contexts(prompts, self._sampling), d.generators(seeds, len(prompts))
        scheduler = d.scheduler(self._sampling.num_inference_steps)
        extra = d.pipe.prepare_extra_step_kwargs(generators, 0.0)
        sample = d.noise(generators) * scheduler.init_noise_sigma
        first, second = scheduler.timesteps[:2]
        latents = scheduler.scale_model_input(sample, first)
        if self._unguided is None:
            own = latents[: len(seeds)]
            self._unguided = d.predict(own, float(first), d.encode([""]).expand(len(own), -1, -1))
        without = self._unguided.repeat(len(prompts), 1, 1, 1)
        guided = without + self._sampling.guidance_scale * (d.predict(latents, float(first), contexts) - without)
        sample = scheduler.step(guided, first, sample, **extra).prev_sample
        latents = scheduler.scale_model_input(sample, second)
        clean = d.clean(d.predict(latents, float(second), contexts), latents, round(float(second)))
        nearness = (_directions(clean).reshape(len(prompts), len(seeds), -1) * _directions(pictures)[:, None]).sum(-1)
        return [[seeds[i] for i in own] for own in nearness.argsort(1, descending=True).tolist()]

    def evaluations(self, prompts: int) -> int:
        """UNet evaluations for so many prompts."""
        return len(self._sampling.seeds) * (2 * prompts + 1)


def _directions(latents: torch.Tensor) -> torch.Tensor:
    """[n, C, h, w] → [n, C·h·w] of unit length."""
    return F.normalize((latents - latents.mean((-1, -2), keepdim=True)).float().flatten(1), dim=1)
