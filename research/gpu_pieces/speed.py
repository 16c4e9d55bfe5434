"""How fast models of true size are sampled and trained, in how much memory, beside how others do it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline

from gpu_pieces.internals import GUIDANCE, Training, asked_model, autocast, name, sampled
from gpu_pieces.meters import (
    QUICK,
    THOROUGH,
    Clock,
    bf16_peak,
    fresh,
    lacks_memory,
    operations,
    peaks,
    seconds,
    synchronize,
)  # fmt: skip
from gpu_pieces.models import architecture, build
from gpu_pieces.piece import Here, WrongResultError
from memfix.errors import MemfixError

BATCHES, STEPS, ALONE = (1, 8, 32), 20, 8
"""Images at once; denoising steps, fewer than the 50 of a detection to save time; prompts of the loop."""
WARM, TIMED = 1, 4
"""Optimizer steps before time is taken, and in which it is."""


class Way(NamedTuple):
    """A training step of 16 items: items of a pass, passes, and whether activations are computed again."""

    items: int
    passes: int
    checkpointing: bool


WAYS = {
    "batch16": Way(16, 1, False), "batch16_checkpointing": Way(16, 1, True), "accumulated": Way(2, 8, False),
    "accumulated_checkpointing": Way(2, 8, True),
}  # fmt: skip
"""A mixture has two items at the least, one drawn on each side, which pass the network one after the other."""
TOO_LARGE = {"sdxl": ("batch16",)}
"""Model → ways that no GPU has the memory for: of SDXL, 16 items hold 136 GB."""
TINY_WAYS = {"batch16": Way(4, 1, False), "accumulated_checkpointing": Way(2, 2, True)}


def sampling(here: Here, model: str) -> None:
    """Images per second of memfix's own sampling at some batch sizes, and of diffusers' loop over single prompts."""
    pipe = build(architecture(model, here.tiny), here.device)
    own_path, (steps, alone) = asked_model(pipe), (2, 2) if here.tiny else (STEPS, ALONE)
    here.note(denoising_steps=steps, loop_prompts=alone)
    pixels = list[np.ndarray]()
    for n in BATCHES[:2] if here.tiny else BATCHES:
        texts = [name(i) for i in range(n)]
        _measure(here, pipe, f"batch{n}", n, steps, partial(sampled, own_path, texts, steps), pixels)

    def loop() -> list[Any]:
        with autocast("auto"):
            return [image for i in range(alone) for image in _alone(pipe, i, steps)]

    _measure(here, pipe, "loop", alone, steps, loop, pixels)
    for n in BATCHES:
        over(here, f"batch{n}", "loop", "images_per_second")
    pipe.to(torch.bfloat16)
    bf16 = [image for i in range(alone) for image in _alone(pipe, i, 1)]
    _measure(here, pipe, "loop_bf16_weights", alone, steps, lambda: [
        image for i in range(alone) for image in _alone(pipe, i, steps)
    ], pixels)  # fmt: skip
    for n in BATCHES:
        over(here, f"batch{n}", "loop_bf16_weights", "images_per_second")
    here.note(flat_pictures=sum(float(np.std(p)) < 1 for p in pixels), pictures=len(pixels))
    if lacking := [k for k in here.values if k.endswith(("_out_of_memory", "_failed"))]:
        raise WrongResultError(", ".join(lacking))
    if here.values["flat_pictures"] or len(bf16) != alone:
        raise WrongResultError(f"{here.values['flat_pictures']} of {len(pixels)} pictures show nothing")


@torch.no_grad()
def _alone(pipe: DiffusionPipeline, i: int, steps: int) -> list[Any]:
    """A prompt by diffusers' own pipeline, as its documentation has it."""
    generator = torch.Generator("cpu").manual_seed(i)
    return list(pipe(name(i), generator=generator, num_inference_steps=steps, guidance_scale=GUIDANCE).images)


def _measure(
    here: Here, pipe: DiffusionPipeline, title: str, images: int, steps: int, work: Callable[[], list[Any]],
    pixels: list[np.ndarray],
) -> None:  # fmt: skip
    """Note images and image steps per second and the UNet's share of the time, after a first time unmeasured."""
    fresh(here.device)
    try:
        pixels += [np.asarray(image) for image in work()]
    except (RuntimeError, MemfixError) as error:  # some kernels refuse so many numbers at once
        what = "out_of_memory" if lacks_memory(error) else "failed"
        here.note(**{f"{title}_{what}": str(error)[:300]}, **peaks(here.device, title))
        return
    with Clock(here.device).on(pipe.unet) as clock:
        taken = seconds(work, here.device)
    here.note(**{
        f"{title}_images_per_second": images / taken, f"{title}_image_steps_per_second": images * steps / taken,
        f"{title}_unet_share": clock.seconds / taken, **peaks(here.device, title),
    })  # fmt: skip


def over(here: Here, own: str, other: str, speed: str) -> None:
    """Note how many times the other's speed the own speed is, if both were measured."""
    mine, theirs = (here.values.get(f"{title}_{speed}") for title in (own, other))
    if isinstance(mine, float) and isinstance(theirs, float):
        here.note(**{f"{own}_over_{other}": mine / theirs})


def training(here: Here, model: str, weights: str) -> None:
    """Optimizer steps per second and peak memory of memfix's SISS step, and of the published one on as many items."""
    peak = bf16_peak(here.device, QUICK if here.tiny else THOROUGH)
    here.note(bf16_peak_tflops=peak / 1e12)
    pipe = build(architecture(model, here.tiny), here.device)
    train = Training(pipe, weights)
    here.note(trained_weights=train.trained_weights)
    lacking = []
    ways = TINY_WAYS if here.tiny else {t: w for t, w in WAYS.items() if t not in TOO_LARGE.get(model, ())}
    for title, way in ways.items():
        lacking += _steps(here, title, partial(train.siss, *way), peak)
        if title == "batch16":
            lacking += _steps(here, "published", partial(train.published, way.items), peak)
    over(here, "batch16", "published", "steps_per_second")
    if lacking:
        raise WrongResultError(f"out of memory: {', '.join(lacking)}")


def _steps(here: Here, title: str, make: Callable[[], Callable[[], list[float]]], peak: float) -> list[str]:
    """Note what steps take; the title if they take more memory than there is.

    Operations are counted once for SISS, whose steps all do the same: what checkpointing does again is none of them.
    """
    fresh(here.device)
    try:
        step = make()
        key = "published_tflop_per_step" if title == "published" else "tflop_per_step"
        if key not in here.values:
            here.note(**{key: operations(step) / 1e12})
        numbers = [x for _ in range(WARM) for x in step()]
        fresh(here.device)  # the count of operations holds more than a step does
        taken = []
        for _ in range(1 if here.tiny else TIMED):
            taken.append(seconds(lambda: numbers.extend(step()), here.device))
    except (torch.OutOfMemoryError, MemfixError) as error:
        if not lacks_memory(error):
            raise
        here.note(**{f"{title}_out_of_memory": str(error)}, **peaks(here.device, title))
        return [title]
    synchronize(here.device)
    if not all(map(math.isfinite, numbers)):
        raise WrongResultError(f"{title}: losses or norms are no finite numbers")
    speed, flops = 1 / median(taken), 1e12 * float(here.values[key])
    here.note(**{
        f"{title}_steps_per_second": speed, f"{title}_share_of_bf16_peak": flops * speed / peak,
        **peaks(here.device, title),
    })  # fmt: skip
    return []
