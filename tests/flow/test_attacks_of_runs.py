"""Attacks in a run: who is attacked, what clean training images are, resume, and what a re-check makes of it."""

import json
import shutil
from pathlib import Path

import pytest

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.attack import attack
from memfix.flow.attacks import Attacks
from memfix.flow.changes import UNWORDED
from memfix.flow.control_pictures import ControlPictures
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.flow.recheck import recheck
from memfix.models.context import ContextEdit
from memfix.models.lora import adapters_sha256
from memfix.recheck.attacks.table import ATTACKS
from memfix.records import Arm, AttackResult, Change, ControlPicture, Label, Outcome, Rewording, Score, Version
from memfix.run.folder import Run
from memfix.run.outputs import AFTER
from memfix.world import ALONE, World
from tests.conftest import picture
from tests.detected import FEW, as_if_killed, detected_run
from tests.processes import memfix

pytestmark = pytest.mark.slow  # a detection, a training and re-checks

QUIET = Talk(quiet=True)
SETTINGS = RecheckSettings(num_fresh=2, fresh_seed=500, attacks="wording,noised", attack_samples=2, control_pictures=2)

UNATTACKED = SETTINGS.model_copy(update={"attacks": "none"})


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """Ten references, of which the tiny model comes near to few."""
    folder = tmp_path_factory.mktemp("attacks")
    (references := folder / "refs").mkdir()
    rows = []
    for i in range(10):
        picture(i).save(references / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"disc {i}"}))
    (references / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    run = Run.open(detected_run(folder, model_folder, references))
    flow.unlearn(run, UnlearnSettings(**FEW), [], QUIET)
    return run.path


@pytest.fixture
def run(unlearned: Path, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(unlearned, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))))


def test_clean_training_images_are_asked_for_first(run: Run) -> None:
    detection = Detection.of(run)
    judge = detection.judge()
    attacks = Attacks(detection, SETTINGS, judge, QUIET, AFTER)
    copied = {s.reference for s in detection.scores if s.copy_}
    controls = ControlPictures(detection, SETTINGS, judge, attacks.groups, f"{AFTER}/control_pictures.jsonl")
    found = controls(detection.model())
    asked = run.read(f"{AFTER}/control_pictures.jsonl", ControlPicture)
    assert [w.reference.file_name for w in found] == [c.reference for c in asked if not c.copies][:2]
    assert len(found) == 2 and not {c.reference for c in asked} & copied
    assert all(c.samples == 2 for c in asked)
    again = controls(detection.model())
    assert again == found and run.read(f"{AFTER}/control_pictures.jsonl", ControlPicture) == asked
    # one that the model draws under its own caption is memorized, though no prompt of the list found it
    run.write(f"{AFTER}/control_pictures.jsonl", [c.model_copy(update={"copies": 1}) for c in asked[:1]])
    assert asked[0].reference not in {w.reference.file_name for w in controls(detection.model())}
    assert [w.reference.file_name for w in attacks.targets()] == [
        v.reference for v in detection.verdicts if v.verdict is Label.MEMORIZED and v.prompt_id[0] == "p"
    ]


@pytest.mark.parametrize(("steps", "known"), [(0, []), (2, ["embedding"])])
def test_a_recheck_knows_what_the_weights_were_trained_against(
    unlearned: Path, tmp_path: Path, steps: int, known: list[str]
) -> None:
    shutil.copytree(unlearned, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    flow.unlearn(run, UnlearnSettings(**FEW, adversarial_steps=steps), [], QUIET, overwrite=True)
    recheck(run, SETTINGS.model_copy(update={"attacks": "embedding,wording"}), [], QUIET)
    stage = Run.open(run.path).header.stages.recheck
    assert stage is not None and set(stage.attacks) == {"embedding", "wording"}
    assert stage.attacks_trained_against == known
    page = flow.report(run)
    told = json.loads((page.parent / "report.json").read_text())
    assert (told["summary"]["attacks"], told["summary"]["known_attacks"]) == (2, len(known))
    assert told["training"]["adversarial_steps"] == steps
    card = (run.path / "model/README.md").read_text()
    assert ("2 adversarial steps" in page.read_text(), "steps against an attack" in card) == (steps > 0, steps > 0)


def test_what_a_closed_loop_looked_under_is_no_proof_of_its_own(unlearned: Path, tmp_path: Path) -> None:
    """It ended only because these attacks brought nothing back, so that they can hardly say otherwise afterwards."""
    shutil.copytree(unlearned, tmp_path / "run")
    run, settings = Run.open(tmp_path / "run"), SETTINGS.model_copy(update={"attacks": "noised,embedding"})
    few = FEW | {"max_train_steps": 2, "validation_inference_steps": 2, "prior_prompts": 0}
    for loop, known in (("closed", {"noised", "embedding"}), ("open", {"embedding"})):
        closed = UnlearnSettings.model_validate({**few, "adversarial_steps": 1, "loop": loop})
        flow.unlearn(run, closed, [], QUIET, overwrite=True)
        recheck(run, settings, [], QUIET)
        stage = Run.open(run.path).header.stages.recheck
        assert stage is not None and set(stage.attacks) == {"noised", "embedding"}
        assert set(stage.attacks_trained_against) == known


def test_a_recheck_attacks_both_models_once(run: Run) -> None:
    changes = recheck(run, SETTINGS, [], QUIET)
    results = run.read(f"{AFTER}/attacks.jsonl", AttackResult)
    keys = [(r.attack, r.version, r.arm, r.prompt_id) for r in results]
    assert len(set(keys)) == len(keys)
    targets = {c.prompt_id for c in changes if c.before is Label.MEMORIZED and c.role.value == "prompt"}
    for name in ("wording", "noised"):
        for version in Version:
            key = (name, version, Arm.TARGET)
            assert {r.prompt_id for r in results if (r.attack, r.version, r.arm) == key} == targets
    assert all((run.path / name).is_file() for r in results for name in r.shown)
    stage = run.header.stages.recheck
    assert stage is not None and stage.attacks == ["wording", "noised"] and stage.control_pictures > 0
    assert set(stage.attacks_left_out) == ATTACKS.keys() - {"wording", "noised"}
    page = flow.report(run).read_text()
    assert "Not tried: paraphrase, frame, embedding, emphasis" in page and "<td>noised</td>" in page

    # what was written before an interruption is not done again
    run.write(f"{AFTER}/attacks.jsonl", results[:3])
    (run.path / "changes.jsonl").unlink()
    as_if_killed(run, "recheck")
    kept = [(run.path / name).stat().st_mtime_ns for r in results[:3] for name in r.shown]
    assert recheck(Run.open(run.path), SETTINGS, [], QUIET) == changes
    assert run.read(f"{AFTER}/attacks.jsonl", AttackResult) == results
    assert kept == [(run.path / name).stat().st_mtime_ns for r in results[:3] for name in r.shown]


def test_attacks_alone_are_shared_by_ranks_and_find_the_same(run: Run, model_folder: Path) -> None:
    own = NewWeights.of(run)
    alone = attack(run, SETTINGS, QUIET, own, ALONE).results()
    assert alone and not (run.path / AFTER).exists()
    (folder,) = (run.path / "attacked").iterdir()
    about = json.loads((folder / "attack.json").read_text())
    assert about["settings"]["attacks"] == "wording,noised" and "embedding" in about["left_out"]
    shutil.rmtree(folder)
    for rank in (1, 0):
        found = attack(Run.open(run.path), SETTINGS, QUIET, own, World(rank, 2)).results()
    assert found == alone
    assert sorted(p.name for p in folder.glob("attacks*.jsonl")) == ["attacks-0-of-2.jsonl", "attacks-1-of-2.jsonl"]
    # other weights, or other settings, have a folder of their own
    attack(run, SETTINGS.model_copy(update={"attacks": "noised"}), QUIET, own, ALONE)
    attack(run, SETTINGS, QUIET, NewWeights.of(run, model=model_folder), ALONE)
    assert len(list((run.path / "attacked").iterdir())) == 3


def test_the_command_tells_what_came_back_and_what_was_not_tried(run: Run) -> None:
    done = memfix("attack", run.path, "--attacks", "noised", "--attack-samples", 2, "--control-pictures", 1, "--json",
                  cwd=run.path.parent)  # fmt: skip
    told = json.loads(done.stdout)
    assert [row["attack"] for row in told["attacks"]] == ["noised"]
    assert told["attacks"][0]["after_target"]["tried"] == 2 and "embedding" in told["left_out"]
    assert "Not tried: wording, paraphrase, frame, embedding" in " ".join((done.stdout + done.stderr).split())
    for command in ("attack", "recheck"):
        refused = memfix(command, run.path, "--attacks", "embeding", cwd=run.path.parent, code=2)
        assert "Did you mean 'embedding'?" in refused.stderr


def test_without_attacks_the_page_says_so(run: Run) -> None:
    recheck(run, UNATTACKED, [], QUIET)
    assert not (run.path / AFTER / "attacks.jsonl").exists()
    page = flow.report(run).read_text()
    assert "No attack was made." in page and f"Not tried: {', '.join(ATTACKS)}" in page
    assert "No attack was made on these weights." in (run.path / "model/README.md").read_text()


def test_paraphrases_are_known_by_content(run: Run, tmp_path: Path) -> None:
    target = Attacks(Detection.of(run), SETTINGS, Detection.of(run).judge(), QUIET, AFTER).targets()[0].prompt
    (file := tmp_path / "own.txt").write_text(f"please draw {target.text}\n{target.text} again\n")
    settings = SETTINGS.model_copy(update={"attacks": "paraphrase", "paraphrases": str(file)})
    recheck(run, settings, [], QUIET)
    results = run.read(f"{AFTER}/attacks.jsonl", AttackResult)
    (own,) = [r for r in results if r.version is Version.AFTER and r.prompt_id == target.id]
    assert own.curve[-1].samples == 2
    assert {r.arm for r in results if r.curve} == {Arm.TARGET, Arm.CONTROL}
    moved = file.rename(tmp_path / "moved.txt")
    settings = settings.model_copy(update={"paraphrases": str(moved)})
    recheck(run, settings, [], QUIET)  # the same
    assert "paraphrase" in flow.report(run).read_text()
    moved.write_text("something else\n")
    with pytest.raises(MemfixError, match="paraphrases_sha256"):
        recheck(run, settings, [], QUIET)


def reworded(run: Run) -> str:
    """Build a rewording of the first target into the run's adapter, as unlearning would have saved it."""
    detection = Detection.of(run)
    target = next(v.prompt_id for v in detection.verdicts if v.verdict is Label.MEMORIZED)
    text = next(p.text for p in detection.prompts if p.id == target)
    model = detection.model()
    told, other = (model.text.encode([t]).tokens[0].double().cpu() for t in (text, "something else altogether"))
    shift = other - told
    read = told / told.square().sum(1, keepdim=True)
    edit = ContextEdit(read.float(), shift.T.contiguous().float())
    edit.save(run.path / "rewording.safetensors")
    model.adapters.fuse(run.path / "model")
    shutil.rmtree(run.path / "model")
    model.adapters.add(1)
    model.adapters.save(run.path / "model", edit)
    line = Rewording(prompt_id=target, text=text, wording="shorter", copies=0, samples=4, applied=True, reason="r")
    run.write("rewordings.jsonl", [line])
    unlearned = run.header.stages.unlearn
    unlearned.weights_sha256 = adapters_sha256([run.path / "model"])
    with run.amending("unlearn"):  # as unlearning would have left it
        pass
    return target


def test_reworded_prompts_are_judged_by_what_the_weights_hold_without_it(run: Run) -> None:
    target = reworded(run)
    changes = {c.prompt_id: c for c in recheck(run, UNATTACKED, [], QUIET)}
    found = changes[target]
    scores = [s for s in run.read(f"{AFTER}/scores.jsonl", Score) if s.prompt_id == target]
    bare = [s for s in scores if s.condition in UNWORDED.values()]
    assert len(bare) == len(scores) / 2 == found.samples_same + found.samples_fresh
    assert found.copies_same + found.copies_fresh == sum(s.copy_ for s in bare)
    assert (found.wording, found.samples_reworded) == ("shorter", len(bare))
    # with the rewording taken off, these are the samples of the original model from the same noise
    before = {s.seed: s for s in Detection.of(run).scores if s.prompt_id == target}
    for score in (s for s in bare if s.condition == UNWORDED["same"]):
        assert score.measures["tiled_l2"] == pytest.approx(before[score.seed].measures["tiled_l2"], abs=0.02)
    assert found.after is Label.MEMORIZED
    assert found.outcome in (Outcome.HIDDEN, Outcome.PERSISTENT)
    others = [c for i, c in changes.items() if i != target]
    assert all(c.wording is None and c.samples_reworded is None for c in others)
    page = flow.report(run).read_text()
    assert "reads like “shorter”" in page and "rewording taken off" in page


def test_damage_of_reworded_prompts_is_that_of_the_samples_that_users_see(run: Run) -> None:
    target = reworded(run)
    damage = {c.prompt_id: c.damage for c in recheck(run, UNATTACKED, [], QUIET)}
    scores = run.read(f"{AFTER}/scores.jsonl", Score)
    blank = [s.model_copy(update={"detail": 0.0}) if s.condition in UNWORDED.values() else s for s in scores]
    assert sum(a != b for a, b in zip(scores, blank, strict=True)) >= 4
    run.write(f"{AFTER}/scores.jsonl", blank)
    (run.path / "changes.jsonl").unlink()
    as_if_killed(run, "recheck")
    again = {c.prompt_id: c.damage for c in recheck(run, UNATTACKED, [], QUIET)}
    assert run.read(f"{AFTER}/scores.jsonl", Score) == blank, "the samples are judged once"
    assert again[target] == damage[target]


def test_a_lost_rewording_stops_the_recheck(run: Run) -> None:
    reworded(run)
    (run.path / "rewording.safetensors").unlink()
    with pytest.raises(MemfixError, match=r"rewording\.safetensors changed"):
        recheck(run, SETTINGS, [], QUIET)


def test_a_rewording_that_nothing_tells_of_stops_the_recheck(run: Run) -> None:
    """Else its prompts would be sampled with it alone, and what it hides would be called mitigated."""
    reworded(run)
    (run.path / "rewordings.jsonl").unlink()
    with pytest.raises(MemfixError, match=r"rewordings\.jsonl changed"):
        recheck(run, SETTINGS, [], QUIET)


def test_the_same_picture_cannot_be_a_copy_before_and_none_after(run: Run, model_folder: Path) -> None:
    """Something that decides has changed behind the run's back; the least that it may not do is acquit."""
    scores = run.read("before/scores.jsonl", Score)
    far = [s.model_copy(update={"copy_": True}) for s in scores]
    run.write("before/scores.jsonl", far)
    with run.amending("detect"):  # as if so found
        pass
    with pytest.raises(MemfixError, match="was a copy before and is none now"):
        recheck(
            run,
            UNATTACKED,
            [],
            QUIET,
            weights=NewWeights.of(run, model=model_folder),
        )
    assert not run.read("changes.jsonl", Change)
