"""The only place that calls a sample a copy, in every stage: references, the rule of a copy, and the rule of parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from PIL import Image

from memfix.errors import MemfixError
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import COARSE, detail, detail_of, to_tensor
from memfix.quality import BLANK, ENOUGH_REFERENCES
from memfix.records import Kind, Part, Reference, Sample, Score
from memfix.references import region
from memfix.references.parts import find_parts, kind_of
from memfix.references.reference_set import ReferenceSet
from memfix.references.witnesses import testimonies

FAR = 3.0  # times outside their range, and it is no picture
NEAR_PART = region.LIKENESS - 0.2  # ordinary prompts of the bundled model reach 0.5 often, and more seldom


class KnownPart(NamedTuple):
    """Where the copies of a prompt agreed, [h, w] bool, and the references that they show there, [m, 3, h, w]."""

    where: torch.Tensor
    names: Sequence[str]
    references: torch.Tensor


class Finding(NamedTuple):
    """What all samples of one prompt say together; `broken` is the share that is no picture at all."""

    scores: list[Score]
    kind: Kind | None
    common_area: float | None
    broken: float = 0.0

    @property
    def shapeless(self) -> str:
        """Why nothing can be said of a prompt with such samples."""
        return f"{self.broken:.0%} of the samples are blank or noise, so what the prompt copies cannot be told"


class Judge:
    """Calls samples copies of references: as a whole, by the rule, or in a part that samples of their prompt share.

    What a prompt is known to copy in part from an earlier check, `parts` by prompt id, is looked for in each of its
    samples, under any condition; without that, a part is found only where enough samples of one prompt are seen at
    once, by `conclude`.

    `witnesses` are rules of other measures, those that `references` holds: what they say stands beside each score.
    """

    def __init__(
        self, references: ReferenceSet, rule: CopyRule, parts: Mapping[str, KnownPart] | None = None,
        witnesses: Sequence[CopyRule] = (),
    ) -> None:  # fmt: skip
        self.references, self.rule, self.witnesses = references, rule, tuple(witnesses)
        self._parts = parts or {}

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image]) -> list[Score]:
        """One score a sample, each by itself."""
        if not samples:
            return []
        near = self.references.nearest(images)
        listed = {name: values.tolist() for name, values in near.values.items()}
        deciding = listed[self.rule.measure.name]
        _require_numbers(samples, {**near.values, **{name: told for name, (_, told) in near.witnesses.items()}})
        told = testimonies(self.witnesses, near.witnesses, len(samples))
        scores = [
            Score(
                file_name=s.file_name, prompt_id=s.prompt_id, condition=s.condition, seed=s.seed,
                reference=near.names[i], measures={name: round(v[i], 5) for name, v in listed.items()},
                copy_=self.rule.is_copy(deciding[i]), detail=round(d, 5), witnesses=told[i],
            )
            for i, (s, d) in enumerate(zip(samples, detail(images), strict=True))
        ]  # fmt: skip
        if not any(s.prompt_id in self._parts for s in samples):
            return scores
        return self._with_known_parts(scores, to_tensor(images, COARSE))

    def conclude(self, scores: Sequence[Score], thumbnails: torch.Tensor) -> Finding:
        """Hold all samples of one prompt together: which of them copy a part, and what kind of copies they are.

        thumbnails: [n, 3, 32, 32] of these samples. Marks of copied parts that scores bring along are made anew.
        """
        whole = [
            s.model_copy(update={"copy_": False, "part": None, "known_part": None}) if s.part else s for s in scores
        ]
        names, references = self.references.thumbnails(
            [*(s.reference for s in whole), *(name for s in whole for name in self._known_names(s.prompt_id))]
        )
        marked = find_parts(self._with_known_parts(whole, thumbnails), thumbnails, names, references)
        kind, area = kind_of(marked, thumbnails, dict(zip(names, references, strict=True)))
        return Finding(marked, kind, area, _broken(thumbnails, references))

    def is_distinct(self, score: Score, margin: float | None = None) -> bool:
        """Whether a sample is far enough from any copy to be an example of what to keep; see `is_distinct`."""
        return is_distinct(self.rule, score, margin)

    def recorded(self, names: Iterable[str] = ()) -> list[Reference]:
        """What a run writes down of the references, with their groups of near-copies: all, or those of `names`."""
        return self.references.recorded(self.rule, names)

    def _known_names(self, prompt_id: str) -> Sequence[str]:
        return self._parts[prompt_id].names if prompt_id in self._parts else ()

    def _with_known_parts(self, scores: Sequence[Score], thumbnails: torch.Tensor) -> list[Score]:
        """The scores, with copies of the part that their prompt is known to copy."""
        return [
            score if score.prompt_id not in self._parts else self._held(score, thumbnails[i : i + 1])
            for i, score in enumerate(scores)
        ]

    def _held(self, score: Score, thumbnail: torch.Tensor) -> Score:
        known = self._parts[score.prompt_id]
        value, place = region.likeness(thumbnail, known.where[None], known.references)[0].max(0)
        likeness = round(float(value), 4)
        found: dict[str, object] = {"known_part": likeness if value.isfinite() else None}
        if not score.copy_ and value >= region.LIKENESS:
            area = round(float(known.where.float().mean()), 4)
            part = Part(reference=known.names[int(place)], area=area, likeness=likeness)
            found |= {"copy_": True, "part": part}
        return score.model_copy(update=found)


def _broken(thumbnails: torch.Tensor, references: torch.Tensor) -> float:
    """Share of pictures that are blank, or have far less or more detail than any training image has.

    The training images tell only where there are enough of them: those of an index are the few that came up.
    """
    own, low, high = detail_of(thumbnails), BLANK, 1.0
    if len(references) >= ENOUGH_REFERENCES:
        known = detail_of(references).sort().values
        low, high = max(low, float(known[0]) / FAR), float(known[-1]) * FAR
    return float(((own < low) | (own > high)).float().mean())


def _require_numbers(samples: Sequence[Sample], values: Mapping[str, torch.Tensor]) -> None:
    """Raise MemfixError if a measure gave no number: compared with a threshold, that would be no copy."""
    for name, own in values.items():
        for sample, number in zip(samples, own.tolist(), strict=True):
            if not math.isfinite(number):
                raise MemfixError(
                    f"The measure {name} gives {number} for {sample.file_name}, so nothing can be said of that sample.",
                    "Check the weights of the measure with 'memfix doctor', or decide by another --measure.",
                )


def is_distinct(rule: CopyRule, score: Score, margin: float | None = None) -> bool:
    """Whether a sample is far enough from any copy, whole, in part or disputed, to be an example of what to keep.

    `margin` is how far its measure must be from the threshold; None stands for the measure's own.
    """
    near_part = score.known_part is not None and score.known_part >= NEAR_PART
    suspect = score.copy_ or near_part or bool(score.accused)
    return not suspect and rule.is_distinct(score.measures[rule.measure.name], margin)


def known_parts(scores: Sequence[Score], thumbnails: torch.Tensor, references: ReferenceSet) -> dict[str, KnownPart]:
    """What a check has found of copied parts, by prompt id: where most of a prompt's copies agreed with its others.

    `scores` are those of all samples of the prompts that have copies of a part; thumbnails: [n, 3, 32, 32] of them.
    """
    found = {}
    for prompt_id in dict.fromkeys(s.prompt_id for s in scores if s.part):
        own = [i for i, s in enumerate(scores) if s.prompt_id == prompt_id]
        regions = region.fixed(thumbnails[own])
        copies = regions[[i for i, at in enumerate(own) if scores[at].part]]
        shown = list(dict.fromkeys(scores[i].shows for i in own if scores[i].part))
        names, near = references.thumbnails(shown)
        places = [i for i, name in enumerate(names) if name in shown]
        found[prompt_id] = KnownPart(copies.float().mean(0) > 0.5, [names[i] for i in places], near[places])
    return found
