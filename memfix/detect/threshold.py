"""The threshold in force, where it comes from, and how alike unrelated references are: what a run records of it."""

from __future__ import annotations

import math

from memfix.config.checks import DetectSettings
from memfix.errors import ExitCode, MemfixError
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.weights import Wanted
from memfix.references.background import Background, background
from memfix.references.in_memory import descriptors
from memfix.references.reference_set import ReferenceSet
from memfix.thresholds import Threshold, find_threshold


def given_threshold(settings: DetectSettings, weights: Wanted) -> Threshold | None:
    """What --threshold says, None if it says nothing. Raises MemfixError where that makes no sense; loads nothing."""
    if settings.threshold is None:
        return None
    if settings.false_alarm_rate is not None:
        raise MemfixError(
            "--threshold and --false-alarm-rate cannot be given together.", "Give one of them.", ExitCode.USAGE
        )
    return find_threshold(settings.threshold, settings.deciding, weights.sscd)


def check_reach(given: Threshold | None, measure: Measure) -> None:
    """Refuse a threshold that the measure cannot give: similarities are from -1 to 1, distances from 0 on.

    Past it no sample could be a copy, and every prompt would be clean. Raises MemfixError, a usage error.
    """
    if given is None:
        return
    least, most = (-1.0, 1.0) if measure.higher_is_closer else (0.0, math.inf)
    if not least <= given.value <= most:
        span = "a similarity from -1 to 1" if measure.higher_is_closer else "a distance, which is never below 0"
        raise MemfixError(
            f"--threshold {given.value:g} is out of reach: {measure.name} is {span}.",
            "Give a number within that, or leave --threshold out.", ExitCode.USAGE,
        )  # fmt: skip


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


def settle_rule(
    references: ReferenceSet | None, measure: Measure, given: Threshold | None, settings: DetectSettings
) -> tuple[CopyRule, Background | None]:
    """The rule of a copy that a detection goes by, and how alike unrelated references are; none without references.

    The threshold is the one given, else one calibrated on the references where that is wanted, else the measure's own.
    """
    rate = settings.false_alarm_rate
    rule = CopyRule.default(measure)
    if given:
        rule = CopyRule(measure, given.value, given.source, given.name or None)
    if references is None:
        return rule, None
    unrelated = background(references)
    if rate is not None:
        source = f"calibrated at rate {rate:g} on the references"
        rule = CopyRule(measure, unrelated.threshold(rate), source, false_alarm_rate=rate)
    return rule, unrelated
