"""What `--dry-run` says of a check beforehand: its model, how long sampling will take, and how much memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.demo import DEMO
from memfix.flow.detection import Detection
from memfix.flow.footprint import attack_demand, sampling_demand
from memfix.models import folders, loading
from memfix.models.device import device, gpu_memory
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.recheck.attacks.table import get_attacks
from memfix.records import Prompt
from memfix.run.folder import Run

TRIED = (1, 3)
"""Denoising steps of the two batches that are timed; the difference is what a step takes."""

QUICK = 5.0
"""Seconds of one image with one step, below which whole batches are timed."""


def outlook(settings: DetectSettings, images: int) -> dict[str, Any]:
    """The model and the time that so many images take, by two short batches. Nothing is downloaded or written.

    Raises MemfixError for what is no model of a known kind.
    """
    if not is_here(settings):
        return {"model": settings.model, "model_here": False, "seconds_of_sampling": None}
    model = loading.load(loading.source_of(settings), settings.picture_size, asked_in=settings.mixed_precision)
    card = gpu_memory()
    height, width = model.latents.picture_size
    return {
        "model": settings.model, "model_here": True, "loaded_by": model.loaded_by, "device": str(device()),
        "picture_size": f"{width} × {height}", "weights": model.count_weights(),
        **sampling_demand(model, settings, card is not None).on(card).told,
        "seconds_of_sampling": round(images * _seconds_per_image(model, settings, images)),
    }  # fmt: skip


def recheck_outlook(run: Run, settings: RecheckSettings) -> dict[str, Any]:
    """How much memory a re-check of a run takes: as it samples, and as attacks search embeddings, if they do."""
    detection = Detection.of(run)
    model, card = detection.asked_model(), gpu_memory()
    found = sampling_demand(model, detection.settings, card is not None).on(card).told
    if any(attack.name.startswith("embedding") for attack in get_attacks(settings)):
        attack = attack_demand(model, detection.settings, card is not None).on(card).told
        found |= {f"attack_{name}": value for name, value in attack.items()}
    return found


def is_here(settings: DetectSettings) -> bool:
    """Whether the model is on this disk: of a hub id, whether its index is in the cache. What looks like a path is
    left to `locate`, which says what is wrong with it."""
    name = settings.model
    if name == DEMO or Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/")):
        return True
    return isinstance(try_to_load_from_cache(name, folders.INDEX, revision=settings.revision), str)


def _seconds_per_image(model: DiffusionModel, settings: DetectSettings, images: int) -> float:
    """By two batches of the size that will be sampled; of one image where even that takes long."""
    prompt = Prompt(id="try", text="a photograph")

    def seconds(size: int, steps: int) -> float:
        batch = plan_samples([prompt], range(size), steps=steps, guidance=settings.guidance_scale)
        began = time.perf_counter()
        model.sample(batch, settings.mixed_precision)
        return (time.perf_counter() - began) / size

    few, many = TRIED
    size = 1
    if seconds(size, few) < QUICK:  # the first one also warms up
        size = min(images, settings.batch_size)
    least, most = seconds(size, few), seconds(size, many)
    step = max(0.0, most - least) / (many - few)
    return max(0.0, least - few * step) + settings.num_inference_steps * step
