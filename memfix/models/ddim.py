"""Deterministic steps between noise levels (DDIM), up and down: for pictures that are inverted, or half given.

The model's own sampler is for sampling; these steps are plain formulas, the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from memfix.models.device import autocast
from memfix.models.model import DiffusionModel
from memfix.models.walk import Pull

Touch = Callable[[torch.Tensor, float, float], torch.Tensor]
"""What is done to latents [n, C, h, w] on arrival at a noise level, signal and noise."""


@torch.no_grad()
def invert(model: DiffusionModel, prompt: str, clean: torch.Tensor, steps: int, mixed_precision: str) -> torch.Tensor:
    """The noise that leads to a picture: DDIM run backwards (Song et al., ICLR 2021, section 4.3), without guidance.

    clean: latents [n, C, h, w]; the noise has their shape.
    """
    pull, x, times = Pull(model, [prompt], len(clean)), clean.to(model.device), _times(model, steps)
    with autocast(mixed_precision):
        for low, high in zip([-1, *times[:-1]], times, strict=True):
            eps, _ = pull.noises(x, float(max(low, times[0])))
            x = _moved(model, x, eps, low, high)
    return x


@torch.no_grad()
def denoise(
    model: DiffusionModel, prompt: str, x: torch.Tensor, steps: int, guidance: float, mixed_precision: str,
    touch: Touch | None = None,
) -> torch.Tensor:  # fmt: skip
    """From noise [n, C, h, w] to clean latents with classifier-free guidance; `touch` is called after every step."""
    pull, x, times = Pull(model, [prompt], len(x)), x.to(model.device), _times(model, steps)[::-1]
    with autocast(mixed_precision):
        for high, low in zip(times, [*times[1:], -1], strict=True):
            with_prompt, without = pull.answers(x, float(high))
            guided, (signal, noise) = without + guidance * (with_prompt - without), _scales(model, low)
            x = signal * model.schedule.clean(guided, x, high) + noise * model.schedule.noise(guided, x, high)
            x = touch(x, signal, noise) if touch else x
    return x


def _times(model: DiffusionModel, steps: int) -> Sequence[int]:
    """Training timesteps, evenly spaced up to the last one that says something of the picture."""
    last = model.schedule.last
    return [round(last * (i + 1) / steps) for i in range(steps)]


def _scales(model: DiffusionModel, t: int) -> tuple[float, float]:
    """Signal and noise at a timestep; at -1 there is no noise."""
    if t < 0:
        return 1.0, 0.0
    return float(model.schedule.signal_scale[t]), float(model.schedule.noise_scale[t])


def _moved(model: DiffusionModel, x: torch.Tensor, eps: torch.Tensor, here: int, there: int) -> torch.Tensor:
    """x_t → x_s with the noise that the model sees in it: γ_s (x_t - σ_t ε)/γ_t + σ_s ε."""
    (signal, noise), (signal_there, noise_there) = _scales(model, here), _scales(model, there)
    return signal_there * (x - noise * eps) / signal + noise_there * eps
