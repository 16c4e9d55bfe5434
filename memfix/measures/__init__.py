"""Measures of likeness between a sample and a reference, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memfix.demo import DEMO
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.measures.base import Measure
from memfix.measures.descriptor import get_descriptor
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim, TiledL2
from memfix.measures.structure import Structure
from memfix.measures.weights import Wanted
from memfix.thresholds import THRESHOLDS

PIXEL_MEASURES: dict[str, Measure] = {m.name: m for m in (TiledL2(), Ssim())}
"""Those that compare pixels with pixels; they are taken of every sample and its nearest reference."""


@dataclass(frozen=True)
class MeasureRow:
    """A measure as it is listed; `load` may fetch weights. `decides`: whether it may say what a copy is."""

    name: str
    threshold: float | None
    higher_is_closer: bool
    source: str
    load: Callable[[Wanted], Measure]
    decides: bool = True


def _pixels(measure: Measure) -> MeasureRow:
    return MeasureRow(measure.name, measure.threshold, measure.higher_is_closer, measure.source, lambda _: measure)


def _sscd(wanted: Wanted) -> Measure:
    descriptor = get_descriptor("sscd", wanted)
    if wanted.sscd == DEMO:
        source = "recipes/descriptor.py; threshold set on the bundled model"
        return Embedding(descriptor, THRESHOLDS["bundled-sscd"].value, 0.2, source)
    published = descriptor.weights is not None and descriptor.weights.published
    return Embedding(descriptor, SSCD_COPY, 0.25, SSCD if published else OTHER)


SSCD_COPY = THRESHOLDS["sscd-precision-90"].value
SSCD = "Pizzi et al., CVPR 2022; README of their code: past 0.75 pairs of DISC are copies with 90 % precision"
OTHER = "0.75 is for the weights of Pizzi et al., CVPR 2022; for these nobody has set one"
MEASURES: dict[str, MeasureRow] = {
    row.name: row
    for row in (
        *map(_pixels, [*PIXEL_MEASURES.values(), Structure()]),
        MeasureRow("sscd", SSCD_COPY, True, SSCD, _sscd),
        MeasureRow(
            "clip", None, True, "open_clip; what a picture is of, so no criterion for copies",
            lambda wanted: Embedding(get_descriptor("clip", wanted), 1.0, 0.0, "open_clip"), decides=False,
        ),
    )
}  # fmt: skip


def get_measure(name: str, wanted: Wanted | None = None) -> Measure:
    """The measure that is to say what a copy is. Raises MemfixError for a name that is unknown, or cannot say it."""
    if name not in MEASURES:
        raise MemfixError(f"Unknown measure '{name}'.", did_you_mean(name, list(MEASURES)), ExitCode.USAGE)
    if not MEASURES[name].decides:
        raise MemfixError(
            f"'{name}' tells what a picture shows, not whether it is a copy.",
            f"Give one of: {', '.join(row.name for row in MEASURES.values() if row.decides)}.",
            ExitCode.USAGE,
        )
    return MEASURES[name].load(wanted or Wanted())
