"""`--fail-on`: which findings end a command with exit code 3, before a re-check and after it."""

from pathlib import Path
from typing import Any

import pytest
import typer

from memfix.cli.fail_on import FailGate, Ground, after_recheck, before_recheck
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.records import Change, Damage, Label, Outcome, Prompt, Role, Verdict
from memfix.run.folder import Run
from memfix.run.header import DetectStage, RecheckStage, UnlearnStage
from memfix.run.inputs import DetectInputs, RecheckInputs, UnlearnInputs

DAMAGE = Damage(
    drift=0.1, broken=0, diversity_before=None, diversity_after=None, distance_before=None, distance_after=None
)


def verdict(prompt: str, label: Label) -> Verdict:
    return Verdict(
        prompt_id=prompt, verdict=label, copies=4, samples=4, share=1, interval=(0.5, 1), confidence=0.95,
        measure="ssim", threshold=0.72, score=0.9, reference="r.png", reason="so",
    )  # fmt: skip


def change(outcome: Outcome, after: Label = Label.CLEAN, role: Role = Role.PROMPT, **more: Any) -> Change:
    return Change(
        prompt_id="p1", role=role, before=Label.MEMORIZED, after=after, outcome=outcome, copies_same=0, samples_same=4,
        copies_fresh=0, samples_fresh=4, reason="so", damage=DAMAGE, **more,
    )  # fmt: skip


def detected(folder: Path, label: Label) -> Run:
    run = Run.create(folder)
    run.write("prompts.jsonl", [Prompt(id="p1", text="a disc")])
    run.write("before/verdicts.jsonl", [verdict("p1", label)])
    return run


def code(run: Run, *words: str) -> int:
    try:
        FailGate.of(list(words)).judge(run, Talk(quiet=True))
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_several_findings_are_given_together_or_one_by_one() -> None:
    assert FailGate.of(["hidden, memorized"]) == FailGate.of(["memorized", "hidden"])
    assert FailGate.of(None).findings == ()


@pytest.mark.parametrize("words", ["clean", "memorised", "memorized,", "memorized,mitigated"])
def test_what_is_no_finding_is_refused(words: str) -> None:
    with pytest.raises(MemfixError, match="knows no finding") as caught:
        FailGate.of([words])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("label", "hits"),
    [
        (Label.MEMORIZED, {"memorized", "persistent"}),  # nothing shows that it is not
        (Label.UNDECIDED, {"undecided"}),
        (Label.CLEAN, set()),
    ],
)
def test_before_a_recheck(tmp_path: Path, label: Label, hits: set[str]) -> None:
    run = detected(tmp_path / "run", label)
    assert {f.value for f in Ground if code(run, f.value)} == hits
    assert code(run, *(f.value for f in Ground)) == (3 if hits else 0)


def test_what_only_a_recheck_can_tell_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(detected(tmp_path / "run", Label.MEMORIZED), "hidden") == 0
    assert "Whether a prompt is hidden is not known before a re-check" in capsys.readouterr().err


def test_an_undecided_control_is_no_finding_and_a_memorized_one_is() -> None:
    found = before_recheck(
        [verdict("c1", Label.UNDECIDED), verdict("c2", Label.MEMORIZED)], {"c1": Role.CONTROL, "c2": Role.CONTROL}
    )
    assert (found[Ground.UNDECIDED], found[Ground.MEMORIZED]) == (0, 1)


@pytest.mark.parametrize(
    ("outcome", "after", "hits"),
    [
        (Outcome.MITIGATED, Label.CLEAN, set()),
        (Outcome.PERSISTENT, Label.MEMORIZED, {"memorized", "persistent"}),
        (Outcome.PERSISTENT, Label.CLEAN, {"memorized", "persistent"}),  # as it is reworded
        (Outcome.HIDDEN, Label.CLEAN, {"memorized", "hidden"}),
        (Outcome.DAMAGED, Label.CLEAN, {"damaged"}),
        (Outcome.UNDECIDED, Label.UNDECIDED, {"undecided"}),
        (Outcome.CHANGED, Label.MEMORIZED, {"memorized"}),  # newly memorized
        (Outcome.UNCHANGED, Label.CLEAN, set()),
    ],
)
def test_after_a_recheck(tmp_path: Path, outcome: Outcome, after: Label, hits: set[str]) -> None:
    found = after_recheck([change(outcome, after)])
    assert {f.value for f in Ground if found[f]} == hits
    run = detected(tmp_path / "run", Label.MEMORIZED)
    rechecked(run, change(outcome, after))
    assert {f.value for f in Ground if code(run, f.value)} == hits


def detected_by(run: Run, doubt: str = "") -> Run:
    """The run with the header of its first check."""
    inputs = DetectInputs(
        prompts="0", model_sha256="0", model_config_sha256="0", references=None, index=None, measure="0"
    )
    run.header.stages.detect = DetectStage(
        settings=DetectSettings(model="demo"), inputs=inputs, status="finished", sampling_doubt=doubt
    )
    return run


def rechecked(run: Run, *found: Change) -> Run:
    """The run with a re-check that found this."""
    run.write("changes.jsonl", found)
    run.header.stages.recheck = RecheckStage(
        settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"), status="finished"
    )
    return run


def test_what_no_user_draws_is_undecided(tmp_path: Path) -> None:
    """Samples of too few steps show no copies whatever the model holds."""
    doubted = detected_by(detected(tmp_path / "run", Label.CLEAN), "Drawn in 1 step.")
    assert code(doubted, "undecided") == 3 and code(doubted, "memorized", "persistent") == 0
    for mitigated in (change(Outcome.MITIGATED), change(Outcome.UNCHANGED)):
        assert code(rechecked(doubted, mitigated), "undecided") == 3
    assert code(rechecked(doubted, change(Outcome.UNCHANGED, role=Role.CONTROL)), "undecided") == 0
    assert code(detected_by(detected(tmp_path / "sound", Label.CLEAN)), "undecided") == 0


def test_what_was_seen_to_copy_outside_the_list_is_memorized(tmp_path: Path) -> None:
    run = rechecked(detected_by(detected(tmp_path / "run", Label.MEMORIZED)), change(Outcome.MITIGATED))
    assert code(run, *Ground) == 0
    run.header.stages.unlearn = UnlearnStage(
        settings=UnlearnSettings(), inputs=UnlearnInputs(), status="finished", copied_besides={"owl": "owl.png"}
    )
    assert {f.value for f in Ground if code(run, f.value)} == {"memorized", "persistent"}


def test_a_damaged_control_counts() -> None:
    assert after_recheck([change(Outcome.DAMAGED, role=Role.CONTROL)])[Ground.DAMAGED] == 1
