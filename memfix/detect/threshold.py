"""The threshold in force, where it comes from, and how alike unrelated references are: what a run records of it."""

from __future__ import annotations

from typing import Any

from memfix.config import DetectSettings
from memfix.errors import ExitCode, MemfixError
from memfix.measures.background import background
from memfix.measures.base import Measure
from memfix.measures.gallery import descriptors
from memfix.measures.reference_set import ReferenceSet
from memfix.measures.thresholds import Threshold, find_threshold
from memfix.measures.weights import Wanted


def given_threshold(settings: DetectSettings, weights: Wanted) -> Threshold | None:
    """What --threshold says, None if it says nothing. Raises MemfixError where that makes no sense; loads nothing."""
    if settings.threshold is None:
        return None
    if settings.false_alarm_rate is not None:
        raise MemfixError(
            "--threshold and --false-alarm-rate cannot be given together.", "Give one of them.", ExitCode.USAGE
        )
    return find_threshold(settings.threshold, settings.measure, weights.sscd)


def check_weights(given: Threshold | None, measure: Measure) -> None:
    """Refuse a name that others gave a threshold of the published weights, where the file loaded is none of these.

    Raises MemfixError, a usage error.
    """
    if given is None or not given.name or given.bundled:
        return
    for descriptor in descriptors(measure):
        if descriptor.weights and not descriptor.weights.published:
            raise MemfixError(
                f"Threshold '{given.name}' is for the authors' weights of {measure.name}, but "
                f"{descriptor.weights.path} is, by its sha256, not one of their files.",
                "Give a number, or set the threshold by --false-alarm-rate.",
                ExitCode.USAGE,
            )


def settle(
    gallery: ReferenceSet | None, measure: Measure, given: Threshold | None, settings: DetectSettings
) -> dict[str, Any]:
    """Take the threshold from the references themselves if that is wanted, and record it beside how alike these are.

    The gallery, which has the given or the default one, is told a calibrated one.
    """
    found = given or Threshold("", measure.name, measure.threshold, f"default of {measure.name}: {measure.source}")
    rate = settings.false_alarm_rate
    if gallery is None:
        if rate is not None or settings.first_look is not None:
            raise MemfixError(
                "--false-alarm-rate and --first-look need training images to compare with.",
                "Give --references, or leave them out.",
                ExitCode.USAGE,
            )
        return _record(found) | {"background": None, "stand_ins": True}
    unrelated = background(gallery)
    if rate is not None:
        gallery.threshold = unrelated.threshold(rate)
        found = found._replace(value=gallery.threshold, source=f"calibrated at rate {rate:g} on the references")
    return _record(found) | {"background": unrelated.summary()}


def _record(found: Threshold) -> dict[str, Any]:
    return {"threshold": found.value, "threshold_name": found.name or None, "threshold_source": found.source}
