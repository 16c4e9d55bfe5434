"""From the samples of both checks to what became of each prompt: the evidence is put together here, and weighed in
`recheck.outcomes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from memfix.detect.thumbnails import Thumbnails
from memfix.detect.verdict import dispute
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.measures.copy_rule import CopyRule
from memfix.quality import broken_share
from memfix.recheck.attacks.compare import what_attacks_say
from memfix.recheck.damage import Seen, harm, harm_of_model, measure_damage
from memfix.recheck.outcomes import Copies, Evidence, file_difference, outcome
from memfix.records import (
    FRESH,
    SAME,
    AttackResult,
    Change,
    ClipScore,
    Condition,
    Damage,
    Label,
    Prompt,
    Score,
    Verdict,
)
from memfix.run.outputs import AFTER, BEFORE

UNWORDED: dict[Condition, Condition] = {SAME: "unworded-same", FRESH: "unworded-fresh"}
"""Condition of a reworded prompt → that of the same sample with its rewording taken off."""


def what_changed(
    detection: Detection, thumbnails: Thumbnails, prompts: Sequence[Prompt], after: Sequence[Verdict],
    wordings: Mapping[str, str], attacked: Sequence[AttackResult],
) -> list[Change]:  # fmt: skip
    """One change a prompt, in their order. thumbnails: of the samples after; wordings: prompt id → what it reads like.

    Raises MemfixError where one picture was judged in two ways.
    """
    before, now = ({v.prompt_id: v for v in own} for own in (detection.verdicts, after))
    scores = _by_prompt(detection.run.read(f"{AFTER}/scores.jsonl", Score))
    _require_no_contradiction(detection, scores)
    damages = _damages(detection, thumbnails, prompts, scores)
    unharmed = [
        harm(damages[p.id], must_not_change=True) is None
        for p in prompts
        if before[p.id].verdict is not Label.MEMORIZED
    ]
    model = harm_of_model(unharmed)
    changes = []
    for prompt in prompts:
        own, wording, attacks = scores[prompt.id], wordings.get(prompt.id), what_attacks_say(attacked, prompt.id)
        conditions = UNWORDED if wording is not None else {SAME: SAME, FRESH: FRESH}
        seen = Evidence(
            prompt=prompt, before=before[prompt.id], after=now[prompt.id], damage=damages[prompt.id], wording=wording,
            same=_count(own, conditions[SAME]), fresh=_count(own, conditions[FRESH]),
            reworded=_count(own, SAME, FRESH) if wording is not None else Copies(), model=model,
            brought_back=attacks.brought_back, untold=attacks.untold, disputed=_dispute(own, detection.rule),
        )  # fmt: skip
        changes.append(as_change(seen))
    return changes


def as_change(seen: Evidence) -> Change:
    """What is written down of a prompt."""
    reached, reason = outcome(seen)
    reworded = seen.reworded if seen.wording is not None else None
    return Change(
        prompt_id=seen.prompt.id, role=seen.prompt.role, before=seen.before.verdict, after=seen.after.verdict,
        outcome=reached, copies_same=seen.same.copies, samples_same=seen.same.samples,
        copies_fresh=seen.fresh.copies, samples_fresh=seen.fresh.samples, wording=seen.wording,
        copies_reworded=reworded.copies if reworded else None, samples_reworded=reworded.samples if reworded else None,
        damage=seen.damage, reason=reason,
    )  # fmt: skip


def _damages(
    detection: Detection, thumbnails: Thumbnails, prompts: Sequence[Prompt], scores: Mapping[str, Sequence[Score]]
) -> dict[str, Damage]:
    """Of the samples that a user of the model sees: those of reworded prompts with their rewording."""
    first = Thumbnails(detection.folder)
    fits = [
        {c.prompt_id: c.lead for c in detection.run.read(f"{folder}/clip_scores.jsonl", ClipScore)}
        for folder in (BEFORE, AFTER)
    ]
    seen = dict[str, Seen]()
    for prompt in prompts:
        shown = [s for s in scores[prompt.id] if s.condition in (SAME, FRESH)]
        same = [s.file_name for s in shown if s.condition == SAME]
        seen[prompt.id] = Seen.of(
            first.of(same), thumbnails.of(same), broken_share(shown, detection.detail),
            (fits[0].get(prompt.id), fits[1].get(prompt.id)),
        )  # fmt: skip
    return measure_damage(seen)


def _require_no_contradiction(detection: Detection, after: Mapping[str, Sequence[Score]]) -> None:
    """Raise MemfixError where a picture that was a copy before is none now, and is the same picture."""
    copies = {s.file_name for s in detection.scores if s.copy_}
    for score in (s for own in after.values() for s in own):
        if score.condition != SAME or score.copy_ or score.file_name not in copies:
            continue
        name = score.file_name
        if file_difference(detection.folder / name, detection.run.path / AFTER / name) == 0:
            raise MemfixError(
                f"{name} is the same picture before and after, and was a copy before and is none now.",
                "Something that decides has changed: training images, a measure, or memfix. Detect again in a new run.",
            )


def _count(scores: Iterable[Score], *conditions: Condition) -> Copies:
    own = [s for s in scores if s.condition in conditions]
    return Copies(sum(s.copy_ for s in own), len(own))


def _dispute(own: Sequence[Score], rule: CopyRule) -> str | None:
    """What is disputed of the samples of a prompt, under all conditions."""
    disputed = [s for s in own if s.accused]
    return dispute(disputed, len(own), rule) if disputed else None


def _by_prompt(scores: Iterable[Score]) -> dict[str, list[Score]]:
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.prompt_id, []).append(score)
    return groups
