"""What a training and a sampling hold, by hand, and how that is told."""

import pytest
import torch

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.flow.dry_run import at_once
from memfix.flow.footprint import Footprint, attack_demand, sampling_demand, training_demand
from memfix.models.activations import Way, denoising, training_pass
from memfix.models.cards import CONTEXT, GIB, Fit
from memfix.models.halves import is_rounded
from memfix.models.model import DiffusionModel
from memfix.unlearn.objective.methods import get_method
from tests.conftest import tiny_pipeline

SISS = get_method("siss")


def test_a_lora_training_holds_rounded_weights_of_the_denoiser_alone() -> None:
    pipe = tiny_pipeline()
    pipe.unet.requires_grad_(False)
    rounded = sum(p.numel() for m in pipe.unet.modules() if is_rounded(m) for p in m.parameters(recurse=False))
    every = sum(p.numel() for p in pipe.unet.parameters())
    model = DiffusionModel(pipe)
    demand = training_demand(model, SISS, UnlearnSettings(rank=2), "bf16", 4, on_gpu=True)
    trained = sum(p.numel() for p in model.denoiser.trained().values())
    assert demand.held == 4 * every - 2 * rounded + 4 * trained + 16 * trained
    whole = training_pass(pipe.unet, Way("lora", torch.bfloat16, False, True, 2), 4).peak
    assert demand.growth(False).whole == whole - 4 * trained
    assert demand.growth(True).whole < demand.growth(False).whole


@pytest.mark.parametrize("values", [{"use_dora": True}, {"mixed_precision": "no"}])
def test_weights_that_are_read_in_full_are_held_in_full(values: dict) -> None:
    pipe = tiny_pipeline()
    settings = UnlearnSettings(rank=2, **values)
    demand = training_demand(
        DiffusionModel(pipe), SISS, settings, settings.mixed_precision or "bf16", 2, on_gpu=True, sampled="bf16"
    )
    numbers = sum(p.numel() for p in pipe.unet.parameters())
    trained = sum(p.numel() for p in pipe.unet.parameters() if p.requires_grad)
    assert demand.held == 4 * numbers + 16 * trained


def test_a_card_decides_how_passes_are_taken() -> None:
    model = DiffusionModel(tiny_pipeline())
    demand = training_demand(model, SISS, UnlearnSettings(rank=2), "bf16", 8, on_gpu=True)
    large = demand.on(GIB)
    assert large.fit == Fit(8, checkpointing=False) and large.words == "all items at once"
    assert large.told["memory_bytes"] == demand.held + demand.growth(False).whole
    middle = demand.on(CONTEXT + round((demand.held + demand.growth(True).whole) / 0.95) + 100)
    assert middle.fit == Fit(8, checkpointing=True) and "gradient checkpointing" in middle.words
    assert middle.activations == demand.growth(True).whole
    small = demand.on(CONTEXT + demand.held)
    assert small.fit is None and small.words == "not even a single item fits"
    assert "fits" not in demand.on(None).told
    assert demand.on(None, checkpointing=True).activations == demand.growth(True).whole


def test_words_of_passes_that_are_split() -> None:
    words = Footprint(1, 1, 24, 2, Fit(3, checkpointing=True)).words
    assert words.startswith("3 items at once with gradient checkpointing") and words.endswith("split by themselves")


def test_sampling_holds_all_weights_and_the_larger_of_step_and_picture() -> None:
    model = DiffusionModel(tiny_pipeline())
    demand = sampling_demand(model, DetectSettings(batch_size=3, mixed_precision="no"), on_gpu=True)
    assert demand.held == 4 * model.count_weights()
    step = denoising(model.denoiser.module, None, 6)
    assert demand.growth(False).whole == max(step, model.latents.count_decoding(None, 3))
    assert attack_demand(model, DetectSettings(mixed_precision="no"), on_gpu=True).held == 2 * demand.held


@pytest.mark.parametrize(
    ("method", "values", "items"),
    [
        ("siss", {}, 24), ("siss", {"siss_mode": "no-is"}, 32), ("naive", {}, 32), ("neggrad", {}, 16),
        ("siss", {"prior_batch_size": 0, "mixture": 0.75}, 12),
    ],
)  # fmt: skip
def test_items_that_pass_together_are_those_of_the_larger_side(method: str, values: dict, items: int) -> None:
    assert at_once(get_method(method), UnlearnSettings(**values), prior=True) == items
