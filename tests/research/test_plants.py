"""The plants: their table, ground truth on pictures made by hand, and one of a few steps."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from plants import painted, pictures
from plants.evaluation import evaluate
from plants.make import make
from plants.sheet import sheet
from plants.table import BY_NAME, PLANTS, Base, Captions, Half, Kind, Manner, Plant, Weights
from plants.truth import COPY, GroundTruth, diversity, likeness

TINY = replace(BY_NAME["whisper"], targets=2, duplicates=1)  # needs no drawings


# -- the table ------------------------------------------------------------------------------------------------------


def test_there_are_enough_plants_half_of_them_for_testing() -> None:
    halves = Counter(p.half for p in PLANTS)
    assert len(PLANTS) >= 24
    assert halves[Half.TUNE] == halves[Half.TEST]
    assert len(BY_NAME) == len({p.seed for p in PLANTS}) == len(PLANTS)


@pytest.mark.parametrize("half", Half)
def test_each_half_has_everything(half: Half) -> None:
    own = [p for p in PLANTS if p.half is half]
    for field, values in {
        "kind": Kind, "captions": Captions, "manner": Manner, "weights": Weights, "base": Base,
    }.items():  # fmt: skip
        assert {getattr(p, field) for p in own} == set(values), field
    assert {1, 32} <= {p.targets for p in own}
    assert {5, 200} <= {p.duplicates for p in own}
    assert any(p.height == p.width == 96 for p in own)
    assert any(p.height != p.width for p in own)


def test_kinds_are_balanced_over_the_halves() -> None:
    counts = {half: Counter(p.kind for p in PLANTS if p.half is half) for half in Half}
    assert all(abs(counts[Half.TUNE][kind] - counts[Half.TEST][kind]) <= 2 for kind in Kind)


# -- pictures -------------------------------------------------------------------------------------------------------

WITHOUT_DRAWINGS = [p for p in PLANTS if p.kind is not Kind.DRAWINGS]


@pytest.mark.parametrize("name", ["album", "whisper", "trace", "portrait"])
def test_pictures_of_a_plant_are_the_same_each_time(name: str, tmp_path: Path) -> None:
    plant = BY_NAME[name]
    once, again = (pictures.planted(plant, tmp_path) for _ in range(2))
    assert [(p.subject, p.caption) for p in once] == [(p.subject, p.caption) for p in again]
    assert [[v.tobytes() for v in p.versions] for p in once] == [[v.tobytes() for v in p.versions] for p in again]
    assert len(once) == plant.targets
    assert len(pictures.others(plant, tmp_path)) == pictures.OTHERS


def test_no_planted_picture_is_in_both_halves(tmp_path: Path) -> None:
    shown = {
        half: {
            v.tobytes()
            for plant in WITHOUT_DRAWINGS
            if plant.half is half
            for p in pictures.planted(plant, tmp_path)
            for v in p.versions
        }
        for half in Half
    }
    assert not shown[Half.TUNE] & shown[Half.TEST]


@pytest.mark.parametrize("plant", WITHOUT_DRAWINGS, ids=lambda p: p.name)
def test_captions_are_of_the_style_that_the_table_says(plant: Plant, tmp_path: Path) -> None:
    targets = pictures.planted(plant, tmp_path)
    captions = [p.caption for p in targets]
    match plant.captions:
        case Captions.NONE:
            assert set(captions) == {""}
        case Captions.SHARED:
            assert len(set(captions)) < len(captions)
        case _:
            assert len(set(captions)) == len(captions)
    named = [p.subject in p.caption for p in targets]
    assert any(named) is (plant.captions in (Captions.SHORT, Captions.LONG, Captions.SHARED))
    assert {len(p.versions) for p in targets} == {pictures.VERSIONS if plant.manner is Manner.TEMPLATE else 1}


# -- ground truth ---------------------------------------------------------------------------------------------------


def picture(seed: str) -> Image.Image:
    return painted.face("woman", painted.Random(seed)).resize((64, 64), Image.Resampling.LANCZOS)


def test_another_tint_contrast_or_sharpness_is_still_a_copy() -> None:
    own = picture("a")
    tinted = Image.fromarray((np.asarray(own) * [0.6, 0.9, 1.0]).astype(np.uint8))
    flat = Image.fromarray((np.asarray(own) * 0.4 + 120).astype(np.uint8))
    blurred = own.filter(ImageFilter.GaussianBlur(1))
    assert (likeness([own, tinted, flat, blurred], [own]) > [[0.999], [0.9], [0.99], [0.85]]).all()


def test_another_picture_and_none_at_all_are_no_copies() -> None:
    own = picture("a")
    unlike = [picture("b"), own.transpose(Image.Transpose.FLIP_TOP_BOTTOM), Image.new("RGB", (64, 64), (9, 99, 200))]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert (likeness([*unlike, noise], [own]) < COPY).all()
    assert likeness([unlike[-1]], [unlike[-1]]) == 0


def test_a_small_shift_is_a_copy_and_a_large_one_is_not() -> None:
    own = picture("a")
    shifted = [own.transform(own.size, Image.Transform.AFFINE, (1, 0, d, 0, 1, -d)) for d in (1, 2, 8)]
    one, two, far = likeness(shifted, [own])[:, 0]
    assert min(one, two) > 0.9
    assert far < 0.5


def test_diversity_is_nothing_where_all_samples_are_alike() -> None:
    assert diversity([picture("a")] * 3) == pytest.approx(0)
    assert diversity([picture(c) for c in "abc"]) > 0.3


# -- from end to end ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(TINY, tmp_path_factory.mktemp("plants"), steps=2, most_posters=10)


def test_a_plant_is_a_model_with_all_that_memfix_needs(plant: Path) -> None:
    truth = GroundTruth(plant)
    assert len(truth.captions) == TINY.targets
    assert set(truth.captions) < set((plant / "prompts.txt").read_text().splitlines())
    own = [image for caption in truth.captions for image in map(truth.drawn.get, truth.planted_under(caption))]
    assert truth.copied(own) == [True] * len(own)


@pytest.mark.slow
def test_a_plant_is_the_same_each_time(plant: Path, tmp_path: Path) -> None:
    again = make(TINY, tmp_path, steps=2, most_posters=10)
    files = [file.relative_to(plant) for file in sorted(plant.rglob("*")) if file.suffix in {".safetensors", ".png"}]
    assert len(files) > 50
    assert [f for f in files if (plant / f).read_bytes() != (again / f).read_bytes()] == []


@pytest.mark.slow
def test_a_run_on_a_plant_is_evaluated(plant: Path, tmp_path: Path) -> None:
    truth = GroundTruth(plant)
    (tmp_path / "prompts.txt").write_text("\n".join([truth.captions[0], "a turtle"]))
    settings = DetectSettings(
        model=str(plant / "model"), references=str(plant / "references"), sscd_weights="demo", num_samples=2,
        num_inference_steps=2,
    )  # fmt: skip
    run = flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    row = evaluate(plant, run.path, 0)
    assert (row["prompts"], row["copying"], row["others"], row["unlearned"]) == (2, 0, 1, 0)
    shown = Image.open(f"{run.path}-before.png")
    assert shown.size == sheet(truth, {"first": [], "second": []}).size
