"""When a picture is a copy: a measure, how far it must go, and who says so. Set once for a run, then only asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from memfix.errors import MemfixError
from memfix.findings import RuleRecord
from memfix.measures.base import Measure


@dataclass(frozen=True)
class CopyRule:
    """Past `threshold` of `measure` a picture is a copy of a reference.

    Less than a margin short of that it is a near-copy: no evidence of copying, and no example of what to keep either.
    `name` is that of a published threshold, `source` says where the threshold comes from, and `false_alarm_rate` is
    the share of references that pass it against unrelated ones, where it was calibrated on them.
    """

    measure: Measure
    threshold: float
    source: str
    name: str | None = None
    false_alarm_rate: float | None = None

    @classmethod
    def default(cls, measure: Measure) -> CopyRule:
        """The measure's own threshold."""
        return cls(measure, measure.threshold, f"default of {measure.name}: {measure.source}")

    def record(self) -> RuleRecord:
        """For the header of a run."""
        return RuleRecord(
            measure=self.measure.name, threshold=self.threshold, source=self.source, name=self.name,
            false_alarm_rate=self.false_alarm_rate,
        )  # fmt: skip

    def is_copy(self, value: float) -> bool:
        """Whether a value of the measure passes the threshold."""
        return self._passes(value, self.threshold)

    def is_near_copy(self, value: float, margin: float | None = None) -> bool:
        """Whether a value is a copy or short of one by less than `margin`; None stands for the measure's own."""
        margin = self.measure.margin if margin is None else margin
        looser = self.threshold - margin if self.measure.higher_is_closer else self.threshold + margin
        return self._passes(value, looser)

    def is_distinct(self, value: float, margin: float | None = None) -> bool:
        """Whether a value is short of a copy by `margin` or more."""
        return not self.is_near_copy(value, margin)

    def copies(self, values: torch.Tensor) -> torch.Tensor:
        """Which of some values pass the threshold, bool, in their shape."""
        self._require_number(bool(values.isnan().any()))
        higher = self.measure.higher_is_closer
        return values >= self.threshold if higher else values <= self.threshold

    def _require_number(self, is_none: bool) -> None:
        """Raise MemfixError for NaN, which passes no threshold and would be no copy."""
        if is_none:
            raise MemfixError(
                f"The measure {self.measure.name} gives no number for a picture, so nothing can be said of it.",
                "Check the weights of the measure with 'memfix doctor', or decide by another --measure.",
            )

    def _passes(self, value: float, threshold: float) -> bool:
        self._require_number(math.isnan(value))
        return value >= threshold if self.measure.higher_is_closer else value <= threshold
