"""Runs on pictures that are no squares, from detection to re-check."""

from pathlib import Path

import pytest
from detected import FEW, detected_run
from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models import single_file
from memfix.records import AttackResult, Version
from memfix.run.folder import Run
from memfix.run.outputs import MODEL
from tests.conftest import tiny_pipeline, tiny_xl
from tests.original_layout import save_original

pytestmark = pytest.mark.slow  # every stage
QUIET = Talk(quiet=True)
ATTACKS = {"half", "noised", "size"}


@pytest.mark.parametrize(
    ("made", "values", "size", "weights"),
    [
        (lambda: tiny_pipeline(latent_size=(8, 12)), {}, (24, 16), "lora"),
        (tiny_pipeline, {"height": 32, "width": 16}, (16, 32), "full"),
        (tiny_xl, {"height": 16, "width": 24}, (24, 16), "full"),
    ],
    ids=["two numbers in the configuration", "height and width", "xl"],
)  # fmt: skip
def test_a_run_keeps_to_its_size(
    tmp_path: Path, reference_folder: Path, made, values: dict[str, int], size: tuple[int, int], weights: str
) -> None:
    """size: width and height of every picture. Training draws a window of timesteps."""
    made().save_pretrained(tmp_path / "original")
    run = Run.open(detected_run(tmp_path, tmp_path / "original", reference_folder, **values))
    few = FEW | {"timestep_min": 200, "timestep_max": 600, "weights": weights}
    assert flow.unlearn(run, UnlearnSettings(**few), [], QUIET)
    told = RecheckSettings(attacks=",".join(ATTACKS), num_fresh=2, attack_samples=1, control_pictures=1)
    assert flow.recheck(run, told, [], QUIET, NewWeights.of(run))
    pictures = [*run.path.glob("before/*.png"), *run.path.glob("after/*.png"), *run.path.glob("variants/**/*.png")]
    assert pictures and {Image.open(picture).size for picture in pictures} == {size}
    found = {r.attack for r in run.read("after/attacks.jsonl", AttackResult) if r.curve and r.version is Version.AFTER}
    assert found == ATTACKS
    if weights == "full" and made is not tiny_xl:
        saved = StableDiffusionPipeline.from_pretrained(run.path / MODEL).unet.config.sample_size
        assert saved == [size[1] // 2, size[0] // 2]


def test_a_file_that_says_its_size_is_drawn_and_trained_at_it(
    tmp_path: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wider than high, as its metadata have it; training images are cut to that shape."""
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "configs/sd1")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    told = {"modelspec.resolution": "24x16", "modelspec.prediction_type": "v"}
    file = save_original(pipe, tmp_path / "wide.safetensors", told)
    run = Run.open(detected_run(tmp_path, file, reference_folder))
    assert flow.unlearn(run, UnlearnSettings(**FEW), [], QUIET)
    weights = NewWeights.of(run)
    assert flow.recheck(run, RecheckSettings(attacks="none", num_fresh=2), [], QUIET, weights)
    pictures = [*run.path.glob("before/*.png"), *run.path.glob("after/*.png"), *run.path.glob("variants/**/*.png")]
    assert pictures and {Image.open(picture).size for picture in pictures} == {(24, 16)}
    model = weights.load(Detection.of(run), QUIET)
    assert model.latents.fit(Image.new("RGB", (64, 64))).size == (24, 16)


def test_other_weights_draw_pictures_of_the_size_of_the_detection(tmp_path: Path, reference_folder: Path) -> None:
    """Saved by another tool under another size, they would copy nothing at it."""
    tiny_pipeline().save_pretrained(tmp_path / "original")
    tiny_pipeline(latent_size=16).save_pretrained(tmp_path / "other")
    run = Run.open(detected_run(tmp_path, tmp_path / "original", reference_folder))
    detection = Detection.of(run)
    model = NewWeights.of(run, model=tmp_path / "other").load(detection, QUIET)
    assert model.latents.picture_size == detection.model().latents.picture_size == (16, 16)
