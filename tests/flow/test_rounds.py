"""A closed loop that goes on from what its re-check saw, on a tiny pipeline."""

import shutil
from pathlib import Path

import pytest

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow.rounds import fresh_seeds, open_again
from memfix.flow.training import ADVERSARIAL, VALIDATIONS
from memfix.inputs.prompts import id_of
from memfix.records import Change, Outcome, Role, Sample, Step, Validation
from memfix.run.folder import Run
from memfix.run.outputs import MODEL
from tests.detected import FEW, detected_run

pytestmark = pytest.mark.slow  # a detection, trainings and re-checks

QUIET = Talk(quiet=True)
RECHECK = RecheckSettings(num_fresh=2, fresh_seed=500, attacks="none")
SETTINGS = UnlearnSettings(**FEW | {
    "loop": "closed", "max_train_steps": 60, "validation_steps": 2, "validation_inference_steps": 2,
    "num_validation_images": 1, "clean_validations": 1, "max_broken": 1.0, "max_drift": 99.0, "learning_rate": 0.02,
    "rank": 2, "reword": False, "keep_variants": 0, "adversarial_steps": 0,
})  # fmt: skip


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    run = Run.open(detected_run(tmp_path_factory.mktemp("rounds"), model_folder, reference_folder))
    with run.lock(), run.amending("detect"):
        detected = run.header.stages.detect
        assert detected and detected.rule
        detected.rule = detected.rule.model_copy(update={"threshold": 0.001})  # what copied before does not from now on
    flow.unlearn(run, SETTINGS, [], QUIET)
    flow.recheck(run, RECHECK, [], QUIET)
    return run.path


@pytest.fixture
def run(checked: Path, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(checked, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))))


def changes(run: Run, **outcomes: Outcome) -> list[Change]:
    """What the re-check said, with other outcomes for some prompts."""
    found = run.read("changes.jsonl", Change)
    return [c.model_copy(update={"outcome": outcomes.get(c.prompt_id, Outcome.MITIGATED), "copies_fresh": 1})
            if c.role is Role.PROMPT else c for c in found]  # fmt: skip


def ending_of(run: Run) -> int:
    assert run.header.stages.unlearn and run.header.stages.unlearn.ending
    assert run.header.stages.unlearn.ending.reason == "clean"
    return run.header.stages.unlearn.ending.step


def test_it_goes_on_with_what_the_recheck_saw_and_draws_other_noise(run: Run) -> None:
    first, ids = ending_of(run), [c.prompt_id for c in changes(run) if c.role is Role.PROMPT]
    assert open_again(run, changes(run, **{ids[0]: Outcome.PERSISTENT}), 3, QUIET)
    assert not (run.path / MODEL).exists() and not (run.path / "changes.jsonl").exists()
    seen = run.read(VALIDATIONS, Validation)[-1]
    assert (seen.step, seen.copies.keys(), seen.samples) == (first, {ids[0]}, 6)
    assert not run.finished("unlearn")

    flow.unlearn(run, SETTINGS, [], QUIET)
    assert ending_of(run) > first
    steps = [s.step for s in run.read("training.jsonl", Step)]
    assert steps == list(range(1, steps[-1] + 1))  # none is taken twice
    looked = run.read(VALIDATIONS, Validation)
    after = [v for v in looked if v.step > first]
    assert after[0].copies.keys() == {ids[0]} and after[-1].copies.keys() == set(ids)  # at the end all are looked at
    flow.recheck(run, RECHECK, [], QUIET)
    assert {s.seed for s in run.read("after/metadata.jsonl", Sample) if s.condition == "fresh"} == {502, 503}
    [told] = run.header.stages.unlearn.rounds
    assert (told.step, told.persistent, told.hidden, told.last_seed) == (first, [ids[0]], [], 501)


def test_without_copies_or_another_round_nothing_is_opened(run: Run) -> None:
    ids = [c.prompt_id for c in changes(run) if c.role is Role.PROMPT]
    assert not open_again(run, changes(run), 3, QUIET)
    assert not open_again(run, changes(run, **{ids[0]: Outcome.PERSISTENT}), 1, QUIET)
    assert not open_again(run, changes(run, **{ids[0]: Outcome.HIDDEN}), 3, QUIET)  # plain steps see no attack
    assert run.finished("unlearn") and (run.path / MODEL).exists()
    run.require_intact("unlearn", "recheck")


def test_what_an_attack_brought_back_is_unlearned_against_that_attack(run: Run) -> None:
    settings = SETTINGS.model_copy(update={"adversarial_steps": None})
    flow.unlearn(run, settings, [], QUIET, overwrite=True)
    flow.recheck(run, RECHECK, [], QUIET)
    plain, before = run.read(VALIDATIONS, Validation), run.read(ADVERSARIAL.validations, Validation)
    ids = [c.prompt_id for c in changes(run) if c.role is Role.PROMPT]
    assert open_again(run, changes(run, **{ids[0]: Outcome.HIDDEN}), 3, QUIET)
    flow.unlearn(run, settings, [], QUIET)
    after = run.read(ADVERSARIAL.validations, Validation)
    assert after[: len(before)] == before and after[len(before)].copies.keys() == {ids[0]}
    assert after[-1].step > before[-1].step and run.read(VALIDATIONS, Validation) == plain


def test_a_loop_that_could_not_forget_is_not_opened(run: Run) -> None:
    stage, found = run.header.stages.unlearn, run.read(VALIDATIONS, Validation)
    assert stage
    stage.settings = SETTINGS.model_copy(update={"max_train_steps": found[-1].step})
    ids = [c.prompt_id for c in changes(run) if c.role is Role.PROMPT]
    assert not open_again(run, changes(run, **{ids[0]: Outcome.PERSISTENT}), 3, QUIET)


def test_fresh_noise_begins_after_that_of_earlier_rounds(run: Run) -> None:
    assert fresh_seeds(run, RECHECK) == range(500, 502)
    assert open_again(run, changes(run, **{id_of(text): Outcome.PERSISTENT for text in ("disc", "cat")}), 2, QUIET)
    assert fresh_seeds(run, RECHECK) == range(502, 504)
    assert fresh_seeds(run, RECHECK.model_copy(update={"fresh_seed": 900})) == range(900, 902)
