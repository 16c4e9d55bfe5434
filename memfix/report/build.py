"""Run folder → report.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from memfix.errors import MemfixError
from memfix.files import write_atomic
from memfix.quality import broken_share, detail_range
from memfix.records import (
    Arm,
    AttackResult,
    Change,
    ClipScore,
    Label,
    Outcome,
    Prompt,
    Reference,
    Review,
    Role,
    Score,
    Verdict,
    Version,
)
from memfix.references.groups import representatives, sizes
from memfix.report.next_steps import NextStep, next_step
from memfix.report.schema import Disputed, Picture, PromptEntry, Report, ReportedRun, Summary, VerdictNumbers
from memfix.report.sections import told
from memfix.report.training import training
from memfix.run.disputes import disputed_by_attacks
from memfix.run.folder import Run
from memfix.run.header import DetectStage
from memfix.run.outputs import AFTER, ATTACK_RESULTS, BEFORE, CHANGES, REVIEWS
from memfix.run.references import recorded_references
from memfix.stats import clopper_pearson

NAME = "report.json"


def build(run: Run) -> Report:
    """Put a report together from what a run folder holds. After `detect` alone it has no second half."""
    if not run.finished("detect"):
        raise MemfixError(
            f"There is no finished detection in {run.path} to report on.",
            "Run the same 'memfix detect' again to finish it.",
        )
    prompts = run.read("prompts.jsonl", Prompt)
    rechecked = run.finished("recheck")
    before = {v.prompt_id: v for v in run.read("before/verdicts.jsonl", Verdict)}
    after = {v.prompt_id: v for v in run.read("after/verdicts.jsonl", Verdict)} if rechecked else {}
    changes = {c.prompt_id: c for c in run.read(CHANGES, Change)} if rechecked else {}
    scores_before = _by_prompt(run.read("before/scores.jsonl", Score))
    scores_after = _by_prompt(run.read("after/scores.jsonl", Score)) if rechecked else {}
    pictures = _references(recorded_references(run))
    detected = run.header.stages.detect
    assert detected
    fits_before = _clip_scores(run, BEFORE)
    fits_after = _clip_scores(run, AFTER) if rechecked else {}
    attacks = [
        a
        for a in (run.read(ATTACK_RESULTS, AttackResult) if rechecked else [])
        if a.version is Version.AFTER and a.arm is Arm.TARGET
    ]
    by_attacks = disputed_by_attacks(run)
    to_judge = Counter(sample.score.prompt_id for sample in by_attacks if sample.score.judged is None)
    entries = [
        _entry(
            p, before[p.id], after.get(p.id), changes.get(p.id), scores_before.get(p.id, []),
            scores_after.get(p.id, []), pictures, detected,
        ).model_copy(
            update={
                "next_step": _next_step(run, before[p.id], after.get(p.id), changes.get(p.id), to_judge[p.id]),
                "clip_score_before": fits_before.get(p.id), "clip_score_after": fits_after.get(p.id),
                "attacks": [a for a in attacks if a.prompt_id == p.id],
            }
        )
        for p in prompts
    ]  # fmt: skip
    checks = ((BEFORE, before, scores_before), (AFTER, after, scores_after))
    unsettled = [
        (f"{folder}/{score.file_name}", score)
        for folder, verdicts, scores in checks
        for i, own in scores.items()
        for score in own
        if score.judged is not None or (score.accused and verdicts[i].verdict is not Label.MEMORIZED)
    ]
    unsettled += [(sample.picture, sample.score) for sample in by_attacks]
    by = {r.picture: r.by for r in run.read(REVIEWS, Review)}
    disputed = _disputed(unsettled, by, {p.id: p.text for p in prompts}, pictures, detected)
    controls = [p.id for p in prompts if p.role is Role.CONTROL]
    rechecking = run.header.stages.recheck
    made = len(rechecking.attacks) if rechecking else 0
    known = len(rechecking.attacks_trained_against) if rechecking else 0
    return Report(
        run=_run(run),
        summary=_summary(prompts, before, changes, scores_before, detected, made, known).model_copy(
            update={
                "disputed": sum(d.judged is None for d in disputed),
                "control_clip_score_before": _mean(fits_before, controls),
                "control_clip_score_after": _mean(fits_after, controls),
            }
        ),
        prompts=[e for e in entries if e.role is Role.PROMPT],
        controls=[e for e in entries if e.role is Role.CONTROL],
        disputed=disputed,
        training=training(run),
        sections=told(run),
        timings={
            f"{name}.{k}": v for name, stage in run.header.stages.begun().items() for k, v in stage.timings.items()
        },
        environment=run.header.environment,
    )


def write_report(folder: Path, report: Report) -> None:
    """Write report.json to a folder."""
    write_atomic(folder / NAME, json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n")


def _mean(values: Mapping[str, float], ids: Sequence[str]) -> float | None:
    own = [values[i] for i in ids if i in values]
    return sum(own) / len(own) if own else None


def _clip_scores(run: Run, folder: str) -> dict[str, float]:
    return {a.prompt_id: a.mean for a in run.read(f"{folder}/clip_scores.jsonl", ClipScore)}


def _by_prompt(scores: Sequence[Score]) -> dict[str, list[Score]]:
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.prompt_id, []).append(score)
    return groups


def _references(references: Sequence[Reference]) -> dict[str, Picture]:
    """File name → the picture that stands for its near-copies."""
    stands, members, paths = representatives(references), sizes(references), {r.file_name: r.path for r in references}
    return {name: Picture(path=paths[group], members=members[group]) for name, group in stands.items()}


def _entry(
    prompt: Prompt, before: Verdict, after: Verdict | None, change: Change | None, scores_before: Sequence[Score],
    scores_after: Sequence[Score], pictures: dict[str, Picture], detected: DetectStage,
) -> PromptEntry:  # fmt: skip
    shown = [before.reference, *(s.shows for s in [*scores_before, *scores_after] if s.copy_)]
    # without training images, a sample of a prompt that is not memorized stood in and is no reference of the run
    references = {p.path: p for name in shown if name for p in [pictures.get(name, Picture(path=f"before/{name}"))]}
    origin = detected.rule.source if detected.rule else None
    return PromptEntry(
        id=prompt.id, text=prompt.text, role=prompt.role, source=prompt.source, cut_tokens=prompt.cut_tokens,
        verdict_before=before.verdict, verdict_after=after.verdict if after else None,
        outcome=change.outcome if change else None, reason=change.reason if change else before.reason,
        scores_before=_numbers(before, origin), scores_after=_numbers(after, origin) if after else None,
        kind=before.kind, sampled=before.samples > 0,
        background=detected.background,
        references=list(references.values()), damage=change.damage if change else None,
        wording=change.wording if change else None,
        copies_reworded=change.copies_reworded if change else None,
        samples_reworded=change.samples_reworded if change else None,
        samples_before=[_picture(f"{BEFORE}/{s.file_name}", s) for s in scores_before],
        samples_after=[_picture(f"{AFTER}/{s.file_name}", s) for s in scores_after],
    )  # fmt: skip


def _next_step(
    run: Run, before: Verdict, after: Verdict | None, change: Change | None, disputed: int
) -> NextStep | None:
    if change is None or after is None:
        return None
    return next_step(change, before, after, run.header.stages, run.path.name, disputed)


def _numbers(verdict: Verdict, origin: str | None) -> VerdictNumbers:
    return VerdictNumbers(
        copies=verdict.copies, samples=verdict.samples, share=verdict.share, interval=verdict.interval,
        measure=verdict.measure, threshold=verdict.threshold, threshold_source=origin,
        closest=verdict.score, common_area=verdict.common_area, disputed=verdict.disputed,
    )  # fmt: skip


def _picture(path: str, score: Score) -> Picture:
    return Picture(
        path=path, seed=score.seed, condition=score.condition, copy=score.copy_, part=score.part,
        measures=score.measures,
    )  # fmt: skip


def _disputed(
    scores: Sequence[tuple[str, Score]], by: Mapping[str, str], texts: Mapping[str, str],
    pictures: Mapping[str, Picture], detect: DetectStage,
) -> list[Disputed]:  # fmt: skip
    """What is disputed, first what nobody has judged, and where the witness is surest.

    scores: with the path of each sample; by: path of a sample → who judged it.
    """
    thresholds = {w.measure: w.threshold for w in detect.witnesses}
    found = [
        Disputed(
            prompt_id=s.prompt_id, text=texts[s.prompt_id], sample=_picture(path, s), witness=name, value=told.value,
            reference=pictures.get(told.reference, Picture(path=told.reference)), threshold=thresholds[name],
            judged=s.judged, by=by.get(path) if s.judged is not None else None,
        )
        for path, s in scores
        for name, told in [(name, told) for name, told in s.witnesses.items() if told.copy_][:1]
    ]  # fmt: skip
    return sorted(found, key=lambda d: (d.judged is not None, d.witness, -abs(d.value - d.threshold)))


def _summary(
    prompts: Sequence[Prompt], before: dict[str, Verdict], changes: dict[str, Change],
    scores_before: dict[str, list[Score]], detected: DetectStage, attacks: int, known_attacks: int,
) -> Summary:  # fmt: skip
    own = [p for p in prompts if p.role is Role.PROMPT]
    controls = [p for p in prompts if p.role is Role.CONTROL]
    labels = [before[p.id].verdict for p in own]
    found = [p for p in own if before[p.id].verdict is Label.MEMORIZED]
    share_before = _share(sum(before[p.id].copies for p in found), sum(before[p.id].samples for p in found))
    every_score = [s for scores in scores_before.values() for s in scores]
    clean, not_sampled = labels.count(Label.CLEAN), sum(not before[p.id].samples for p in own)
    control_labels = [before[p.id].verdict for p in controls]
    base = {
        "prompts": len(own), "memorized_before": labels.count(Label.MEMORIZED), "clean_before": clean,
        "clean_sampled": clean - not_sampled, "not_sampled": not_sampled,
        "undecided_before": labels.count(Label.UNDECIDED), "copies_before": share_before or 0.0,
        "controls": len(controls), "controls_memorized": control_labels.count(Label.MEMORIZED),
        "controls_undecided": control_labels.count(Label.UNDECIDED),
        "quality_before": 1 - broken_share(every_score, detail_range(every_score, detected.reference_detail)),
    }  # fmt: skip
    if not changes:
        absent = (
            "memorized_after", "mitigated", "persistent", "hidden", "damaged", "harmed", "newly_memorized",
            "attacks", "known_attacks", "reworded", "undecided",
            "mitigation_rate", "mitigation_rate_interval", "copies_after", "controls_changed", "control_drift",
            "quality_after", "copies_left", "samples_left",
        )  # fmt: skip
        return Summary(**base, **dict.fromkeys(absent))
    outcomes = [changes[p.id].outcome for p in own if p.id in changes]
    targets = [changes[p.id] for p in found]
    mitigated = sum(c.outcome is Outcome.MITIGATED for c in targets)
    fresh = _share(sum(c.copies_fresh for c in targets), sum(c.samples_fresh for c in targets))
    every = list(changes.values())
    return Summary(
        **base,
        memorized_after=sum(changes[p.id].after is Label.MEMORIZED for p in own if p.id in changes),
        mitigated=outcomes.count(Outcome.MITIGATED), persistent=outcomes.count(Outcome.PERSISTENT),
        hidden=outcomes.count(Outcome.HIDDEN),
        damaged=sum(c.outcome is Outcome.DAMAGED for c in targets),
        harmed=sum(c.outcome is Outcome.DAMAGED for c in every if c not in targets),
        newly_memorized=sum(
            c.after is Label.MEMORIZED and before[c.prompt_id].verdict is not Label.MEMORIZED for c in every
        ),
        attacks=attacks, known_attacks=known_attacks,
        reworded=sum(c.outcome is Outcome.MITIGATED and c.wording is not None for c in targets),
        undecided=outcomes.count(Outcome.UNDECIDED),
        mitigation_rate=_share(mitigated, len(targets)),
        mitigation_rate_interval=clopper_pearson(mitigated, len(targets)) if targets else None,
        copies_after=fresh,
        copies_left=sum(c.copies_same + c.copies_fresh + (c.copies_reworded or 0) for c in targets),
        samples_left=sum(c.samples_same + c.samples_fresh + (c.samples_reworded or 0) for c in targets),
        controls_changed=sum(changes[p.id].outcome is not Outcome.UNCHANGED for p in controls),
        control_drift=sum(changes[p.id].damage.drift for p in controls) / len(controls) if controls else None,
        quality_after=1 - sum(c.damage.broken for c in every) / len(every),
    )  # fmt: skip


def _share(k: int, n: int) -> float | None:
    return k / n if n else None


def _run(run: Run) -> ReportedRun:
    return ReportedRun(
        name=run.path.name, created=run.header.created, status=run.header.status,
        stages=run.header.stages.model_copy(deep=True),  # the header changes while a stage runs, a report does not
        history=[session.model_copy(deep=True) for session in run.header.history],
        unlearned=run.finished("unlearn"), rechecked=run.finished("recheck"),
    )  # fmt: skip
