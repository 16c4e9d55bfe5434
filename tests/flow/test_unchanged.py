"""What a stage read must be what the later stages read: changed inputs are refused by name, on a tiny pipeline."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models import loading
from memfix.records import Reference
from memfix.references.in_memory import HeldReferences
from memfix.run.folder import Run
from tests.conftest import picture
from tests.detected import FEW, detected_run

pytestmark = pytest.mark.slow  # a detection, trainings and re-checks for each test

UNLEARN = UnlearnSettings(**FEW, reword=False)
RECHECK = RecheckSettings(num_fresh=2, attacks="none")


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model, which a test may change."""
    return Path(shutil.copytree(model_folder, tmp_path / "my model"))


@pytest.fixture
def run(model: Path, reference_folder: Path, tmp_path: Path) -> Run:
    """A finished detection on copies of model and references."""
    pictures = Path(shutil.copytree(reference_folder, tmp_path / "pictures"))
    (tmp_path / "work").mkdir()
    return Run.open(detected_run(tmp_path / "work", model, pictures))


def unlearn(run: Run) -> bool:
    return flow.unlearn(Run.open(run.path), UNLEARN, [], Talk(quiet=True))


def recheck(run: Run, **given: object) -> list[object]:
    opened = Run.open(run.path)
    return flow.recheck(opened, RECHECK, [], Talk(quiet=True), NewWeights.of(opened, **given))


def spoil(weights: Path) -> None:
    state = load_file(weights)
    name = next(iter(state))
    save_file(state | {name: state[name] + 0.5}, weights)


def test_a_reference_that_changed_is_neither_forgotten_nor_compared_with(run: Run, tmp_path: Path) -> None:
    assert unlearn(run)
    picture(77).save(tmp_path / "pictures/2.png")  # another picture under the same name
    with pytest.raises(MemfixError, match=r"training images of this run, in .*pictures, changed"):
        recheck(run)
    assert not (run.path / "changes.jsonl").exists()
    run.discard("unlearn")
    with pytest.raises(MemfixError, match="training images of this run"):
        unlearn(run)
    assert not (run.path / "pairs.jsonl").exists()


def test_a_reference_that_is_gone_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures/2.png").unlink()
    with pytest.raises(MemfixError, match=r"2\.png"):
        unlearn(run)


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"])
def test_a_configuration_that_changed_is_refused(run: Run, model: Path, name: str) -> None:
    config = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps(config | {"prediction_type": "v_prediction", "model_max_length": 8}))
    for stage in (unlearn, lambda run: recheck(run, model=model)):
        with pytest.raises(MemfixError, match=r"configuration of the model .*scheduler.* changed since the detection"):
            stage(run)


def test_weights_of_the_model_that_changed_are_refused(run: Run, model: Path) -> None:
    spoil(model / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(MemfixError, match="weights of the model changed since the detection"):
        unlearn(run)


def test_a_recheck_knows_weights_by_content_and_not_by_path(run: Run, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    first = recheck(run, model=other)
    assert recheck(run, model=other) == first  # nothing to do
    moved = other.rename(tmp_path / "moved")
    assert recheck(run, model=moved) == first  # the same content in another place
    spoil(moved / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(MemfixError, match=r"weights_sha256: '.*' there, '.*' now") as caught:
        recheck(run, model=moved)
    assert "--overwrite" in caught.value.hint


def test_a_recheck_sees_that_the_scheduler_of_other_weights_changed(run: Run, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    recheck(run, model=other)
    file = other / "scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beta_end": 0.02}))
    with pytest.raises(MemfixError, match="config_sha256"):
        recheck(run, model=other)


def test_the_runs_own_weights_are_known_by_content_too(run: Run) -> None:
    unlearn(run)
    recheck(run)
    spoil(run.path / "model/pytorch_lora_weights.safetensors")
    with pytest.raises(MemfixError, match="weights_sha256"):
        recheck(run)


def test_an_adapter_by_content(run: Run, tmp_path: Path) -> None:
    unlearn(run)
    adapter = Path(shutil.copytree(run.path / "model", tmp_path / "adapter"))
    first = recheck(run, adapters=[adapter])
    assert recheck(run) == first  # the run's own weights are the same ones
    spoil(adapter / "pytorch_lora_weights.safetensors")
    with pytest.raises(MemfixError, match="weights_sha256"):
        recheck(run, adapters=[adapter])


def test_prompts_that_were_edited_in_the_run_are_refused(run: Run) -> None:
    file = run.path / "prompts.jsonl"
    file.write_text(file.read_text().replace('"text":"disc"', '"text":"disk"'))
    with pytest.raises(MemfixError, match="prompts of this run changed"):
        unlearn(run)


def test_descriptions_that_are_not_the_runs_own_are_made_anew(run: Run, tmp_path: Path) -> None:
    """Otherwise samples would be held against other pictures, and no copy would be found."""
    others = tmp_path / "others"
    others.mkdir()
    for i in range(4):
        picture(100 + i).save(others / f"{i}.png")
    detection = Detection.of(run)
    told = [Reference(file_name=f"{i}.png", path=str(others / f"{i}.png")) for i in range(4)]
    HeldReferences(told, detection.measure).keep(run.path / "references.safetensors")
    found = Detection.of(Run.open(run.path)).judge().references.nearest([picture(i) for i in range(4)])
    assert found.names == ["0.png", "1.png", "2.png", "3.png"]
    assert found.values["tiled_l2"].max() < 1e-3  # each is the picture itself


def test_the_same_model_elsewhere_is_the_same(model: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    (moved / ".cache").mkdir()
    (moved / ".cache/notes.json").write_text("{}")  # as download tools leave them
    (moved / "README.md").write_text("hello")
    one, two = loading.locate(str(model)), loading.locate(str(moved))
    assert (one.sha256, one.config_sha256) == (two.sha256, two.config_sha256)
