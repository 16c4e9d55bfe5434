"""When a picture is a copy: a measure, how far it must go, and who says so. Set once for a run, then only asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from memfix.measures.base import Measure

V = TypeVar("V", float, torch.Tensor)


@dataclass(frozen=True)
class CopyRule:
    """Past `threshold` of `measure` a picture is a copy of a reference.

    Less than a margin short of that it is a near-copy: no evidence of copying, and no example of what to keep either.
    `name` is that of a published threshold, `source` says where it comes from, and `false_alarm_rate` how many
    unrelated references pass it, where the references were asked.
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

    def is_copy(self, value: V) -> V | bool:
        """Whether a value of the measure passes the threshold; of a tensor of values, which of them do."""
        return self._passes(value, self.threshold)

    def is_near_copy(self, value: V, margin: float | None = None) -> V | bool:
        """Whether a value passes, or falls short by less than `margin`, the measure's own when not given."""
        margin = self.measure.margin if margin is None else margin
        return self._passes(value, self.threshold + (-margin if self.measure.higher_is_closer else margin))

    def is_distinct(self, value: V, margin: float | None = None) -> V | bool:
        """Whether a value is short of a copy by `margin` or more."""
        near = self.is_near_copy(value, margin)
        return ~near if isinstance(near, torch.Tensor) else not near

    def _passes(self, value: V, threshold: float) -> V | bool:
        return value >= threshold if self.measure.higher_is_closer else value <= threshold
