"""All that the pieces know of the inside of memfix; whatever else they do goes through its command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import nn

from memfix.config.unlearn import UnlearnSettings
from memfix.demo import MODEL
from memfix.models import loading
from memfix.models.device import autocast, device, held_dtype
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.train.trainer import Trainer, adam
from published_step import published_step

__all__ = ["MODEL", "Training", "asked_model", "autocast", "device", "model_of", "sampled", "with_adapter"]

PRECISION = "auto"  # what memfix computes in unless told otherwise
RATE = 1e-9  # the weights stay where they are, so that all steps are taken from the same ones
RANK = 16
GUIDANCE = 7.5
TARGETS, EACH = 4, 4  # prompts to unlearn, and pictures of each to forget and to keep


def sampled(
    model: DiffusionModel, texts: Sequence[str], steps: int, guidance: float = GUIDANCE, precision: str = PRECISION
) -> list[Image.Image]:  # fmt: skip
    """One batch as a detection samples it: a picture of each text, the n-th from the noise of seed n."""
    batch = [
        plan_samples([Prompt(id=f"p{i}", text=text)], [i], steps=steps, guidance=guidance)[0]
        for i, text in enumerate(texts)
    ]
    return model.sample(batch, precision)


def with_adapter(folder: Path | None) -> DiffusionModel:
    """The bundled model, under an adapter if one is given, as memfix loads them."""
    model = loading.load(loading.locate("demo"))
    if folder:
        model.adapters.fuse(folder)
    return model


def model_of(pipe: DiffusionPipeline) -> DiffusionModel:
    """The object that memfix makes of a pipeline of its family."""
    return next(make(pipe) for kind, make in loading.FAMILIES.items() if isinstance(pipe, kind))


def asked_model(pipe: DiffusionPipeline) -> DiffusionModel:
    """The same as memfix holds it to be asked only."""
    model = model_of(pipe)
    if dtype := held_dtype(PRECISION):
        model.denoiser.hold_in(dtype)
    return model


class Training:
    """Ways to train one UNet on random pictures of its own size, from the same weights each time."""

    def __init__(self, pipe: DiffusionPipeline, weights: str) -> None:
        self._unet, self._weights, self._model = pipe.unet, weights, model_of(pipe)
        self._model.prepare_training(weights, RANK, 0, False)
        self._trained = self._model.denoiser.trained()
        self._bank = _bank(self._model)
        self._light = ExitStack()  # as memfix trains, until the process ends
        self._light.enter_context(self._model.denoiser_alone())
        self._light.enter_context(self._model.denoiser.in_halves(PRECISION if weights == "lora" else "no"))

    @property
    def trained_weights(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self._trained.values())

    def siss(self, items: int, passes: int, checkpointing: bool, **settings: object) -> Callable[[], list[float]]:
        """The step of memfix; what is returned takes one and gives its losses and norms."""
        self._checkpoint(checkpointing)
        chosen = UnlearnSettings.model_validate({
            "weights": self._weights, "train_batch_size": items, "gradient_accumulation_steps": passes,
            "gradient_checkpointing": checkpointing, "prior_batch_size": 0, "max_train_steps": 10**6,
            "learning_rate": RATE, **settings,
        })  # fmt: skip
        network = self._model.denoiser.network(PRECISION, chosen.torch_compile)
        steps = iter(Trainer(network, self._trained, self._bank, get_method("siss"), chosen, PRECISION))

        def step() -> list[float]:
            taken = next(steps)
            return [taken.loss_keep, taken.loss_forget, taken.norm_keep, taken.norm_forget]

        return step

    def published(self, items: int, checkpointing: bool = False) -> Callable[[], list[float]]:
        """The step of SISS as it was published."""
        self._checkpoint(checkpointing)
        draws: Iterator[Draw] = (Draw(0, n) for n in range(10**6))
        parameters = list(self._trained.values())
        optimizer = adam(parameters, RATE, 0.01, False)
        network, bank = self._model.denoiser.network(PRECISION), self._bank
        window = (0, len(bank.schedule))
        return published_step(
            network, parameters, optimizer, lambda: bank.draw(next(draws), items, 0, 0.5, window),
            bank.schedule.prediction_type,
        )  # fmt: skip

    def _checkpoint(self, on: bool) -> None:
        if on:
            self._unet.enable_gradient_checkpointing()
        else:
            self._unet.disable_gradient_checkpointing()


def _bank(model: DiffusionModel) -> Bank:
    generator, shape = torch.Generator().manual_seed(0), model.latents.shape
    texts = model.text.keep([name(i) for i in range(TARGETS)])

    def pictures() -> list[torch.Tensor]:
        return [torch.randn(shape, generator=generator) for _ in range(EACH)]

    targets = [Target(name(i), pictures(), pictures()) for i in range(TARGETS)]
    return Bank(targets, [], texts, model.schedule)


def name(i: int) -> str:
    """A prompt."""
    return f"a painting of the sea, number {i}"


def weights_of(module: nn.Module) -> int:
    """How many numbers a module holds."""
    return sum(p.numel() for p in module.parameters())


def prompts_of(folder: Path) -> list[str]:
    """The prompts of a run, controls among them."""
    return [json.loads(line)["text"] for line in (folder / "prompts.jsonl").read_text().splitlines()]
