"""What the report says to do next about a prompt that is not mitigated."""

from typing import Any

import pytest

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.records import Change, Damage, Label, Outcome, Role, Verdict
from memfix.report.next_steps import next_step
from memfix.run.header import DetectStage, RecheckStage, Stages, UnlearnStage
from memfix.run.inputs import DetectInputs, RecheckInputs, UnlearnInputs

M, C, U = Label.MEMORIZED, Label.CLEAN, Label.UNDECIDED


def stages(own: bool = True, **settings: Any) -> Stages:
    inputs = DetectInputs(
        prompts="0", model_sha256="0", model_config_sha256="0", references=None, index=None, measure="0"
    )
    return Stages(
        detect=DetectStage(settings=DetectSettings(), inputs=inputs),
        unlearn=UnlearnStage(settings=UnlearnSettings(**settings), inputs=UnlearnInputs()),
        recheck=RecheckStage(settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"), own=own),
    )


def verdict(label: Label, disputed: int = 0) -> Verdict:
    return Verdict(
        prompt_id="p1", verdict=label, copies=0, samples=4, share=0, interval=(0, 1), confidence=0.95, measure="ssim",
        threshold=0.72, score=0.5, reference="r.png", reason="so", disputed=disputed,
    )  # fmt: skip


def step(
    outcome: Outcome,
    made: Stages,
    before: Label = M,
    after: Label = C,
    wording: str | None = None,
    disputed: int = 0,
    by_attacks: int = 0,
) -> str | None:
    damage = Damage(
        drift=0, broken=0, diversity_before=None, diversity_after=None, distance_before=None, distance_after=None
    )
    change = Change(
        prompt_id="p1", role=Role.PROMPT, before=before, after=after, outcome=outcome, copies_same=0, samples_same=4,
        copies_fresh=0, samples_fresh=4, wording=wording, damage=damage, reason="so",
    )  # fmt: skip
    found = next_step(change, verdict(before), verdict(after, disputed), made, "my run", by_attacks)
    return found.command if found else None


@pytest.mark.parametrize(
    ("outcome", "settings", "command"),
    [
        (Outcome.PERSISTENT, {}, "memfix unlearn 'my run' --overwrite --clean-validations 4"),
        (Outcome.PERSISTENT, {"max_train_steps": 40}, "unlearn 'my run' --overwrite --loop closed --max-train-steps 0"),
        (Outcome.HIDDEN, {"max_train_steps": 40}, "memfix unlearn 'my run' --overwrite --adversarial-steps 40"),
        (Outcome.HIDDEN, {"max_train_steps": 40, "adversarial_steps": 75}, "--overwrite --adversarial-steps 150"),
        (Outcome.HIDDEN, {"adversarial_steps": 75}, "memfix unlearn 'my run' --overwrite --clean-validations 4"),
        (Outcome.DAMAGED, {"learning_rate": 0.0002}, "memfix unlearn 'my run' --overwrite --learning-rate 0.0001"),
    ],
)
def test_of_the_runs_own_weights(outcome: Outcome, settings: dict[str, Any], command: str) -> None:
    assert command in (step(outcome, stages(**settings)) or "")


def test_what_only_a_rewording_hides_is_unlearned_without_one() -> None:
    assert step(Outcome.HIDDEN, stages(), after=M, wording="owl") == "memfix unlearn 'my run' --overwrite --no-reword"


@pytest.mark.parametrize("outcome", [Outcome.PERSISTENT, Outcome.HIDDEN, Outcome.DAMAGED])
def test_other_weights_are_detected_on_first(outcome: Outcome) -> None:
    assert "memfix detect PROMPTS" in (step(outcome, stages(own=False)) or "")


def test_undecided_prompts() -> None:
    assert step(Outcome.UNDECIDED, stages(), after=U, disputed=2) == "memfix review 'my run'"
    assert step(Outcome.UNDECIDED, stages(), by_attacks=1) == "memfix review 'my run'"
    assert step(Outcome.UNDECIDED, stages()) is None
    assert step(Outcome.UNDECIDED, stages(), before=U) == "memfix detect PROMPTS --num-samples 32"
    assert step(Outcome.UNDECIDED, stages(), after=U) == "memfix recheck 'my run' --overwrite --num-fresh 32"


@pytest.mark.parametrize("outcome", [Outcome.MITIGATED, Outcome.UNCHANGED, Outcome.CHANGED])
def test_where_nothing_is_to_be_mended_nothing_is_said(outcome: Outcome) -> None:
    assert step(outcome, stages()) is None
