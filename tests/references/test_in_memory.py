"""The nearest reference, and how near is near."""

import numpy as np
import pytest
from PIL import Image

from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim, TiledL2
from memfix.records import Reference, Sample
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge


def test_near_copy_by_hand() -> None:
    # a distance: copies up to .15, near-copies up to .25
    assert CopyRule(TiledL2(), 0.15, "test").is_near_copy(0.10, 0.1)
    assert CopyRule(TiledL2(), 0.15, "test").is_near_copy(0.24, 0.1)
    assert not CopyRule(TiledL2(), 0.15, "test").is_near_copy(0.26, 0.1)
    # a similarity: copies from .70, near-copies from .55
    assert CopyRule(Ssim(), 0.70, "test").is_near_copy(0.80, 0.15)
    assert CopyRule(Ssim(), 0.70, "test").is_near_copy(0.56, 0.15)
    assert not CopyRule(Ssim(), 0.70, "test").is_near_copy(0.54, 0.15)


@pytest.mark.parametrize("measure", ["tiled_l2", "ssim"])
def test_copy_near_copy_and_other(tmp_path, measure: str) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(2))
    references = []
    for name, pixels in {"first.png": first, "second.png": second}.items():
        Image.fromarray(pixels).save(tmp_path / name)
        references.append(Reference(file_name=name, path=str(tmp_path / name)))
    rule = CopyRule.default(get_measure(measure))
    judge = Judge(HeldReferences(references, rule.measure), rule)
    mixed = (0.7 * second + 0.3 * first).astype(np.uint8)
    other = rng.integers(0, 255, (64, 64, 3), np.uint8)
    images = [Image.fromarray(x) for x in (second, mixed, other)]
    samples = [
        Sample(file_name=f"{i}.png", text="t", prompt_id="p", seed=i, steps=1, guidance=1) for i in range(len(images))
    ]
    copy, near, far = judge.score(samples, images)
    assert copy.copy_ and copy.reference == "second.png" and not judge.is_distinct(copy)
    assert near.reference == "second.png"
    assert not far.copy_ and judge.is_distinct(far)
    # a margin of nothing keeps whatever is no copy; one as wide as the scale keeps nothing
    assert judge.is_distinct(near, margin=0) != near.copy_
    assert not judge.is_distinct(far, margin=2)
