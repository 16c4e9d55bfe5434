"""What a threshold sees of copies that are known: some references, altered, held against all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from memfix.findings import KnownCopies
from memfix.measures.copy_rule import CopyRule
from memfix.references.altered import ALTERATIONS
from memfix.references.appearance import Draw
from memfix.references.reference_set import ReferenceSet

ALTERED = 40  # references that are altered in each way; a share of 90 % of them has a standard error of 5 points
ALTERED_AT = 512  # pixels of a side, which bounds the time of altering


def known_copies(
    references: ReferenceSet, rule: CopyRule, witnesses: Sequence[CopyRule] = (), draw: Draw | None = None
) -> list[KnownCopies]:
    """For each way of altering the share that passes the rule, and the share that a witness disputes beside it.

    Altered pictures are as `draw` makes them, as samples of a model are; or without it as they are.
    """
    pictures = references.some(ALTERED)
    for picture in pictures:
        picture.thumbnail((ALTERED_AT, ALTERED_AT))
    found = []
    for way, alter in ALTERATIONS.items():
        altered = [alter(picture, i) for i, picture in enumerate(pictures)]
        near = references.nearest(draw(altered) if draw else altered)
        copies = rule.copies(near.values[rule.measure.name])
        accused = torch.zeros_like(copies)
        for witness in witnesses:
            accused |= witness.copies(near.witnesses[witness.measure.name][1])
        disputed = accused & ~copies
        found.append(
            KnownCopies(
                altered=way, pictures=len(pictures), seen=round(float(copies.float().mean()), 4),
                disputed=round(float(disputed.float().mean()), 4),
            )
        )  # fmt: skip
    return found
