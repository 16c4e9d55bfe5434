"""Detection without references: what a model draws again and again from different noise, it has learned by heart.

Carlini et al. 2023, "Extracting Training Data from Diffusion Models", section 4.2, take near-identical generations of
one prompt as the sign of a memorized image. Here the deciding measure says what near-identical is, and the medoid of
such samples stands in for the training image that nobody has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image

from memfix.detect.design import MATCHES
from memfix.measures import PIXEL_MEASURES
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import detail
from memfix.records import Reference, Sample, Score
from memfix.references.in_memory import farthest


class MedoidFinding(NamedTuple):
    """Scores of one prompt's samples, and how many of these are near-identical to the one that stands in."""

    scores: list[Score]
    matches: int
    """From 1 to MATCHES - 1 they are too few to be copies, and yet not nothing."""


def hold_against_medoid(samples: Sequence[Sample], images: Sequence[Image.Image], rule: CopyRule) -> MedoidFinding:
    """Hold one prompt's samples against the one that most others are near-identical to.

    That one itself is held against the nearest other. No sample is a copy unless MATCHES others are alike.
    """
    measure = rule.measure
    measures = {**PIXEL_MEASURES, measure.name: measure}
    tables = {name: _pairwise(m, m.features(images)) for name, m in measures.items()}
    values = tables[measure.name]
    alike = rule.copies(values)
    others = values.masked_fill(torch.eye(len(samples), dtype=torch.bool), 0).sum(1)
    nearness = others if measure.higher_is_closer else -others
    medoid = max(range(len(samples)), key=lambda i: (int(alike[i].sum()), float(nearness[i])))
    pick = torch.argmax if measure.higher_is_closer else torch.argmin
    matches = int(alike[medoid].sum())
    scores = []
    for i, (sample, d) in enumerate(zip(samples, detail(images), strict=True)):
        other = int(pick(values[medoid])) if i == medoid else medoid
        taken = {name: float(table[i, other]) for name, table in tables.items()}
        scores.append(
            Score(
                file_name=sample.file_name, prompt_id=sample.prompt_id, condition=sample.condition,
                seed=sample.seed, reference=samples[medoid].file_name,
                measures={name: round(v, 5) for name, v in taken.items()},
                copy_=matches >= MATCHES and rule.is_copy(taken[measure.name]), detail=round(d, 5),
            )
        )  # fmt: skip
    return MedoidFinding(scores, matches)


def _pairwise(measure: Measure, features: torch.Tensor) -> torch.Tensor:
    """[n, n], with the farthest value there is on the diagonal: nothing is its own copy."""
    return measure.compare(features, features).fill_diagonal_(farthest(measure))


def as_references(scores: Sequence[Score], folder: str, text: dict[str, str]) -> list[Reference]:
    """The medoids that copies show, as references; `folder` holds the samples, `text` the prompts by id."""
    found = {s.reference: s.prompt_id for s in scores if s.copy_}
    return [Reference(file_name=name, path=f"{folder}/{name}", text=text[prompt]) for name, prompt in found.items()]
