"""The training image itself, given in part: noised, inverted, or half of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from memfix.models.ddim import denoise, invert
from memfix.models.latents import generators
from memfix.recheck.attacks.base import Attacked, Attempt, Bench
from memfix.variants.base import Variant

NOISED = (750, 500, 250)  # of 1000 timesteps; the less noise, the more is given


def noised_picture(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """The picture with noise on it, denoised under its prompt (SDEdit); from much noise to little."""
    levels = [t for t in NOISED if t * bench.settings.num_inference_steps >= 1000]  # which leave a step to take
    for number, t in enumerate(levels, 1):
        plan = bench.plan(attacked, f"noised{t}")
        images = bench.model.sample_from(
            [attacked.picture] * len(plan), plan, t / 1000, bench.settings.mixed_precision
        )  # fmt: skip
        yield Attempt(attacked.prompt.id, number * len(plan), plan, images)


def as_learned(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """The prompt with what the denoiser was told of the picture's size and crop while it learned it.

    Not made of a model that is not told that, nor of a picture of which that is what is always told.
    """
    frame, told = bench.model.frames([attacked.picture]), bench.model.text.encode([attacked.prompt.text]).to("cpu")
    if frame is not None and told.time_ids is not None and not torch.equal(frame, told.time_ids):
        yield bench.sample(attacked, bench.samples, "framed", Variant(conditioning=replace(told, time_ids=frame)))


def inverted(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """The noise that DDIM inversion finds for the picture, denoised under its prompt with the run's guidance."""
    model, s = bench.model, bench.settings
    plan = bench.plan(attacked, "inverted", n=1)
    text = attacked.prompt.text
    noise = invert(model, text, attacked.latent[None], s.num_inference_steps, s.mixed_precision)
    clean = denoise(model, text, noise, s.num_inference_steps, s.guidance_scale, s.mixed_precision)
    yield Attempt(attacked.prompt.id, s.num_inference_steps, plan, model.latents.decode(clean))


def half(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """The left half of the picture given at every noise level, the other half drawn, and only that half compared."""
    model, s = bench.model, bench.settings
    plan = bench.plan(attacked, "half")
    noise = model.latents.noise(generators([sample.seed for sample in plan]))
    clean, given = attacked.latent[None].to(noise), noise.shape[-1] // 2

    def put_back(x: torch.Tensor, signal: float, scale: float) -> torch.Tensor:
        x[..., :given] = (signal * clean + scale * noise)[..., :given]
        return x

    found = denoise(
        model, attacked.prompt.text, noise, s.num_inference_steps, s.guidance_scale, s.mixed_precision, put_back
    )  # fmt: skip
    images = model.latents.decode(found)
    height, width = model.latents.picture_size
    box = (width // 2, 0, width, height)
    whole = model.latents.fit(attacked.picture).crop(box)
    copies = [bench.is_copy(image.crop(box), whole) for image in images]
    yield Attempt(attacked.prompt.id, len(plan), plan, images, copies)
