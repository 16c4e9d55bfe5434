"""What a stage left behind must be what later stages and reports find, on a tiny pipeline."""

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memfix import flow
from memfix.cli import app
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.flow.pairs import written_pairs
from memfix.records import Pair, Reference
from memfix.run.folder import Run
from memfix.run.outputs import UNREAD
from tests.conftest import picture
from tests.detected import FEW, as_if_killed, detected_run

pytestmark = pytest.mark.slow  # a detection, a training and re-checks

detect_module = importlib.import_module("memfix.flow.detect")  # its name in flow is that of the function
QUIET = Talk(quiet=True)
UNLEARN = UnlearnSettings(**FEW, reword=False)
RECHECK = RecheckSettings(num_fresh=2, attacks="none")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    """A run that was detected, unlearned, re-checked and reported."""
    folder = tmp_path_factory.mktemp("chain")
    run = Run.open(detected_run(folder, model_folder, reference_folder))
    flow.unlearn(run, UNLEARN, [], QUIET)
    flow.recheck(Run.open(run.path), RECHECK, [], QUIET)
    flow.report(Run.open(run.path))
    return run.path


@pytest.fixture
def run(chain: Path, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(chain, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))))


def edited(name: str, old: str, new: str) -> Callable[[Run], None]:
    def edit(run: Run) -> None:
        text = (run.path / name).read_text()
        assert old in text
        (run.path / name).write_text(text.replace(old, new))

    return edit


def another_sample(run: Run) -> None:
    picture(99).save(next((run.path / "before").glob("*.png")))


def lost_sample(run: Run) -> None:
    next((run.path / "before").glob("*.png")).unlink()


def paths_that_changed_places(run: Run) -> None:
    one, two, *rest = run.read("references.jsonl", Reference)
    swapped = [one.model_copy(update={"path": two.path}), two.model_copy(update={"path": one.path})]
    run.write("references.jsonl", [*swapped, *rest])


def edited_header(run: Run, part: str, name: str, value: object) -> None:
    header = json.loads((run.path / "run.json").read_text())
    header["stages"]["detect"][part][name] = value
    (run.path / "run.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "named", "stage"),
    [
        (another_sample, r"before/.*\.png", "detect"),
        (lost_sample, r"before/.*\.png", "detect"),
        (paths_that_changed_places, "references.jsonl", "detect"),
        (lambda run: edited_header(run, "rule", "threshold", 0.999), "", ""),
        (lambda run: edited_header(run, "settings", "num_inference_steps", 50), "", ""),
        (edited("before/verdicts.jsonl", '"memorized"', '"clean"'), "before/verdicts.jsonl", "detect"),
        (lambda run: (run.path / "before/scores.jsonl").unlink(), "before/scores.jsonl", "detect"),
        (edited("pairs.jsonl", '"forget"', '"keep"'), "pairs.jsonl", "unlearn"),
        (lambda run: (run.path / "rewordings.jsonl").write_text(""), "rewordings.jsonl", "unlearn"),
    ],
)
def test_what_changed_is_named_by_every_later_stage(
    run: Run, change: Callable[[Run], None], named: str, stage: str
) -> None:
    change(run)
    told = rf"In .* {named} changed since the {stage} stage ended" if named else r"run\.json was edited"
    with pytest.raises(MemfixError, match=told):
        flow.report(Run.open(run.path))
    with pytest.raises(MemfixError, match=told):
        flow.recheck(Run.open(run.path), RECHECK, [], QUIET, overwrite=True)
    assert (run.path / "changes.jsonl").exists()


@pytest.mark.parametrize("change", [
    lambda run: edited("changes.jsonl", '"outcome":"', '"outcome":"mitigated","was":"')(run),
    lambda run: (run.path / "changes.jsonl").write_text(""),
    lambda run: (run.path / "changes.jsonl").unlink(),
])  # fmt: skip
def test_a_report_tells_of_no_other_changes_than_those_that_were_found(run: Run, change: Callable[[Run], None]) -> None:
    change(run)
    with pytest.raises(MemfixError, match=r"changes\.jsonl changed since the recheck stage ended"):
        flow.report(Run.open(run.path))


def test_a_run_of_an_earlier_time_lacks_what_was_not_written_then(run: Run) -> None:
    name = "adversarial_validations.jsonl"
    unlearned = run.header.stages.begun()["unlearn"]
    (run.path / "unlearn.sha256").unlink()
    unlearned.counts = {}
    for lacking in (name, "unlearn.sha256", *UNREAD["unlearn"]):
        del unlearned.seal[lacking]
    run.save()
    Run.open(run.path).require_intact("unlearn")
    (run.path / name).write_text("{}\n")
    with pytest.raises(MemfixError, match=f"{name} changed"):
        Run.open(run.path).require_intact("unlearn")
    (run.path / name).unlink()
    del run.header.stages.begun()["unlearn"].seal["pairs.jsonl"]  # which is there
    run.save()
    with pytest.raises(MemfixError, match=r"pairs\.jsonl changed"):
        Run.open(run.path).require_intact("unlearn")


def test_a_stage_that_has_nothing_to_do_does_not_repeat_what_was_edited(run: Run) -> None:
    """A re-check that is given again prints its changes: edited ones would read as found."""
    edited("changes.jsonl", '"outcome":"persistent"', '"outcome":"mitigated"')(run)
    with pytest.raises(MemfixError, match=r"changes\.jsonl changed since the recheck stage ended"):
        flow.recheck(Run.open(run.path), RECHECK, [], QUIET)
    with pytest.raises(MemfixError, match=r"changes\.jsonl changed"):  # though the stage did not end well by now
        flow.report(Run.open(run.path))
    edited("changes.jsonl", '"outcome":"mitigated"', '"outcome":"persistent"')(run)
    flow.recheck(Run.open(run.path), RECHECK, [], QUIET)


def test_a_detection_that_has_nothing_to_do_does_not_repeat_what_was_edited(run: Run, chain: Path) -> None:
    edited("before/verdicts.jsonl", '"memorized"', '"clean"')(run)
    settings = Detection.of(run).settings
    with pytest.raises(MemfixError, match=r"before/verdicts\.jsonl changed since the detect stage ended"):
        flow.detect(str(chain.parent / "prompts.txt"), settings, run.path, chain.parent, [], QUIET)


def test_reports_and_stages_that_find_all_as_it_was_change_nothing(run: Run) -> None:
    before, written = Run.open(run.path).header.stages, (run.path / "run.json").read_bytes()
    flow.unlearn(run, UNLEARN, [], QUIET)
    flow.recheck(Run.open(run.path), RECHECK, [], QUIET)
    page = flow.report(Run.open(run.path))
    again = Run.open(run.path).header.stages
    assert page.exists() and [s.seal for s in again.begun().values()] == [s.seal for s in before.begun().values()]
    assert all(len(s.seal) >= 3 for s in again.begun().values())
    assert (run.path / "run.json").read_bytes() == written


def test_a_report_can_be_written_elsewhere_and_tells_of_weights_and_commands(run: Run, tmp_path: Path) -> None:
    there = {f: f.stat().st_mtime_ns for f in run.path.rglob("*")}
    page = flow.report(Run.open(run.path), tmp_path / "elsewhere")
    assert {f: f.stat().st_mtime_ns for f in run.path.rglob("*")} == there
    assert sorted(f.name for f in page.parent.iterdir()) == ["README.md", "report.html", "report.json"]
    made = run.header.stages.unlearn.weights_sha256
    assert made == hashlib.sha256((run.path / "model/pytorch_lora_weights.safetensors").read_bytes()).hexdigest()
    assert page.read_text().count(made) == 2 and made in (page.parent / "README.md").read_text()
    assert [f"<dt>{s.stage}</dt>" in page.read_text() for s in run.header.history] == [True] * 3


def test_the_doctor_names_every_file_that_changed(run: Run) -> None:
    said = CliRunner().invoke(app, ["doctor", str(run.path), "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["unlearn"]["value"].startswith("as it was when it ended: ")
    (variant := next((run.path / "variants").glob("*.png"))).write_bytes(b"")
    (run.path / "after/new.png").write_bytes(b"")
    said = CliRunner().invoke(app, ["doctor", str(run.path), "--json"])
    found = json.loads(said.stdout)
    assert said.exit_code == 1 and found["detect"]["ok"]
    assert found["unlearn"]["value"] == f"changed since it ended: variants/{variant.name}"
    assert found["recheck"]["value"] == "changed since it ended: after/new.png"


def test_a_report_goes_with_what_it_tells_of(run: Run) -> None:
    assert (run.path / "report.html").exists() and (run.path / "report.json").exists()
    run.discard("recheck")
    assert not list(run.path.glob("report.*"))


def test_a_stage_that_goes_on_is_sealed_again(run: Run) -> None:
    (run.path / "changes.jsonl").unlink()
    as_if_killed(run, "recheck")
    flow.recheck(Run.open(run.path), RECHECK.model_copy(), [], QUIET)
    flow.report(Run.open(run.path))


@pytest.mark.parametrize("fresh", [0, 1])
def test_noise_of_the_first_check_is_not_fresh(run: Run, fresh: int) -> None:
    seeds = {s.seed for s in Detection.of(run).samples}
    settings = RECHECK.model_copy(update={"fresh_seed": max(seeds) + fresh})
    if fresh:
        flow.recheck(Run.open(run.path), settings, [], QUIET, overwrite=True)
        return
    with pytest.raises(MemfixError, match="is not fresh") as caught:
        flow.recheck(Run.open(run.path), settings, [], QUIET, overwrite=True)
    assert f"above {max(seeds)}" in caught.value.hint and (run.path / "changes.jsonl").exists()


def test_not_even_the_last_seed_of_fresh_noise_may_be_one_of_the_first_check(
    tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder, seed=50))
    for fresh, refused in ((49, True), (48, False)):  # two samples each
        settings = RECHECK.model_copy(update={"fresh_seed": fresh})
        try:
            flow.recheck(run, settings, [], QUIET, NewWeights.of(run, model=model_folder))
        except MemfixError as error:
            assert refused and "used seed 50" in error.message
        else:
            assert not refused


def test_pictures_of_a_copied_run_are_its_own(run: Run, chain: Path) -> None:
    recorded = run.read("pairs.jsonl", Pair)
    own = [p for p in recorded if p.origin != "reference"]
    assert own and not any(Path(p.path).is_absolute() for p in own)
    assert all(Path(p.path).is_relative_to(run.path.resolve()) for p in written_pairs(run) if p.origin != "reference")
    picture(99).save(run.path / own[0].path)
    with pytest.raises(MemfixError, match="is not the picture that was gathered"):
        written_pairs(run)


@pytest.mark.parametrize("when", ["open_references", "FirstCheck"])
def test_training_images_that_change_while_they_are_read_stop_the_detection(
    when: str, run: Run, reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else samples would be compared with one picture, and another one unlearned."""
    pictures = Path(shutil.copytree(reference_folder, tmp_path / "pictures"))
    settings = Detection.of(run).settings.model_copy(update={"references": str(pictures)})
    (tmp_path / "prompts.txt").write_text("disc 1\n")
    kept, usual = (pictures / "2.png").read_bytes(), getattr(detect_module, when)

    def swapped(*given: object, **named: object) -> object:
        picture(77).save(pictures / "2.png")
        return usual(*given, **named)

    def detect() -> Run:
        return flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "new", tmp_path, [], QUIET)

    with monkeypatch.context() as patch:
        patch.setattr(detect_module, when, swapped)
        with pytest.raises(MemfixError, match="A training image changed while the detection ran"):
            detect()
    if when == "open_references":  # nothing was sampled, so that it begins anew, with what is there now
        found = Detection.of(detect())
        found.require_unchanged()
        (pictures / "2.png").write_bytes(kept)
        with pytest.raises(MemfixError, match="training images of this run"):
            found.require_unchanged()
        return
    with pytest.raises(MemfixError, match="started with other settings"):
        detect()
    (pictures / "2.png").write_bytes(kept)
    assert detect().finished("detect")
