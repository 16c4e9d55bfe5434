"""What a command says at its end."""

from pathlib import Path

import pytest

from memfix.cli.options import Call
from memfix.cli.show import changes
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.records import Change, Damage, Label, Outcome, Prompt, Role, Verdict
from memfix.run.folder import Run
from memfix.run.header import RecheckStage, UnlearnStage
from memfix.run.inputs import RecheckInputs, UnlearnInputs


def rechecked(folder: Path, outcome: Outcome, own: bool = True, **settings: int) -> Run:
    """A run with one memorized prompt, as a re-check leaves it."""
    run = Run.create(folder)
    run.write("prompts.jsonl", [Prompt(id="p1", text="a disc")])
    run.write("before/verdicts.jsonl", [Verdict(
        prompt_id="p1", verdict=Label.MEMORIZED, copies=4, samples=4, share=1, interval=(0.5, 1), confidence=0.95,
        measure="ssim", threshold=0.72, score=0.9, reference="r.png", reason="so",
    )])  # fmt: skip
    run.write("changes.jsonl", [Change(
        prompt_id="p1", role=Role.PROMPT, before=Label.MEMORIZED, after=Label.CLEAN, outcome=outcome, copies_same=0,
        samples_same=4, copies_fresh=0, samples_fresh=4, reason="so", damage=Damage(
            drift=0.1, broken=0, diversity_before=None, diversity_after=None, distance_before=None, distance_after=None,
        ),
    )])  # fmt: skip
    stages, trained = run.header.stages, UnlearnSettings(max_train_steps=80, **settings)
    stages.unlearn = UnlearnStage(settings=trained, inputs=UnlearnInputs(), status="finished")
    stages.recheck = RecheckStage(
        settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"), status="finished", own=own
    )
    return run


@pytest.mark.parametrize(
    ("outcome", "own", "settings", "told"),
    [
        (Outcome.HIDDEN, True, {}, True),
        (Outcome.HIDDEN, True, {"adversarial_steps": 80}, False),
        (Outcome.HIDDEN, False, {}, False),
        (Outcome.MITIGATED, True, {}, False),
    ],
    ids=["hidden", "trained against it", "other weights", "mitigated"],
)
def test_who_can_do_something_about_hidden_images_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    own: bool,
    settings: dict[str, int],
    told: bool,
) -> None:
    run = rechecked(tmp_path / "run", outcome, own, **settings)
    changes(Call(Talk()), run)
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert ("--overwrite --adversarial-steps 80" in " ".join(said.split())) is told
    assert outcome.value in said and "Next: memfix report" in said


@pytest.mark.parametrize(
    ("outcome", "own", "settings", "told"),
    [
        (Outcome.PERSISTENT, True, {}, "--loop closed --max-train-steps 0"),
        (Outcome.PERSISTENT, True, {"loop": "closed", "clean_validations": 3}, "--clean-validations 6"),
        (Outcome.PERSISTENT, False, {}, None),
        (Outcome.MITIGATED, True, {}, None),
    ],
    ids=["steps were given", "a closed loop", "other weights", "mitigated"],
)
def test_who_can_do_something_about_persistent_prompts_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: Outcome, own: bool, settings: dict, told: str | None
) -> None:
    changes(Call(Talk()), rechecked(tmp_path / "run", outcome, own, **settings))
    said = " ".join(capsys.readouterr().err.split())
    assert ("still gives copies" in said) is bool(told)
    assert f"--overwrite {told}" in said if told else "--overwrite" not in said


def test_a_prompt_that_copies_for_the_first_time_is_not_just_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rechecked(tmp_path / "run", Outcome.CHANGED)
    change = run.read("changes.jsonl", Change)[0]
    run.write("changes.jsonl", [change.model_copy(update={"before": Label.CLEAN, "after": Label.MEMORIZED})])
    changes(Call(Talk()), run)
    assert "changed (memorized now)" in capsys.readouterr().out
