"""From which noise a prompt leads nearest to a given picture, told after two steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image

from memfix.models.model import DiffusionModel
from memfix.screens.sampling import Sampling


class SeedSearch:
    """Says which seeds of a prompt lead nearest to a picture.

    Two UNet evaluations a seed: the first step is guided by the prediction without text, which is the same for all
    prompts and made once; the second prediction is not.
    """

    def __init__(self, model: DiffusionModel, sampling: Sampling, batch_size: int) -> None:
        self._model, self._sampling = model, sampling
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
            latents = torch.stack(list(self._model.latents.encode(pictures[part])))
            seeds += [own[:most] for own in self._search(texts[part], latents.to(self._model.device))]
        return seeds

    @torch.no_grad()
    def _search(self, prompts: Sequence[str], pictures: torch.Tensor) -> list[list[int]]:
        """All seeds, the nearest first; pictures: latents [P, C, h, w]."""
        model, seeds, steps = self._model, self._sampling.seeds, self._sampling.num_inference_steps
        told = model.text.encode(prompts).repeat_interleave(len(seeds))
        course = model.course([*seeds] * len(prompts), steps)
        if self._unguided is None:
            own = course.latents[: len(seeds)]
            nothing = model.text.encode([None]).expand(len(own))
            self._unguided = model.denoiser.predict(own, course.time, nothing)
        without = self._unguided.repeat(len(prompts), 1, 1, 1)
        with_prompt = model.denoiser.predict(course.latents, course.time, told)
        course.advance(without + self._sampling.guidance_scale * (with_prompt - without))
        second = model.denoiser.predict(course.latents, course.time, told)
        clean = model.schedule.clean(second, course.latents, round(course.time))
        nearness = (_directions(clean).reshape(len(prompts), len(seeds), -1) * _directions(pictures)[:, None]).sum(-1)
        return [[seeds[i] for i in own] for own in nearness.argsort(1, descending=True).tolist()]

    def evaluations(self, prompts: int) -> int:
        """UNet evaluations for so many prompts."""
        return len(self._sampling.seeds) * (2 * prompts + 1)


def _directions(latents: torch.Tensor) -> torch.Tensor:
    """[n, C, h, w] → [n, C·h·w] of unit length."""
    return F.normalize((latents - latents.mean((-1, -2), keepdim=True)).float().flatten(1), dim=1)
