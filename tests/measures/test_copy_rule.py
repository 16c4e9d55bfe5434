"""The rule of a copy at its edges, and what is no number."""

import math

import pytest
import torch
from PIL import Image

from memfix.detect.medoids import hold_against_medoid
from memfix.errors import MemfixError
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim, TiledL2
from memfix.records import Sample
from tests.conftest import picture


@pytest.mark.parametrize("measure", [Ssim(), TiledL2()])
def test_a_copy_begins_at_the_threshold(measure: Measure) -> None:
    rule, inward = CopyRule(measure, 0.5, "by hand"), 0.01 if measure.higher_is_closer else -0.01
    assert rule.is_copy(0.5) and rule.is_copy(0.5 + inward) and not rule.is_copy(0.5 - inward)
    assert rule.copies(torch.tensor([0.5, 0.5 + inward, 0.5 - inward])).tolist() == [True, True, False]
    edge = 0.5 - 0.1 if measure.higher_is_closer else 0.5 + 0.1
    assert rule.is_near_copy(edge, 0.1) and not rule.is_distinct(edge, 0.1)
    assert rule.is_distinct(edge - inward, 0.1)


def test_what_is_no_number_is_not_called_no_copy() -> None:
    rule = CopyRule(Ssim(), 0.5, "by hand")
    for ask in (rule.is_copy, rule.is_near_copy, rule.is_distinct):
        with pytest.raises(MemfixError, match="ssim gives no number"):
            ask(math.nan)
    with pytest.raises(MemfixError, match="ssim gives no number"):
        rule.copies(torch.tensor([0.1, math.nan]))


class Broken(Ssim):
    """A measure whose weights are not numbers."""

    def features(self, images: list[Image.Image]) -> torch.Tensor:
        return super().features(images) * math.nan


def test_samples_without_references_are_not_clean_by_a_broken_measure() -> None:
    samples = [Sample(file_name=f"{i}.png", text="t", prompt_id="p1", seed=i, steps=1, guidance=1) for i in range(4)]
    with pytest.raises(MemfixError, match="gives no number"):
        hold_against_medoid(samples, [picture(1)] * 4, CopyRule(Broken(), 0.5, "by hand"))
