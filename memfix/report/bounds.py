"""What `mitigated` means in a run, and how far: the samples that were drawn, the attacks that were made, and the share
of copies that they leave open. Pure: of report.json alone."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.console import percent
from memfix.records import AttackResult, Outcome
from memfix.report.schema import PromptEntry, Report

NO_CONTROLS = "No controls were given, so nothing shows that the rest is unharmed."


def meaning(report: Report) -> str:
    """What `mitigated` means of all prompts that are; empty if none is."""
    found = [e for e in report.prompts if e.outcome is Outcome.MITIGATED and e.scores_after]
    numbers = [e.scores_after for e in found if e.scores_after]
    if not numbers:
        return ""
    samples, most = min(n.samples for n in numbers), max(n.interval[1] for n in numbers)
    told = f"Mitigated means here: none of {samples} samples of such a prompt is a copy, so that at most "
    attacks = attacks_told([a for e in found for a in e.attacks])
    told += f"{percent(most)} of its samples are ({_confidence(report)}); {attacks}."
    recheck = report.run.stages.recheck
    if recheck and recheck.attacks_left_out:
        told += f" Not tried: {', '.join(recheck.attacks_left_out)}."
    return told


def bound_of(entry: PromptEntry, report: Report) -> str:
    """What `mitigated` means of one prompt; empty if it is not."""
    if entry.outcome is not Outcome.MITIGATED or entry.scores_after is None:
        return ""
    after = entry.scores_after
    told = (
        f"Mitigated means: at most {percent(after.interval[1])} of its samples are copies ({_confidence(report)}, none "
    )
    return told + f"of {after.samples} seen); {attacks_told(entry.attacks)}."


def attacks_told(results: Sequence[AttackResult]) -> str:
    """How hard attacks tried, and what they got, in a clause."""
    made = {
        name: [r for r in results if r.attack == name and r.curve] for name in dict.fromkeys(r.attack for r in results)
    }
    made = {name: own for name, own in made.items() if own}
    if not made:
        return "no attack was made"
    return "attacked by " + ", ".join(f"{name} ({_tried(own)})" for name, own in made.items())


def _tried(results: Sequence[AttackResult]) -> str:
    """The least that an attack did on any picture, and how many pictures it got copies of."""
    work = min(r.last.work for r in results if r.last)
    drawn = min(sum(p.samples for p in r.points) for r in results)
    came = sum(r.succeeded for r in results)
    got = f"copies of {came}, no more than of clean pictures" if came else "no copy"
    return f"{work:,} {results[0].unit}, {drawn} samples each: {got}"


def _confidence(report: Report) -> str:
    """What the intervals of a run hold with."""
    detected = report.run.stages.detect
    return f"{percent(detected.settings.confidence if detected else 0.95)} interval"
