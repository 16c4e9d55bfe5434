"""Training images that are too small for a measure: a threshold that others published holds at the size they took."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.inputs.references import opened
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Reference

LEAST_SIDE = 256  # pixels; SSCD was trained and measured at a short side of 288
LOOKED_AT = 20


def are_small(references: Sequence[Reference]) -> bool:
    """Whether most of the first LOOKED_AT references have a side of fewer than LEAST_SIDE pixels."""
    sides = [min(image.size) for _, image in opened(references[:LOOKED_AT], WrongRows(skip=True))]
    return sum(side < LEAST_SIDE for side in sides) > len(sides) / 2
