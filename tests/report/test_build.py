"""Every number of a report's summary, from a run folder that is written by hand."""

from pathlib import Path
from typing import NamedTuple

import pytest

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.findings import RuleRecord, WitnessRecord
from memfix.records import (
    Arm,
    AttackPoint,
    AttackResult,
    Change,
    ClipScore,
    Damage,
    Label,
    Outcome,
    Prompt,
    Role,
    Score,
    Verdict,
    Version,
    WitnessScore,
)
from memfix.report.build import build
from memfix.report.schema import Summary
from memfix.run.folder import Run
from memfix.run.header import DetectStage, RecheckStage
from memfix.run.inputs import DetectInputs, RecheckInputs

M, C, U = Label.MEMORIZED, Label.CLEAN, Label.UNDECIDED


class Case(NamedTuple):
    """Some prompts to which the same happens. Verdicts before rest on 4 samples, or on none of a prompt left out."""

    count: int
    before: Label
    after: Label
    outcome: Outcome | None
    copies: int = 0
    fresh: int = 0
    """Copies among 4 samples from fresh noise, after."""
    role: Role = Role.PROMPT
    wording: str | None = None
    drift: float = 0.0
    broken: float = 0.0
    samples: int = 4


CASES = [
    # 20 memorized prompts: 10 mitigated, 4 persistent, 3 hidden, 2 damaged, 1 undecided
    Case(3, M, C, Outcome.MITIGATED, copies=4),
    Case(7, M, C, Outcome.MITIGATED, copies=2, wording="owl"),
    Case(4, M, M, Outcome.PERSISTENT, copies=3, fresh=2),
    Case(1, M, M, Outcome.HIDDEN, copies=4, fresh=4, wording="cat"),
    Case(2, M, C, Outcome.HIDDEN, copies=4),
    Case(2, M, C, Outcome.DAMAGED, copies=1, broken=1.0),
    Case(1, M, U, Outcome.UNDECIDED, copies=2, fresh=1),
    # 14 other prompts of the list
    Case(4, C, C, Outcome.UNCHANGED),
    Case(1, C, C, Outcome.DAMAGED, broken=0.5),
    Case(1, C, M, Outcome.CHANGED, fresh=4),
    Case(1, U, M, Outcome.UNDECIDED, copies=1, fresh=3),
    Case(2, U, U, Outcome.UNDECIDED, copies=1),
    Case(5, C, C, None, samples=0),
    # 16 controls
    Case(8, C, C, Outcome.UNCHANGED, role=Role.CONTROL, drift=0.1),
    Case(1, M, M, Outcome.UNCHANGED, copies=4, fresh=4, role=Role.CONTROL, drift=0.2),
    Case(2, U, C, Outcome.UNCHANGED, copies=1, role=Role.CONTROL, drift=0.1),
    Case(1, C, U, Outcome.CHANGED, fresh=1, role=Role.CONTROL, drift=0.4),
    Case(1, C, M, Outcome.CHANGED, fresh=4, role=Role.CONTROL, drift=0.5),
    Case(3, C, C, Outcome.DAMAGED, role=Role.CONTROL, drift=0.5, broken=1.0),
]

BEFORE: dict[str, float] = {
    "prompts": 34, "memorized_before": 20, "clean_before": 11, "clean_sampled": 6, "not_sampled": 5,
    "undecided_before": 3,
    "copies_before": 54 / 80,  # 3*4 + 7*2 + 4*3 + 4 + 2*4 + 2*1 + 2, of 4 samples of each memorized prompt
    "controls": 16, "controls_memorized": 1, "controls_undecided": 2,
    "quality_before": 179 / 180,  # one sample is blank, of 4 samples of each of the 45 that were sampled
    "control_clip_score_before": 0.3,  # of 0.2 and 0.4
    "disputed": 1,  # the blank one, which is of a control
}  # fmt: skip
AFTER: dict[str, float] = {
    "memorized_after": 7,  # 4 persistent, 1 hidden, 2 that were not memorized before
    "mitigated": 10, "persistent": 4, "hidden": 3, "damaged": 2,
    "undecided": 4,  # 1 memorized before, 3 others
    "mitigation_rate": 0.5, "copies_after": 13 / 80,  # 4*2 + 4 + 1
    "copies_left": 13, "samples_left": 160,  # none from the same noise
    "controls_changed": 5,
    "harmed": 4,  # 1 of the list, 3 controls
    "newly_memorized": 3,  # 2 of the list, 1 control
    "attacks": 6, "known_attacks": 1, "reworded": 7,
    "control_drift": 3.6 / 16,  # 8*0.1 + 0.2 + 2*0.1 + 0.4 + 0.5 + 3*0.5
    "quality_after": 39.5 / 45,  # 2*1 + 0.5 + 3*1 are broken
    "control_clip_score_after": 0.1,
}  # fmt: skip
INTERVAL = (0.27196, 0.72804)  # Clopper and Pearson of 10 of 20, at 95 %, as in published tables


def expanded() -> dict[str, Case]:
    """One case per prompt, by id."""
    every = [case for case in CASES for _ in range(case.count)]
    return {f"{case.role.value[0]}{i:02d}": case for i, case in enumerate(every)}


def verdict(prompt_id: str, label: Label, copies: int, samples: int) -> Verdict:
    return Verdict(
        prompt_id=prompt_id, verdict=label, copies=copies, samples=samples, share=copies / max(samples, 1),
        interval=(0, 1), confidence=0.95, measure="ssim", threshold=0.72, score=0.5 if samples else None,
        reference="r.png", reason="as it is written here",
    )  # fmt: skip


def score(prompt_id: str, seed: int, copy: bool, detail: float = 0.1) -> Score:
    return Score(
        file_name=f"{prompt_id}-{seed}.png", prompt_id=prompt_id, seed=seed, reference="r.png",
        measures={"ssim": 0.9 if copy else 0.1}, copy_=copy, detail=detail,
    )  # fmt: skip


def change(prompt_id: str, case: Case, outcome: Outcome) -> Change:
    damage = Damage(
        drift=case.drift, broken=case.broken, diversity_before=None, diversity_after=None, distance_before=None,
        distance_after=None,
    )  # fmt: skip
    return Change(
        prompt_id=prompt_id, role=case.role, before=case.before, after=case.after, outcome=outcome, copies_same=0,
        samples_same=4, copies_fresh=case.fresh, samples_fresh=4, wording=case.wording, damage=damage, reason="so",
    )  # fmt: skip


def attacked(prompt_id: str, version: Version, arm: Arm) -> AttackResult:
    return AttackResult(
        attack="embedding", version=version, arm=arm, prompt_id=prompt_id, text="t", reference="r.png", unit="steps",
        curve=(AttackPoint(work=1, copies=1, samples=8),),
    )  # fmt: skip


def clip(prompt_id: str, mean: float) -> ClipScore:
    return ClipScore(prompt_id=prompt_id, mean=mean, samples=4)


def write_detection(run: Run, cases: dict[str, Case]) -> None:
    run.write("prompts.jsonl", [Prompt(id=i, text=f"text {i}", role=c.role) for i, c in cases.items()])
    run.write("before/verdicts.jsonl", [verdict(i, c.before, c.copies, c.samples) for i, c in cases.items()])
    scores = [score(i, seed, seed < c.copies) for i, c in cases.items() for seed in range(c.samples)]
    told = {"structure": WitnessScore(value=0.9, reference="x.png", copy_=True)}
    blank = scores[-1].model_copy(update={"detail": 0.0, "witnesses": told})
    memorized = {"p03"}  # what is disputed of it says no more
    scores = [s.model_copy(update={"witnesses": told}) if s.prompt_id in memorized else s for s in scores]
    run.write("before/scores.jsonl", [*scores[:-1], blank])
    run.write("before/clip_scores.jsonl", [clip("p00", 0.9), clip("c34", 0.2), clip("c35", 0.4)])
    inputs = DetectInputs(
        prompts="0", model_sha256="0", model_config_sha256="0", references=None, index=None, measure="0"
    )
    run.header.stages.detect = DetectStage(
        settings=DetectSettings(), inputs=inputs, status="finished", timings={"seconds": 2.5},
        rule=RuleRecord(measure="ssim", threshold=0.72, source="by hand"),
        witnesses=[
            WitnessRecord(
                measure="structure", threshold=0.7, default=0.7, identity="0", background=None
            )
        ],
    )  # fmt: skip


def write_recheck(run: Run, cases: dict[str, Case]) -> None:
    made = {i: c for i, c in cases.items() if c.outcome}
    run.write("after/verdicts.jsonl", [verdict(i, c.after, c.fresh, 8) for i, c in made.items()])
    run.write("changes.jsonl", [change(i, c, c.outcome) for i, c in made.items() if c.outcome])
    run.write("after/scores.jsonl", [score(i, 4, c.fresh > 0) for i, c in made.items()])
    run.write("after/clip_scores.jsonl", [clip("p00", 0.8), clip("c34", 0.1)])
    run.write(
        "after/attacks.jsonl", [attacked("p18", version, arm) for version in Version for arm in Arm]
    )  # of which only the one on an erased picture in the new weights is told of the prompt
    run.header.stages.recheck = RecheckStage(
        settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"), status="finished",
        attacks=list("abcdef"), attacks_trained_against=["a"],
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a finished re-check."""
    made, cases = Run.create(tmp_path / "run"), expanded()
    write_detection(made, cases)
    write_recheck(made, cases)
    return made


def told(summary: Summary) -> dict[str, float]:
    """The numbers of a summary that are one number each, and are there."""
    values = summary.model_dump(exclude={"mitigation_rate_interval"})
    return {name: value for name, value in values.items() if value is not None}


def test_the_cases_name_every_number() -> None:
    cases = expanded()
    assert (len(cases), cases["p18"].outcome, cases["c34"].role) == (50, Outcome.DAMAGED, Role.CONTROL)
    assert BEFORE.keys() | AFTER.keys() | {"mitigation_rate_interval"} == Summary.model_fields.keys()
    assert not BEFORE.keys() & AFTER.keys()


def test_every_number_of_the_summary(run: Run) -> None:
    summary = build(run).summary
    assert told(summary) == pytest.approx(BEFORE | AFTER)
    assert summary.mitigation_rate_interval == pytest.approx(INTERVAL, abs=1e-5)


@pytest.mark.parametrize("status", [None, "started", "failed", "cancelled"])
def test_without_a_finished_recheck_nothing_is_said_of_the_new_weights(run: Run, status: str | None) -> None:
    """Whatever an unfinished one has left in the folder."""
    if status is None:
        run.header.stages.recheck = None
    else:
        assert run.header.stages.recheck
        run.header.stages.recheck.status = status
    report = build(run)
    assert told(report.summary) == pytest.approx(BEFORE)
    assert report.summary.mitigation_rate_interval is None
    assert not any(e.outcome or e.verdict_after or e.attacks or e.samples_after for e in report.prompts)


def test_without_memorized_prompts_there_is_no_rate(tmp_path: Path) -> None:
    run, cases = Run.create(tmp_path / "run"), {i: c for i, c in expanded().items() if c.before is C and c.outcome}
    write_detection(run, cases)
    write_recheck(run, cases)
    summary = build(run).summary
    assert (summary.mitigated, summary.mitigation_rate, summary.mitigation_rate_interval) == (0, None, None)
    assert (summary.copies_before, summary.copies_after) == (0.0, None)


def test_disputed_samples_are_listed_with_what_they_may_show_unless_the_prompt_is_memorized_anyway(run: Run) -> None:
    [found] = build(run).disputed
    assert (found.witness, found.value, found.threshold) == ("structure", 0.9, 0.7)
    assert found.sample.path == f"before/{found.prompt_id}-3.png" and found.reference.path == "x.png"
    assert expanded()[found.prompt_id].before is not M


def test_entries_are_those_of_their_prompts(run: Run) -> None:
    report, cases = build(run), expanded()
    assert {e.id: e.outcome for e in [*report.prompts, *report.controls]} == {i: c.outcome for i, c in cases.items()}
    assert {e.role for e in report.prompts} == {Role.PROMPT} and {e.role for e in report.controls} == {Role.CONTROL}
    assert {e.id: len(e.attacks) for e in report.prompts if e.attacks} == {"p18": 1}
    [attack] = next(e for e in report.prompts if e.id == "p18").attacks
    assert (attack.version, attack.arm) == (Version.AFTER, Arm.TARGET)
    assert {e.id for e in report.prompts if not e.sampled} == {i for i, c in cases.items() if not c.samples}
    first = report.prompts[0]
    assert (first.scores_before.copies, first.scores_before.samples, first.scores_before.share) == (4, 4, 1.0)
    assert (first.clip_score_before, first.clip_score_after) == (0.9, 0.8)
    assert report.timings["detect.seconds"] == 2.5 and report.run.rechecked and not report.run.unlearned
