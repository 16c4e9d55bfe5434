"""A batch on its way from noise to pictures, along the steps of a model's own sampler. Knows nothing of guidance."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from memfix.models.latents import LatentSpace, generators


def sampler(pipe: StableDiffusionPipeline, steps: int) -> Any:
    """A scheduler like the pipeline's own, at its beginning.

    A copy, since `from_config` would undo the offset that a pipeline gives to schedulers of old models.
    """
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps, device=pipe.device)
    return scheduler


class Course:
    """Where n items stand; `advance` takes them a step further. An item starts from its seed's noise.

    A sampler that evaluates the denoiser several times a step counts each as one.
    """

    def __init__(self, pipe: StableDiffusionPipeline, seeds: Sequence[int], steps: int) -> None:
        own = generators(seeds)
        self._sampler, self._number = sampler(pipe, steps), 0
        self._extra = pipe.prepare_extra_step_kwargs(own, 0.0)
        self._state = LatentSpace(pipe).noise(own) * self._sampler.init_noise_sigma
        self._latents = self._seen()

    @property
    def number(self) -> int:
        """How many steps are taken."""
        return self._number

    @property
    def ended(self) -> bool:
        """Whether there is no step left."""
        return self._number == len(self._sampler.timesteps)

    @property
    def time(self) -> float:
        """The time of the next step, as the denoiser is asked for it."""
        return float(self._sampler.timesteps[self._number])

    @property
    def latents(self) -> torch.Tensor:
        """x_t as the denoiser sees it (signal² + noise² = 1), [n, C, h, w]."""
        return self._latents

    def advance(self, answer: torch.Tensor) -> None:
        """Take the step that the denoiser's answer at `latents` and `time` leads to."""
        time = self._sampler.timesteps[self._number]
        self._state = self._sampler.step(answer, time, self._state, **self._extra).prev_sample
        self._number += 1
        if not self.ended:
            self._latents = self._seen()

    def _seen(self) -> torch.Tensor:
        seen: torch.Tensor = self._sampler.scale_model_input(self._state, self._sampler.timesteps[self._number])
        return seen
