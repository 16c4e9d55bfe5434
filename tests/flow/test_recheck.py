"""The re-check on a tiny pipeline: which weights it takes, and that untouched ones are never called mitigated."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from memfix import flow
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.flow.recheck import recheck
from memfix.models.lora import FILE
from memfix.models.model import DiffusionModel, Instead
from memfix.records import Label, Outcome, Role, Sample
from memfix.run.folder import Run
from memfix.run.inputs import RecheckInputs
from tests.detected import FEW, detected_run

pytestmark = pytest.mark.slow  # a detection, a training and re-checks

FRESH = RecheckSettings(num_fresh=2, fresh_seed=500, attacks="none")


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    run = Run.open(detected_run(tmp_path_factory.mktemp("recheck"), model_folder, reference_folder))
    flow.unlearn(run, UnlearnSettings(**FEW, reword=False), [], Talk(quiet=True))
    return run.path


@pytest.fixture
def run(unlearned: Path, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(unlearned, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))))


def test_the_original_weights_keep_every_copy_and_change_nothing(run: Run, model_folder: Path) -> None:
    before = {v.prompt_id: v for v in Detection.of(run).verdicts}
    changes = recheck(run, FRESH, [], Talk(quiet=True), NewWeights.of(run, model=model_folder))
    assert {c.prompt_id for c in changes} == before.keys()
    for change in changes:
        assert change.damage.drift == 0 and change.damage.broken == 0
        assert (change.copies_same, change.samples_same) == (before[change.prompt_id].copies, 4)
        assert change.samples_fresh == 2
        if change.before is Label.MEMORIZED and change.role is Role.PROMPT:
            assert change.outcome is Outcome.PERSISTENT
    seeds = {s.seed for s in run.read("after/metadata.jsonl", Sample) if s.condition == "fresh"}
    assert seeds == {500, 501}


def test_it_is_done_once_and_refuses_other_weights_then(run: Run, model_folder: Path) -> None:
    first = recheck(run, FRESH, ["memfix", "recheck"], Talk(quiet=True))
    assert any(change.damage.drift > 0 for change in first)
    header = json.loads((run.path / "run.json").read_text())["stages"]["recheck"]
    assert (header["status"], header["checked"]) == ("finished", str(run.path / "model"))
    before = (run.path / "changes.jsonl").stat().st_mtime_ns
    assert recheck(Run.open(run.path), FRESH, [], Talk(quiet=True)) == first
    assert (run.path / "changes.jsonl").stat().st_mtime_ns == before
    with pytest.raises(MemfixError, match="weights_sha256"):
        recheck(Run.open(run.path), FRESH, [], Talk(quiet=True), NewWeights.of(run, model=model_folder))


def test_weights_that_are_given_come_before_the_runs_own(run: Run, model_folder: Path) -> None:
    own = run.path / "model"
    assert NewWeights.of(run).adapters == [own]
    assert str(NewWeights.of(run, model=model_folder)) == str(model_folder)
    copy = Path(shutil.copytree(own, run.path.parent / "copy"))
    assert NewWeights.of(run, [copy]).adapters == [copy]
    assert NewWeights.of(run, [copy]).inputs == NewWeights.of(run).inputs  # by content
    assert NewWeights.of(run, [own, copy]).inputs != NewWeights.of(run).inputs
    assert str(NewWeights.of(run, [own, copy])) == f"{own}, {copy}"


def test_several_adapters_are_the_same_in_another_place_and_order(run: Run, tmp_path: Path) -> None:
    """Otherwise a finished re-check would be refused for weights that it was made of."""
    own, places = run.path / "model", [tmp_path / "z", tmp_path / "a"]
    for path, change in zip(places, (0.0, 0.5), strict=True):
        state = load_file(own / FILE)
        path.mkdir()
        save_file({name: value + change for name, value in state.items()}, path / FILE)
    first = NewWeights.of(run, [own, *places]).inputs
    moved = [path.rename(tmp_path / f"{number}") for number, path in enumerate(places)]
    again = NewWeights.of(run, [*moved, own])
    assert again.inputs == first != NewWeights.of(run, moved).inputs
    assert not again.are_own(run) and NewWeights.of(run, [own]).are_own(run)


class OnePicture(DiffusionModel):
    """Whatever it is asked, it shows one picture, which is as rich in detail as those of the original model."""

    shown: Image.Image

    def sample(
        self, batch: Sequence[Sample], mixed_precision: str, instead: Instead | None = None
    ) -> list[Image.Image]:
        return [self.shown] * len(batch)


@dataclass(frozen=True)
class Replaced(NewWeights):
    """A model that shows the negative of a sample from before: no copy, and no picture of anything."""

    kind: type[OnePicture] = OnePicture

    @property
    def inputs(self) -> RecheckInputs:
        return RecheckInputs(weights_sha256=self.kind.__name__)

    def load(self, detection: Detection, talk: Talk, asked_in: str = "no") -> DiffusionModel:
        model = self.kind(detection.model()._pipe)
        model.shown = ImageOps.invert(Image.open(detection.folder / detection.samples[0].file_name).convert("RGB"))
        return model


def test_one_picture_for_everything_is_damage_with_nothing_to_compare_it_with(
    tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    """A single prompt and no controls: nothing but the prompt's own samples tells that nothing was erased."""
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder, controls=False, prompts="disc\n"))
    settings = FRESH.model_copy(update={"num_fresh": 16})
    (change,) = recheck(run, settings, [], Talk(quiet=True), Replaced())
    assert (change.before, change.after, change.copies_same + change.copies_fresh) == (Label.MEMORIZED, Label.CLEAN, 0)
    assert change.damage.broken == 0
    assert change.outcome is Outcome.DAMAGED


class AnotherPicture(OnePicture):
    """Shows one picture for two of three seeds, which it never showed before, and else what it did in other colours."""

    def sample(
        self, batch: Sequence[Sample], mixed_precision: str, instead: Instead | None = None
    ) -> list[Image.Image]:
        images = DiffusionModel.sample(self, batch, mixed_precision, instead)
        return [recoloured(im) if s.seed % 3 == 0 else self.shown for s, im in zip(batch, images, strict=True)]


def recoloured(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", (ImageOps.invert(red), green, blue))


def test_without_references_a_picture_that_comes_again_and_again_is_seen_also_after(
    tmp_path: Path, model_folder: Path
) -> None:
    """The references are samples from before, of which none shows what the new weights draw now."""
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = DetectSettings(
        model=str(model_folder), num_samples=6, num_inference_steps=2, mixed_precision="no", measure="tiled_l2",
        threshold=0.28,
    )  # fmt: skip
    run = flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    assert Detection.of(run).verdicts[0].verdict is Label.MEMORIZED
    (change,) = recheck(
        run, FRESH.model_copy(update={"num_fresh": 6}), [], Talk(quiet=True), Replaced(kind=AnotherPicture)
    )
    assert change.copies_same + change.copies_fresh == 0 and change.after is Label.MEMORIZED
    assert change.outcome is Outcome.PERSISTENT and "another one than before" in change.reason


def test_a_run_without_an_unlearned_model_has_nothing_to_recheck(run: Run) -> None:
    run.discard("unlearn")
    with pytest.raises(MemfixError, match="There is no unlearned model") as caught:
        recheck(run, FRESH, [], Talk(quiet=True))
    assert "--lora or --model" in caught.value.hint
    assert not (run.path / "after").exists()
