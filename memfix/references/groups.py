"""Groups of near-copies as records of references tell them. Computes nothing of pictures, and needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from memfix.records import Reference


def representatives(references: Iterable[Reference]) -> dict[str, str]:
    """File name → the file name that stands for its group, its own if it is alone."""
    return {r.file_name: r.group or r.file_name for r in references}


def sizes(references: Iterable[Reference]) -> Counter[str]:
    """Number of members by the name that stands for the group; 1 for those that are alone."""
    return Counter(representatives(references).values())
