"""The noise that a model was trained on, in plain words; and what its answers mean under it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler

from memfix.models.prediction import implied_clean, implied_noise

LEAST_POWER = 2.0**-24
"""Of the picture at a timestep, ᾱ. A schedule that ends in noise alone (zero terminal SNR) would have 0 there, and an ε
would say nothing of the picture; diffusers' own samplers put this number in its place."""
LEAST_SIGNAL = 0.068
"""√ᾱ at the last timestep of Stable Diffusion's own noise, rounded down: see `NoiseSchedule.pull`."""


class NoiseSchedule:
    """A scheduler's training noise: x_t = signal_scale[t] x + noise_scale[t] ε.

    The paper's γ_t = √ᾱ_t is `signal_scale`, its σ_t = √(1-ᾱ_t) is `noise_scale`; both [T], float64.
    """

    def __init__(self, scheduler: Any) -> None:
        alphas = DDPMScheduler.from_config(scheduler.config).alphas_cumprod.double().clamp_min(LEAST_POWER)
        self.prediction_type = str(scheduler.config.prediction_type)
        self.signal_scale = alphas.sqrt()
        self.noise_scale = (1 - alphas).sqrt()

    def __len__(self) -> int:
        return len(self.signal_scale)

    @property
    def last(self) -> int:
        """The last timestep at which an answer says something of the picture: of all of them, but for an ε under a
        schedule that ends in noise alone, whose least errors hide it there."""
        if self.prediction_type != "epsilon":
            return len(self) - 1
        return int((self.signal_scale >= LEAST_SIGNAL).nonzero().max())

    def noise(self, answer: torch.Tensor, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
        """The ε that an answer at noisy latents of one training timestep stands for, [n, C, h, w]."""
        return implied_noise(answer, noisy, *self._scales(timestep), self.prediction_type)

    def pull(self, answer: torch.Tensor, other: torch.Tensor, timestep: int) -> torch.Tensor:
        """The difference of the ε that two answers at the same noisy latents stand for, [n, C, h, w].

        In noise alone every v stands for the same ε, that noise, whatever picture it means. There the difference is
        taken as if as much of a picture were left as Stable Diffusion's own noise leaves.
        """
        difference = answer - other
        if self.prediction_type == "epsilon":
            return difference
        return difference * max(float(self.signal_scale[timestep]), LEAST_SIGNAL)

    def clean(self, answer: torch.Tensor, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
        """The clean latents that it stands for, [n, C, h, w]."""
        return implied_clean(answer, noisy, *self._scales(timestep), self.prediction_type)

    def _scales(self, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.signal_scale[timestep], self.noise_scale[timestep]
