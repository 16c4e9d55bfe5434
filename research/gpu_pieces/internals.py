"""All that the pieces know of the inside of memfix; whatever else they do goes through its command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import nn

from memfix.config import UnlearnSettings
from memfix.demo import MODEL
from memfix.models import lora, pipeline
from memfix.models.device import autocast, device
from memfix.models.latents import NoiseSchedule
from memfix.models.sampling import generate, plan_samples
from memfix.models.text import TextCache
from memfix.records import Prompt
from memfix.unlearn.bank import Bank, Target
from memfix.unlearn.draws import Draw
from memfix.unlearn.methods import get_method
from memfix.unlearn.trainer import Trainer, adam, as_network
from published_step import published_step

__all__ = ["MODEL", "Training", "autocast", "device", "sampled", "with_adapter"]

PRECISION = "auto"  # what memfix computes in unless told otherwise
RATE = 1e-9  # the weights stay where they are, so that all steps are taken from the same ones
RANK = 16
GUIDANCE = 7.5
TARGETS, EACH = 4, 4  # prompts to unlearn, and pictures of each to forget and to keep


def sampled(
    pipe: StableDiffusionPipeline, texts: Sequence[str], steps: int, guidance: float = GUIDANCE,
    precision: str = PRECISION,
) -> list[Image.Image]:  # fmt: skip
    """One batch as a detection samples it: a picture of each text, the n-th from the noise of seed n."""
    batch = [
        plan_samples([Prompt(id=f"p{i}", text=text)], [i], steps=steps, guidance=guidance)[0]
        for i, text in enumerate(texts)
    ]
    return generate(pipe, batch, TextCache(pipe), precision)


def with_adapter(folder: Path | None) -> StableDiffusionPipeline:
    """The bundled model, under an adapter if one is given, as memfix loads them."""
    pipe = pipeline.load(pipeline.locate("demo"))
    if folder:
        lora.load(pipe, folder)
    return pipe


class Training:
    """Ways to train one UNet on random pictures of its own size, from the same weights each time."""

    def __init__(self, pipe: StableDiffusionPipeline, weights: str) -> None:
        self._unet, self._weights = pipe.unet, weights
        full = weights == "full"
        self._parameters = list(pipe.unet.requires_grad_(True).parameters()) if full else lora.add(pipe.unet, RANK)
        pipe.unet.train()
        self._bank = _bank(pipe)

    @property
    def trained_weights(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self._parameters)

    def siss(self, items: int, passes: int, checkpointing: bool, **settings: object) -> Callable[[], list[float]]:
        """The step of memfix; what is returned takes one and gives its losses and norms."""
        self._checkpoint(checkpointing)
        chosen = UnlearnSettings.model_validate({
            "weights": self._weights, "train_batch_size": items, "gradient_accumulation_steps": passes,
            "gradient_checkpointing": checkpointing, "prior_batch_size": 0, "max_train_steps": 10**6,
            "learning_rate": RATE, **settings,
        })  # fmt: skip
        steps = iter(Trainer(self._unet, self._parameters, self._bank, get_method("siss"), chosen, PRECISION))

        def step() -> list[float]:
            taken = next(steps)
            return [taken.loss_keep, taken.loss_forget, taken.norm_keep, taken.norm_forget]

        return step

    def published(self, items: int, checkpointing: bool = False) -> Callable[[], list[float]]:
        """The step of SISS as it was published."""
        self._checkpoint(checkpointing)
        draws: Iterator[Draw] = (Draw(0, n) for n in range(10**6))
        optimizer = adam(self._parameters, RATE, 0.01, False)
        network, bank = as_network(self._unet, PRECISION), self._bank
        window = (0, len(bank.schedule))
        return published_step(
            network, self._parameters, optimizer, lambda: bank.draw(next(draws), items, 0, 0.5, window),
            bank.schedule.prediction_type,
        )  # fmt: skip

    def _checkpoint(self, on: bool) -> None:
        if on:
            self._unet.enable_gradient_checkpointing()
        else:
            self._unet.disable_gradient_checkpointing()


def _bank(pipe: StableDiffusionPipeline) -> Bank:
    config, generator = pipe.unet.config, torch.Generator().manual_seed(0)
    shape = config.in_channels, config.sample_size, config.sample_size
    texts = TextCache(pipe)
    texts.add([name(i) for i in range(TARGETS)])

    def pictures() -> list[torch.Tensor]:
        return [torch.randn(shape, generator=generator) for _ in range(EACH)]

    targets = [Target(name(i), pictures(), pictures()) for i in range(TARGETS)]
    return Bank(targets, [], texts, NoiseSchedule(pipe))


def name(i: int) -> str:
    """A prompt."""
    return f"a painting of the sea, number {i}"


def weights_of(module: nn.Module) -> int:
    """How many numbers a module holds."""
    return sum(p.numel() for p in module.parameters())


def prompts_of(folder: Path) -> list[str]:
    """The prompts of a run, controls among them."""
    return [json.loads(line)["text"] for line in (folder / "prompts.jsonl").read_text().splitlines()]
