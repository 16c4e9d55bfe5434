"""`--fail-on`: which findings end a command with exit code 3, before a re-check and after it."""

from pathlib import Path
from typing import Any

import pytest
import typer

from memfix.cli.fail_on import FailGate, Ground, after_recheck, before_recheck
from memfix.config.checks import RecheckSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.records import Change, Damage, Label, Outcome, Prompt, Role, Verdict
from memfix.run.folder import Run
from memfix.run.header import RecheckStage
from memfix.run.inputs import RecheckInputs

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
    run.write("changes.jsonl", [change(outcome, after)])
    run.header.stages.recheck = RecheckStage(
        settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"), status="finished"
    )
    assert {f.value for f in Ground if code(run, f.value)} == hits


def test_a_damaged_control_counts() -> None:
    assert after_recheck([change(Outcome.DAMAGED, role=Role.CONTROL)])[Ground.DAMAGED] == 1
