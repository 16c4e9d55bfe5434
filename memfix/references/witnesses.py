"""Measures that do not decide, and may dispute what the deciding one calls no copy; their thresholds, by references.

A witness must not cry wolf: it is believed past a threshold that next to no unrelated references pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from memfix.findings import WitnessRecord
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.records import WitnessScore
from memfix.references.background import Background, background
from memfix.references.reference_set import ReferenceSet

ONE_PICTURE = 5 / 6
"""As a share of the way from a measure's own threshold to equality: two references past it are one picture that was
recoloured or cropped, or two of a template. With different captions they count as unrelated, and must not make a
witness deaf to such copies: they are left out, and no threshold is stricter."""
MOST_HELD = 500  # references that are held against the others
SPARED, SPARED_SHARE = 2, 0.01
"""Unrelated references that may pass: two, or this share of all. Two that are drawn alike would else make a witness
deaf to altered copies of every other one; what they cost is a person's look at samples that are no copies."""


class Witness(NamedTuple):
    """A measure, its threshold, and what that rests on."""

    rule: CopyRule
    record: WitnessRecord


def settle_witness(references: ReferenceSet, measure: Measure) -> Witness:
    """A witness on these references: its own threshold, or a stricter one where unrelated references ask for it."""
    sign, equal = (1, 1.0) if measure.higher_is_closer else (-1, 0.0)
    strictest = measure.threshold + ONE_PICTURE * (equal - measure.threshold)
    every = background(references, witness=measure, most=MOST_HELD)
    apart = tuple(v for v in every.values if sign * v < sign * strictest)
    unrelated = Background(apart, every.higher_is_closer, every.duplicates + len(every.values) - len(apart))
    threshold = measure.threshold
    asking = apart[: len(apart) - max(SPARED, int(SPARED_SHARE * len(apart)))]
    if asking:
        past = float(torch.nextafter(torch.tensor(asking[-1]), torch.tensor(sign * torch.inf)))
        threshold = sign * max(sign * threshold, sign * past)
    rule = CopyRule(measure, threshold, f"witness, at least {measure.threshold:g}: {measure.source}")
    record = WitnessRecord(
        measure=measure.name, threshold=threshold, default=measure.threshold, identity=measure.identity,
        background=unrelated.summary(rule),
    )  # fmt: skip
    return Witness(rule, record)


def testimonies(
    witnesses: Sequence[CopyRule], nearest: Mapping[str, tuple[list[str], torch.Tensor]], n: int
) -> list[dict[str, WitnessScore]]:
    """What each witness says of n samples, from the references that it finds nearest."""
    found: list[dict[str, WitnessScore]] = [{} for _ in range(n)]
    for rule in witnesses:
        names, values = nearest[rule.measure.name]
        for own, name, value in zip(found, names, values.tolist(), strict=True):
            own[rule.measure.name] = WitnessScore(value=round(value, 5), reference=name, copy_=rule.is_copy(value))
    return found
