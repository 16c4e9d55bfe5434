"""What a stage read must be what the later stages read: changed inputs are refused by name, on a tiny pipeline."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.index.build import build
from memfix.index.store import Store
from memfix.inputs.prompts import id_of
from memfix.measures.descriptor import get_descriptor
from memfix.measures.weights import Wanted
from memfix.models import loading
from memfix.records import Label, Record, Reference
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


def test_a_vocabulary_is_configuration_and_a_model_card_is_none(run: Run, model: Path) -> None:
    """The merges of a tokenizer say what a prompt means, and are plain text."""
    (model / "README.md").write_text("something new")
    Detection.of(run).require_unchanged()
    (model / "tokenizer/merges.txt").write_text("something new")
    with pytest.raises(MemfixError, match="configuration of the model"):
        unlearn(run)


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
    with pytest.raises(MemfixError, match=r"model/.*safetensors changed since the unlearn stage ended"):
        recheck(run)
    with pytest.raises(MemfixError, match=r"model/.*safetensors changed since the unlearn stage ended"):
        flow.recheck(Run.open(run.path), RECHECK, [], Talk(quiet=True), overwrite=True)
    assert Run.open(run.path).finished("recheck")


def test_other_weights_with_new_seals_are_still_others(run: Run) -> None:
    """What the unlearning made is said once, and seals that are made anew do not change it."""
    unlearn(run)
    spoil(run.path / "model/pytorch_lora_weights.safetensors")
    opened = Run.open(run.path)
    with opened.amending("unlearn"):
        pass
    with pytest.raises(MemfixError, match="are not those that the unlearning made"):
        recheck(run)
    assert not (run.path / "changes.jsonl").exists()


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


def test_weights_that_took_the_place_of_others_are_others(model: Path) -> None:
    """The same files in the same order, of which another one is loaded."""
    own = model / "unet/diffusion_pytorch_model.safetensors"
    spoil(Path(shutil.copy(own, model / "unet/new.safetensors")))
    first = loading.locate(str(model)).sha256
    own.rename(model / "unet/backup.safetensors")
    (model / "unet/new.safetensors").rename(own)
    assert loading.locate(str(model)).sha256 != first


@pytest.mark.parametrize("name", ["verdicts.jsonl", "scores.jsonl", "metadata.jsonl"])
def test_findings_that_are_lost_are_no_clean_prompts(run: Run, model: Path, name: str) -> None:
    file = run.path / "before" / name
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if id_of("disc") not in line))
    for stage in (unlearn, lambda run: recheck(run, model=model)):
        with pytest.raises(MemfixError, match=rf"before/{name} changed since the detect stage ended"):
            stage(run)
    file.unlink()
    with pytest.raises(MemfixError, match=rf"before/{name} changed since the detect stage ended"):
        unlearn(run)


def test_a_model_card_tells_of_no_other_weights(run: Run, model: Path) -> None:
    unlearn(run)
    recheck(run, model=model)
    flow.report(Run.open(run.path))
    card = run.path / "model/README.md"
    assert "These weights were not re-checked" in card.read_text()
    run.discard("recheck")
    recheck(run)
    flow.report(Run.open(run.path))
    assert "These weights were not re-checked" not in card.read_text()


def test_a_report_tells_of_no_other_weights(run: Run) -> None:
    unlearn(run)
    recheck(run)
    own = run.path / "model/pytorch_lora_weights.safetensors"
    kept = own.read_bytes()
    spoil(own)
    with pytest.raises(MemfixError, match=r"model/.*safetensors changed since the unlearn stage ended"):
        flow.report(Run.open(run.path))
    own.write_bytes(kept)
    flow.report(Run.open(run.path))


@pytest.mark.parametrize("inside", ["before", "before/new", "of_my_own"])
def test_a_report_is_not_written_into_what_a_run_is_made_of(run: Run, tmp_path: Path, inside: str) -> None:
    """Else the run would have changed since its stages ended, and no later stage would take it."""
    with pytest.raises(MemfixError, match="is a folder of the run"):
        flow.report(Run.open(run.path), run.path / inside)
    flow.report(Run.open(run.path), run.path)
    assert flow.report(Run.open(run.path), tmp_path / "elsewhere").is_file()


def test_an_earlier_recheck_is_kept_where_no_other_can_be_made(run: Run, model: Path, tmp_path: Path) -> None:
    recheck(run, model=model)
    picture(77).save(tmp_path / "pictures/2.png")
    opened = Run.open(run.path)
    with pytest.raises(MemfixError, match="training images"):
        flow.recheck(opened, RECHECK, [], Talk(quiet=True), NewWeights.of(opened, model=model), overwrite=True)
    assert (run.path / "changes.jsonl").exists() and Run.open(run.path).finished("recheck")


class Killed(BaseException):
    """Nothing catches it."""


def killed_after(name: str, run: Run, monkeypatch: pytest.MonkeyPatch, stage: Callable[[], object]) -> None:
    """Leave a run as a process leaves it that is killed right after it wrote a file."""
    write, seen = Run.write, list[bytes]()

    def told(self: Run, file: str, records: Iterable[Record]) -> None:
        write(self, file, records)
        if file == name:
            seen.append((self.path / "run.json").read_bytes())
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "write", told)
        stage()
    (run.path / "run.json").write_bytes(seen[-1])


def test_a_stage_that_is_killed_at_its_end_loses_nothing_of_the_header(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file says that a stage is complete, so what the header tells of it must be there by then."""
    settings, work = Detection.of(run).settings, run.path.parent
    shutil.rmtree(run.path)

    def detect() -> Run:
        return flow.detect(str(work / "prompts.txt"), settings, run.path, work, [], Talk(quiet=True))

    killed_after("before/verdicts.jsonl", run, monkeypatch, detect)
    stage = detect().header.stages.detect
    assert stage and stage.rule and stage.references_sha256
    unlearn(run)
    attacked = RecheckSettings(num_fresh=2, attacks="wording", attack_samples=1, control_pictures=1)

    def check() -> object:
        opened = Run.open(run.path)
        return flow.recheck(opened, attacked, [], Talk(quiet=True), NewWeights.of(opened, model=model))

    killed_after("changes.jsonl", run, monkeypatch, check)
    check()
    again = Run.open(run.path).header.stages.recheck
    assert again and again.attacks == ["wording"] and "noised" in again.attacks_left_out


def indexed(run: Run, folder: Path) -> Run:
    """The same detection with an index of the same pictures."""
    descriptor = get_descriptor("pixels", Wanted())
    build(Store.create(folder / "index", folder / "pictures", descriptor), folder / "pictures", descriptor)
    settings = Detection.of(run).settings.model_copy(update={"references": str(folder / "index")})
    work = run.path.parent
    return flow.detect(str(work / "prompts.txt"), settings, work / "indexed", work, [], Talk(quiet=True))


def test_a_picture_of_an_index_that_changed_is_not_what_is_forgotten(run: Run, model: Path, tmp_path: Path) -> None:
    """The index itself has vectors alone, and they are what they were."""
    found = indexed(run, tmp_path)
    shown = {v.reference for v in Detection.of(found).verdicts if v.verdict is Label.MEMORIZED}
    paths = {r.file_name: Path(r.path) for r in Detection.of(found).references}
    (path, *_) = (paths[name] for name in sorted(shown))
    kept, other = path.read_bytes(), next(p for p in path.parent.glob("*.png") if p != path)
    path.write_bytes(other.read_bytes())
    with pytest.raises(MemfixError, match="training images of this run"):
        unlearn(found)
    path.write_bytes(kept)
    recheck(found, model=model)  # which may write down further references
    Detection.of(Run.open(found.path)).require_unchanged()
    path.write_bytes(other.read_bytes())
    with pytest.raises(MemfixError, match="training images of this run"):
        Detection.of(Run.open(found.path)).require_unchanged()


def test_an_index_whose_vectors_changed_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    """Against other vectors no sample would be a copy, and a memorized prompt mitigated."""
    found = indexed(run, tmp_path)
    recheck(found, model=model)
    (rows,) = (tmp_path / "index/segments").glob("*.jsonl")
    kept = rows.read_text()
    rows.write_text(kept.splitlines()[0].replace("0.png", "00.png") + "\n" + kept)  # all shift against the vectors
    with pytest.raises(MemfixError, match=r"segments/00000000\.jsonl does not hold the rows"):
        recheck(found, model=model)
    rows.write_text(kept)
    for file in (tmp_path / "index/segments").glob("*.npy"):
        np.save(file, 0 * np.load(file))
    with pytest.raises(MemfixError, match="training images of this run"):
        recheck(found, model=model)
