"""A model whose pictures are no squares: everything that is done with a model, at h ≠ w."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.config.unlearn import UnlearnSettings
from memfix.detect.seed_search import SeedSearch
from memfix.models import loading
from memfix.models.latents import fit
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt
from memfix.screens import SCREENS
from memfix.screens.bright_ending import bright_ending_with_masks
from memfix.screens.sampling import Sampling
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.trainer import Trainer
from tests.conftest import picture, tiny_pipeline

HEIGHT, WIDTH = 8, 12  # of latents; pictures are twice as large
PLAN = plan_samples([Prompt(id="p", text="a cat")], [3, 4], steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    tiny_pipeline(latent_size=(HEIGHT, WIDTH)).save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(folder)))


def test_samples_are_those_of_diffusers_alone(model: DiffusionModel, folder: Path) -> None:
    assert model.latents.shape == (4, HEIGHT, WIDTH)
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(s.seed) for s in PLAN]
    wanted = pipe(
        ["a cat"] * 2, height=2 * HEIGHT, width=2 * WIDTH, generator=generators, num_inference_steps=4,
        guidance_scale=3.0,
    ).images  # fmt: skip
    for image, other in zip(model.sample(PLAN, "no"), wanted, strict=True):
        assert image.size == (2 * WIDTH, 2 * HEIGHT)
        assert np.abs(np.asarray(image, int) - np.asarray(other, int)).max() <= 2


def test_samples_from_pictures_keep_more_of_them_the_less_noise(model: DiffusionModel) -> None:
    def apart(strength: float) -> float:
        one, other = (model.sample_from([picture(i)] * 2, PLAN, strength, "no")[0] for i in (0, 1))
        assert one.size == (2 * WIDTH, 2 * HEIGHT)
        return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())

    assert apart(0.3) > apart(0.6) > apart(1.0)


def test_it_is_saved_as_it_was(model: DiffusionModel, tmp_path: Path) -> None:
    model.sample_from([picture(0)] * 2, PLAN, 0.5, "no")
    model.save(tmp_path)
    again = loading.load(loading.locate(str(tmp_path)))
    assert again.latents.shape == model.latents.shape
    pairs = zip(again.sample(PLAN, "no"), model.sample(PLAN, "no"), strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == again.loaded_by
    assert again.loaded_by in {kind.__name__ for kind in loading.FAMILIES}


def test_pictures_are_encoded_and_trained_on(model: DiffusionModel) -> None:
    z = list(model.latents.encode([picture(i) for i in range(4)]))
    assert {x.shape for x in z} == {(4, HEIGHT, WIDTH)}
    texts = model.text.keep(["a", "sky"])
    bank = Bank([Target("a", z[:1], z[1:2])], [("sky", x) for x in z[2:]], texts, model.schedule)
    model.prepare_training("lora", 2, 0, False)
    weights = model.denoiser.trained()
    before = {name: p.detach().clone() for name, p in weights.items()}
    settings = UnlearnSettings(train_batch_size=4, prior_batch_size=2, max_train_steps=2)
    (first, _) = Trainer(model.denoiser.network("no"), weights, bank, METHODS["siss"], settings, "no")
    assert first.norm_keep > 0 and first.norm_forget > 0
    assert any(not torch.equal(before[name], p) for name, p in weights.items())


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.slow
def test_screens_score_it(model: DiffusionModel, name: str) -> None:
    sampling = Sampling((0, 1), 2, 3, 3.0)
    scores = SCREENS[name](model, ["a cat", "dog"], sampling)
    assert scores.isfinite().all() and scores[0] != scores[1]
    assert bright_ending_with_masks(model, ["a cat"], sampling).masks.shape == (1, 2, HEIGHT, WIDTH)


def test_aim_tells_seeds_apart(model: DiffusionModel) -> None:
    search = SeedSearch(model, Sampling(tuple(range(6)), 2, 4, 3.0), 6)
    (one,), (other,) = (search(["a cat"], [picture(i)], 6) for i in (0, 3))
    assert sorted(one) == sorted(other) == list(range(6))
    assert one != other


@pytest.mark.parametrize(("width", "height"), [(64, 64), (70, 41), (41, 70), (1023, 767), (7, 200), (333, 332)])
@pytest.mark.parametrize("side", [16, 24, 512])
def test_a_square_is_the_centred_one(width: int, height: int, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image, edge = Image.fromarray(pixels), min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    box = (left, top, left + edge, top + edge)
    wanted = image.resize((side, side), Image.Resampling.LANCZOS, box=box)
    assert fit(image, side, side).tobytes() == wanted.tobytes()


def test_the_largest_part_of_the_same_shape_is_taken() -> None:
    """Of 60 × 100, at 1 : 2, the 50 rows in the middle; at 1 : 1, the 60 columns."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[5:55] = 255
    assert np.asarray(fit(Image.fromarray(pixels), 10, 20)).min() > 220  # the filter looks a little past the edge
    columns = np.zeros((60, 100, 3), np.uint8)
    columns[:, 20:80] = 255
    assert np.asarray(fit(Image.fromarray(columns), 10, 10)).min() > 220
    assert np.asarray(fit(Image.fromarray(columns), 10, 20)).min() < 20
