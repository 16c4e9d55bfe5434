"""Copies of a model draw what it draws alone, in order, and what goes wrong in one is raised."""

import gc
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.replicas import copied, drawn_batches, places_for
from memfix.models.sampling import batches, plan_samples
from memfix.records import SAME, Prompt

TWO = [torch.device("cpu")] * 2


@pytest.fixture
def model(model_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(model_folder)))


def plan(n: int = 7):
    prompts = [Prompt(id=f"p{i}", text=f"text {i}") for i in range(n)]
    return list(batches(plan_samples(prompts, [0], steps=2, guidance=3.0), 2))


def test_copies_draw_the_same_pictures_in_the_same_order(model: DiffusionModel) -> None:
    alone = list(drawn_batches(model, plan(), "no", places=[]))
    before = threading.active_count()
    together = list(drawn_batches(model, plan(), "no", places=TWO))
    assert threading.active_count() == before
    assert [b.samples for b in together] == [b.samples for b in alone] == plan()
    for a, b in zip(alone, together, strict=True):
        assert all(map(np.array_equal, map(np.asarray, a.images), map(np.asarray, b.images)))


def test_copies_are_told_what_takes_the_place_of_a_text(model: DiffusionModel) -> None:
    prompts = [Prompt(id=f"p{i}", text="text") for i in range(4)]
    split = list(batches(plan_samples(prompts, [0], steps=2, guidance=3.0), 1))
    instead = {("p2", SAME): model.text.encode(["something else"]).to("cpu")}
    told = [[*drawn_batches(model, split, "no", instead, places)] for places in ([], TWO)]
    plain = [b.images[0] for b in drawn_batches(model, split, "no", places=TWO)]
    for i, (alone, together) in enumerate(zip(*told, strict=True)):
        assert np.array_equal(np.asarray(alone.images[0]), np.asarray(together.images[0]))
        assert np.array_equal(np.asarray(alone.images[0]), np.asarray(plain[i])) is (i != 2)


def test_a_copy_is_the_model_as_it_is_and_another_one(model: DiffusionModel) -> None:
    with torch.no_grad():
        for weight in model.denoiser.module.parameters():
            weight.mul_(0.5)
    other = copied(model, torch.device("cpu"))
    assert other.denoiser.module is not model.denoiser.module and other._pipe is not model._pipe
    assert other._pipe.unet is other.denoiser.module and other.text._pipe is other._pipe
    a, b = (m.sample(plan(2)[0], "no") for m in (model, other))
    assert all(map(np.array_equal, map(np.asarray, a), map(np.asarray, b)))


def test_copies_have_the_weights_of_now(model: DiffusionModel) -> None:
    """Every other batch of an older model would show none of the copies that the one of now gives."""

    def drawn(places: list[torch.device]) -> np.ndarray:
        return np.stack([np.asarray(i) for b in drawn_batches(model, plan(), "no", places=places) for i in b.images])

    original = drawn(TWO)
    model.prepare_training("lora", 4, 0, False)
    for seed in (1, 2):
        with torch.no_grad():
            for weight in model.denoiser.trained().values():
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
        model.denoiser.module.eval()
        now = drawn(TWO)
        assert np.array_equal(now, drawn([]))
        assert not (now == original).reshape(len(now), -1).all(1).any()
        original = now


def test_a_failure_of_a_copy_is_raised_in_its_turn(model: DiffusionModel) -> None:
    broken = plan()
    broken[1] = [s.model_copy(update={"seed": 2**70}) for s in broken[1]]
    drawn = drawn_batches(model, broken, "no", places=TWO)
    assert next(drawn).samples == broken[0]
    with pytest.raises((RuntimeError, ValueError, MemfixError)):
        next(drawn)


def test_whoever_stops_early_leaves_no_thread_behind(model: DiffusionModel) -> None:
    before = threading.active_count()
    assert len(list(islice(drawn_batches(model, plan(), "no", places=TWO), 1))) == 1
    gc.collect()
    assert threading.active_count() == before


def test_a_cpu_and_fp32_have_no_copies() -> None:
    assert places_for("no") == []
    if not torch.cuda.is_available():
        assert places_for("bf16") == []
