"""Generate samples, batched across prompts, from noise or from pictures: one generator an image, so that no image
depends on its batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from memfix.models.device import autocast
from memfix.models.latents import square
from memfix.models.text import TextCache
from memfix.records import SAME, Condition, Prompt, Sample

Contexts = Mapping[tuple[str, Condition], torch.Tensor]


def plan_samples(
    prompts: Sequence[Prompt], seeds: Sequence[int], *, steps: int, guidance: float, condition: Condition = SAME
) -> list[Sample]:
    """Every (prompt, seed) under one condition, prompt by prompt."""
    return [
        Sample(
            file_name=file_name(p.id, condition, seed), text=p.text, prompt_id=p.id, condition=condition, seed=seed,
            steps=steps, guidance=guidance,
        )
        for p in prompts
        for seed in seeds
    ]  # fmt: skip


def file_name(prompt_id: str, condition: Condition, seed: int) -> str:
    """What the picture of a sample is called; no two samples of a run share it."""
    return f"{prompt_id}-{seed}.png" if condition == SAME else f"{prompt_id}-{condition}-{seed}.png"


def batches(
    plan: Sequence[Sample], batch_size: int, done: AbstractSet[str] = frozenset()
) -> Iterator[Sequence[Sample]]:
    """The plan in fixed batches, without those whose every file is done: what is left never moves a batch's bounds."""
    for i in range(0, len(plan), batch_size):
        batch = plan[i : i + batch_size]
        if any(s.file_name not in done for s in batch):
            yield batch


@torch.no_grad()
def generate(
    pipe: StableDiffusionPipeline, batch: Sequence[Sample], texts: TextCache, mixed_precision: str,
    contexts: Contexts | None = None,
) -> list[Image.Image]:  # fmt: skip
    """Sample one batch. All its samples share steps and guidance; each starts from its own seed's noise.

    contexts: (prompt id, condition) → embedding [L, D] that takes the place of that of the text.
    """
    with autocast(mixed_precision):
        return _pictures(pipe(**_arguments(pipe, batch, texts, contexts or {})).images)


@torch.no_grad()
def regenerate(
    pipe: StableDiffusionPipeline, batch: Sequence[Sample], images: Sequence[Image.Image], strength: float,
    texts: TextCache, mixed_precision: str,
) -> list[Image.Image]:  # fmt: skip
    """Sample one batch from pictures that are noised up to `strength`, the share of the steps that is then taken.

    The start is the noisy picture, as in SDEdit (Meng et al., ICLR 2022).
    """
    side = int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)
    img2img = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    img2img.set_progress_bar_config(disable=True)
    start = [square(image, side) for image in images]
    with autocast(mixed_precision):
        return _pictures(img2img(image=start, strength=strength, **_arguments(pipe, batch, texts, {})).images)


def _arguments(
    pipe: StableDiffusionPipeline, batch: Sequence[Sample], texts: TextCache, contexts: Contexts
) -> dict[str, Any]:
    """What a pipeline is called with, whatever it starts from."""
    texts.add([*(s.text for s in batch), ""])
    return {
        "prompt_embeds": torch.stack([contexts.get((s.prompt_id, s.condition), texts[s.text]) for s in batch]).to(
            pipe.device
        ),
        "negative_prompt_embeds": texts.stack([""] * len(batch)),
        "generator": [torch.Generator("cpu").manual_seed(s.seed) for s in batch],
        "num_inference_steps": batch[0].steps,
        "guidance_scale": batch[0].guidance,
        "output_type": "np",
    }


def _pictures(out: Any) -> list[Image.Image]:
    """[n, H, W, 3] in 0 to 1 → pictures."""
    pixels = np.clip(np.nan_to_num(np.asarray(out, np.float32)) * 255, 0, 255).round().astype(np.uint8)
    return [Image.fromarray(p) for p in pixels]
