"""What a prompt does to a model's prediction: at one noisy point, and step by step as the model samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.model import DiffusionModel


class WalkStep(NamedTuple):
    """One step of a walk. Items are prompt by prompt, the seeds of a prompt side by side: n = P·S."""

    number: int
    timestep: int
    latents: torch.Tensor
    """x_t as the denoiser sees it (signal² + noise² = 1), [n, C, h, w]."""
    clean: torch.Tensor
    """The clean latents that the guided prediction amounts to."""
    difference: torch.Tensor
    """d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅), as `NoiseSchedule.pull` has it."""


class Pull:
    """The predictions with P prompts and without any, S items a prompt, in one batch of 2n, n = P·S.

    In the precision of the caller's autocast; float32.
    """

    def __init__(self, model: DiffusionModel, prompts: Sequence[str], each: int) -> None:
        self._model = model
        told = model.text.encode([*prompts, None])
        with_prompt, without = told.pick(slice(-1)).repeat_interleave(each), told.pick(slice(-1, None))
        self._told = Conditioning.cat([with_prompt, without.expand(len(with_prompt))])

    def answers(self, latents: torch.Tensor, time: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the denoiser itself predicts, ε or v, for [n, C, h, w]: with the prompt, and without it."""
        together = self._model.denoiser.predict(torch.cat([latents, latents]), time, self._told)
        with_prompt, without = together.chunk(2)
        return with_prompt, without

    def noises(self, latents: torch.Tensor, time: float) -> tuple[torch.Tensor, torch.Tensor]:
        """ε_θ(x_t, c) and ε_θ(x_t, ∅)."""
        with_prompt, without = self.answers(latents, time)
        schedule, t = self._model.schedule, round(time)
        return schedule.noise(with_prompt, latents, t), schedule.noise(without, latents, t)

    def __call__(self, latents: torch.Tensor, time: float) -> torch.Tensor:
        """d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅), as `NoiseSchedule.pull` has it; can be differentiated in the latents,
        forwards and backwards."""
        return self._model.schedule.pull(*self.answers(latents, time), round(time))


@torch.no_grad()
def walk(
    model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> Iterator[WalkStep]:
    """Denoise P prompts from S seeds each with classifier-free guidance, yielding every step before it is taken.

    The denoiser runs only as far as the caller iterates. A sampler that evaluates it several times a step yields as
    often.
    """
    pull, course = Pull(model, prompts, len(seeds)), model.course([*seeds] * len(prompts), steps)
    while not course.ended:
        latents, t = course.latents, round(course.time)
        with_prompt, without = pull.answers(latents, course.time)
        guided = without + guidance * (with_prompt - without)
        clean, pulled = model.schedule.clean(guided, latents, t), model.schedule.pull(with_prompt, without, t)
        yield WalkStep(course.number, t, latents, clean, pulled)
        course.advance(guided)
