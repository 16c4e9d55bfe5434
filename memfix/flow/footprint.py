"""How much memory a training or a sampling takes, of what, and how it fits the GPU at hand; counted, not measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.models.activations import Way
from memfix.models.cards import Fit, Growth, fitting, free_bytes
from memfix.models.device import autocast_dtype
from memfix.models.model import DiffusionModel
from memfix.recheck.attacks.embedding import BATCH
from memfix.unlearn.objective.methods import Method
from memfix.unlearn.objective.modifiers import parameter_group
from memfix.unlearn.reading import prior_strength


class Footprint(NamedTuple):
    """Bytes: `held` all the time; `activations` on top, of `items` at once. `fit` is how that goes into `card`, None
    where it does not, or where there is no card."""

    held: int
    activations: int
    items: int
    card: int | None
    fit: Fit | None

    @property
    def told(self) -> dict[str, Any]:
        """The same as `--dry-run` prints it."""
        found: dict[str, Any] = {
            "memory_bytes_without_activations": self.held, "items_at_once": self.items,
            "activation_bytes": self.activations, "memory_bytes": self.held + self.activations,
        }  # fmt: skip
        return found if self.card is None else {**found, "memory_bytes_of_the_gpu": self.card, "fits": self.words}

    @property
    def words(self) -> str:
        """How it fits, in words."""
        if self.fit is None:
            return "not even a single item fits"
        again = " with gradient checkpointing, which is switched on by itself" if self.fit.checkpointing else ""
        if self.fit.at_once == self.items:
            return f"all items at once{again}"
        return f"{self.fit.at_once} items at once{again}; passes are split by themselves"


class Demand(NamedTuple):
    """Bytes that are `held` all the time, and how what a pass holds on top grows, with checkpointing or without; and
    bytes of the model as it is `loaded`, which comes before all else."""

    held: int
    growth: Callable[[bool], Growth]
    loaded: int

    def on(self, card: int | None, checkpointing: bool = False) -> Footprint:
        """What that comes to on a card of so many bytes, or where there is none; `checkpointing` if it is asked for."""
        fit = None
        if card is not None and free_bytes(card, self.loaded) >= 0:
            fit = fitting(lambda again: self.growth(again or checkpointing), free_bytes(card, self.held))
        passed = self.growth(checkpointing or bool(fit and fit.checkpointing))
        return Footprint(self.held, passed.whole, passed.items, card, fit)


def training_demand(
    model: DiffusionModel, method: Method, settings: UnlearnSettings, precision: str, items: int, on_gpu: bool,
    sampled: str = "",
) -> Demand:  # fmt: skip
    """Of a training with so many items a pass, on a GPU or on a CPU.

    The model's denoiser is made ready to be trained. `sampled`: the precision of samples, if it is not the training's.
    """
    model.prepare_training(settings.weights, settings.rank, settings.train_seed, settings.use_dora)
    trained, dtype = model.denoiser.trained(), autocast_dtype(precision)
    alike = dtype is autocast_dtype(sampled or precision)
    halves = settings.weights == "lora" and not settings.use_dora and alike and on_gpu and dtype is not None
    held = model.denoiser.count_bytes(halves) if on_gpu else 4 * model.count_weights()
    if settings.weights == "full" and settings.prior_target == "model" and settings.prior_batch_size:
        held += (4 if dtype is None else 2) * sum(p.numel() for p in trained.values())
    changed = sum(p.numel() for p in parameter_group(trained, settings.parameter_group).values())
    composed = method.compose(settings)
    each = 4 + (2 if settings.use_8bit_adam else 8)  # the gradient, and two moments
    each += 4 * bool(composed.keep and composed.forget) + 4 * settings.use_ema + bool(settings.saliency)
    each += 8 * bool(prior_strength(method, settings))
    gradients = 4 * sum(p.numel() for p in trained.values())

    @cache
    def growth(checkpointing: bool) -> Growth:
        """Beside gradients, which are held anyway once they are made."""
        way = Way(settings.weights, dtype, checkpointing, halves, settings.rank, settings.use_dora)
        of = {n: max(0, model.denoiser.count_pass(way, n) - gradients) for n in (1, items)}
        return Growth(items, of[items], of[1])

    return Demand(held + each * changed, growth, 4 * model.count_weights())


def sampling_demand(model: DiffusionModel, settings: DetectSettings, on_gpu: bool) -> Demand:
    """Of a detection, which samples whole batches, on a GPU or on a CPU."""
    guided, dtype = 2 if settings.guidance_scale > 1 else 1, autocast_dtype(settings.mixed_precision)
    halves = on_gpu and dtype is not None
    held = model.count_bytes(halves)

    def at_once(pictures: int) -> int:
        denoised = model.denoiser.count_sampling(dtype, guided * pictures, halves)
        return max(denoised, model.latents.count_decoding(dtype, pictures))

    grown = Growth(settings.batch_size, at_once(settings.batch_size), at_once(1))
    return Demand(held, lambda _: grown, held)


def attack_demand(model: DiffusionModel, settings: DetectSettings, on_gpu: bool) -> Demand:
    """Of an attack that searches embeddings, while a re-check holds the original model and the new one."""
    dtype = autocast_dtype(settings.mixed_precision)
    halves = on_gpu and dtype is not None
    held = 2 * model.count_bytes(halves)

    @cache
    def growth(checkpointing: bool) -> Growth:
        way = Way("prompt", dtype, checkpointing, halves)
        return Growth(BATCH, *(model.denoiser.count_pass(way, n) for n in (BATCH, 1)))

    return Demand(held, growth, held)
