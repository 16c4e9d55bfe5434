"""A run on a tiny Stable Diffusion XL, from detection to report, as LoRA and as full weights."""

import shutil
from pathlib import Path

import pytest
import torch
from detected import FEW, detected_run
from diffusers import StableDiffusionXLPipeline

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.flow.pairs import found_pairs
from memfix.models import lora
from memfix.records import AttackResult, Version
from memfix.run.folder import Run
from memfix.run.outputs import MODEL
from memfix.screens import SCREENS
from memfix.screens.sampling import Sampling
from memfix.unlearn.data.encode import build_bank

pytestmark = pytest.mark.slow  # every stage
QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, xl_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("detected"), xl_folder, reference_folder)


@pytest.fixture
def run(detected: Path, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(detected, tmp_path / "run")))


def test_the_whole_way_as_a_lora(run: Run, xl_folder: Path, tmp_path: Path) -> None:
    settings = UnlearnSettings(**FEW | {"max_train_steps": 6}, weights="lora", rank=2, loop="closed")
    assert flow.unlearn(run, settings, [], QUIET)
    pipe = StableDiffusionXLPipeline.from_pretrained(xl_folder, add_watermarker=False)
    pipe.load_lora_weights(run.path / MODEL)
    assert run.finished("unlearn") and (run.path / MODEL / lora.FILE).exists()
    told = RecheckSettings(
        attacks="frame,noised,emphasis,inverted,half,embedding,relearn-one",
        num_fresh=2,
        attack_samples=1,
        control_pictures=1,
    )
    changes = flow.recheck(run, told, [], QUIET, NewWeights.of(run))
    assert changes
    made = {r.attack for r in run.read("after/attacks.jsonl", AttackResult) if r.curve and r.version is Version.AFTER}
    assert made == {"frame", "noised", "emphasis", "inverted", "half", "embedding", "relearn-one"}
    page = flow.report(run).read_text()
    assert "StableDiffusionXLPipeline" in (run.path / MODEL / "README.md").read_text() and "frame" in page
    for form in ("kohya", "diffusers"):
        flow.export(run, form, tmp_path / f"out-{form}", QUIET)
    whole = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out-diffusers", add_watermarker=False)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    for name, weight in whole.unet.state_dict().items():
        torch.testing.assert_close(pipe.unet.state_dict()[name], weight, atol=1e-5, rtol=1e-5)


def test_all_weights_under_an_open_loop_with_adversarial_steps(run: Run) -> None:
    settings = UnlearnSettings(**FEW, weights="full", loop="open", adversarial_steps=2)
    assert flow.unlearn(run, settings, [], QUIET)
    told = RecheckSettings(attacks="none", num_fresh=2)
    assert flow.recheck(run, told, [], QUIET, NewWeights.of(run))
    assert StableDiffusionXLPipeline.from_pretrained(run.path / MODEL, add_watermarker=False).unet is not None


def test_a_rewording_is_refused_before_anything_is_sampled(run: Run) -> None:
    with pytest.raises(MemfixError, match="told the whole prompt in one embedding"):
        flow.unlearn(run, UnlearnSettings(**FEW, reword=True), [], QUIET)
    assert not (run.path / "pairs.jsonl").exists()


def test_pictures_are_trained_on_under_their_own_size_and_crop(run: Run) -> None:
    detection = Detection.of(run)
    model = detection.model()
    pairs = found_pairs(detection, UnlearnSettings(), lambda score: True)
    bank = build_bank(model, pairs, [torch.zeros(model.latents.shape)] * len(pairs))
    own = [frame.tolist() for target in bank.targets for frame in target.frames]
    assert len(own) == sum(len(target.forget) for target in bank.targets)
    assert [64, 64, 0, 0, 16, 16] in own and [16, 16, 0, 0, 16, 16] in own  # a reference, and a sample
    assert len(bank.frames) == len(bank.prior)


@pytest.mark.parametrize("name", SCREENS)
def test_screens_score_it(run: Run, name: str) -> None:
    scores = SCREENS[name](Detection.of(run).model(), ["a cat", "dog"], Sampling((0, 1), 2, 3, 3.0))
    assert scores.isfinite().all() and scores[0] != scores[1]
