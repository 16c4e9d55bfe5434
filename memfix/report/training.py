"""What a report tells of an unlearning: its pictures, its steps, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from memfix.records import Ending, Pair, Rewording, Side, Step, Validation, Yield
from memfix.report.schema import AdapterEnding, KindYield, ReportedEnding, ReportedTraining, ReportedValidation
from memfix.run.folder import Run


def training(run: Run) -> ReportedTraining | None:
    """How the weights of a run were unlearned; None if they were not, or not to the end."""
    steps, stage = run.read("training.jsonl", Step), run.header.stages.unlearn
    if stage is None or not run.finished("unlearn") or not steps:
        return None
    against = run.read("adversarial.jsonl", Step)
    pairs = run.read("pairs.jsonl", Pair)
    apart = {i: told for i, ending in stage.endings.items() if (told := reported_ending(ending))}
    return ReportedTraining(
        settings=stage.settings,
        steps=len(steps),
        seconds=sum(s.seconds for s in steps),
        adversarial_steps=len(against),
        adversarial_seconds=sum(s.seconds for s in against),
        targets=len({p.prompt_id for p in pairs if p.side is Side.FORGET}),
        pairs=dict(Counter(f"{pair.side.value}: {pair.origin}" for pair in pairs)),
        kinds=kind_yields(run.read("yields.jsonl", Yield)),
        rewordings=run.read("rewordings.jsonl", Rewording),
        rounds=stage.rounds,
        ending=reported_ending(stage.ending) if stage.ending else None,
        endings=[AdapterEnding(prompt_id=i, **told.model_dump()) for i, told in apart.items()],
        validations=validations(run, "validations.jsonl"),
        adversarial_validations=validations(run, "adversarial_validations.jsonl"),
        loss_keep=[round(s.loss_keep, 3) for s in steps],
        loss_forget=[round(s.loss_forget, 3) for s in steps if s.norm_forget],
    )


def validations(run: Run, name: str) -> list[ReportedValidation]:
    """Those of a file of a run, with their sums."""
    return [ReportedValidation(**v.model_dump(), total=v.total, drawn=v.drawn) for v in run.read(name, Validation)]


def reported_ending(ending: Ending) -> ReportedEnding | None:
    """How one training ended; None where there is nothing to tell."""
    if not ending.sentence:
        return None
    return ReportedEnding(**ending.model_dump(), good=ending.good, sentence=ending.sentence)


def kind_yields(yields: Sequence[Yield]) -> list[KindYield]:
    """What each kind of variant gave over all prompts that it was tried for, and for each of them."""
    kinds: dict[str, list[Yield]] = {}
    for found in yields:
        kinds.setdefault(found.kind, []).append(found)
    return [
        KindYield(
            kind=kind,
            prompts=len(own),
            served=sum(y.kept > 0 for y in own),
            samples=sum(y.samples for y in own),
            kept=sum(y.kept for y in own),
            near_copies=sum(y.near_copies for y in own),
            copies=sum(y.copies for y in own),
            by_prompt=own,
        )
        for kind, own in kinds.items()
    ]
