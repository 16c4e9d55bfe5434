"""How alike unrelated training images are: what a score or a threshold of a measure must be read against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from memfix.errors import ExitCode, MemfixError
from memfix.findings import BackgroundRecord
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.references.reference_set import ReferenceSet

MOST = 2000  # references that stand in for samples; more would not move the distribution


class Background(NamedTuple):
    """Each reference against the nearest unrelated one; `values` from the farthest to the closest, maybe none.

    Of references that are one picture only the first is held; `duplicates` is how many were left out for that.
    """

    values: tuple[float, ...]
    higher_is_closer: bool
    duplicates: int = 0

    def threshold(self, rate: float) -> float:
        """The loosest threshold that at most `rate` of the references pass, though none of them is a copy.

        Raises MemfixError for a rate that so few references cannot show.
        """
        n = len(self.values)
        passing = int(rate * n + 1e-9)  # .29 · 100 is 29, whatever floats make of it
        if not passing:
            shown = f"the smallest is {1 / n:.2g}" if n else "no two of them have different captions"
            raise MemfixError(
                f"The references cannot show a false-alarm rate of {rate:g}: {shown}.",
                "Add captioned training images, give a larger --false-alarm-rate, or set --threshold.",
                ExitCode.USAGE,
            )
        closest_that_must_not_pass = torch.tensor(self.values[n - passing - 1])
        beyond = torch.tensor(torch.inf if self.higher_is_closer else -torch.inf)
        return float(torch.nextafter(closest_that_must_not_pass, beyond))

    def summary(self, rule: CopyRule | None = None) -> BackgroundRecord | None:
        """For the run's header and the report; with the share that passes a rule."""
        if not self.values:
            return None
        n = len(self.values)
        quantiles = {f"p{q}": round(self.values[min(q * n // 100, n - 1)], 5) for q in (50, 99)}
        return BackgroundRecord(
            references=n,
            duplicates=self.duplicates,
            **quantiles,
            closest=round(self.values[-1], 5),
            false_alarms=sum(map(rule.is_copy, self.values)) / n if rule else None,
        )


def background(
    references: ReferenceSet, seed: int = 0, *, witness: Measure | None = None, most: int | None = None
) -> Background:
    """Hold references, `most` of them at the most (MOST by default), against each other as if they were samples.

    By the deciding measure, or by a witness of the set.

    Unrelated are two references that have different captions or none, and are different pictures: not one that was
    re-encoded or resized. What is alike in another way, as a photograph and a crop of it are, counts as unrelated, and
    with other captions makes the background look closer than it is.
    """
    n, most = len(references), most or MOST
    draw = np.random.default_rng(seed)
    chosen = np.arange(n) if n <= most else np.sort(draw.choice(n, most, replace=False))
    higher = (witness or references.measure).higher_is_closer
    found = references.nearest_unrelated(chosen.tolist(), witness)
    return Background(tuple(sorted(found.values, reverse=not higher)), higher, found.duplicates)
