"""Batches sampled beside each other, by copies of a model on all GPUs, while what is drawn is looked at.

Copies take turns and each picture has its own generator, so that nothing depends on which GPU is the faster one. Knows
nothing of what becomes of the pictures.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import torch
from PIL import Image
from torch import nn

from memfix.models.device import autocast_dtype, like_devices
from memfix.models.model import DiffusionModel, Instead
from memfix.records import Sample

AHEAD = 2  # batches that a copy is given before its first one is looked at


class DrawnBatch(NamedTuple):
    """Samples and their pictures."""

    samples: Sequence[Sample]
    images: list[Image.Image]


def places_for(mixed_precision: str) -> list[torch.device]:
    """All GPUs like the model's own, that one first. None on a CPU, and none in fp32: how products are rounded is a
    setting of the whole process there, and pictures are described at the same time."""
    return like_devices() if autocast_dtype(mixed_precision) else []


def drawn_batches(
    model: DiffusionModel, plan: Iterable[Sequence[Sample]], mixed_precision: str, instead: Instead | None = None,
    places: Sequence[torch.device] | None = None,
) -> Iterator[DrawnBatch]:  # fmt: skip
    """The batches of a plan with their pictures, in order, drawn in these places; see `places_for`.

    Without a place batches are drawn one after the other, by the model itself. instead: as `DiffusionModel.sample` has
    it.
    """
    places, plan = places_for(mixed_precision) if places is None else places, list(plan)
    if not places:
        for batch in plan:
            yield DrawnBatch(batch, model.sample(batch, mixed_precision, instead))
        return
    with ExitStack() as stack:
        copies = [model, *(copied(model, place) for place in places[1 : len(plan)])]
        workers = [ThreadPoolExecutor(1) for _ in copies]
        for worker in workers:
            stack.callback(worker.shutdown, cancel_futures=True)
        waiting = deque[tuple[Sequence[Sample], Future[list[Image.Image]]]]()
        for i, batch in enumerate(plan):
            turn = i % len(copies)
            waiting.append((batch, workers[turn].submit(copies[turn].sample, batch, mixed_precision, instead)))
            if len(waiting) == AHEAD * len(copies):
                samples, drawn = waiting.popleft()
                yield DrawnBatch(samples, drawn.result())
        while waiting:
            samples, drawn = waiting.popleft()
            yield DrawnBatch(samples, drawn.result())


def copied(model: DiffusionModel, place: torch.device) -> DiffusionModel:
    """The model as it is now on another device, without a second copy on its own. Only to be asked, not trained."""
    there: dict[int, object] = {}
    for part in model.modules():
        for weight in part.parameters():
            there[id(weight)] = nn.Parameter(weight.detach().to(place), requires_grad=False)
        for buffer in part.buffers():
            there[id(buffer)] = buffer.to(place)
    return copy.deepcopy(model, there)
