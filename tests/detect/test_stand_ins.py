"""Detection without references, on pictures made by hand."""

import numpy as np
from PIL import Image

from memfix.detect.stand_ins import as_references, stand_in
from memfix.measures import get_measure
from memfix.records import Sample

MEASURE = get_measure("ssim")


def drawn(*seeds: int) -> tuple[list[Sample], list[Image.Image]]:
    """One sample a seed; equal seeds are one picture up to noise that nobody sees."""
    samples, images = [], []
    for i, seed in enumerate(seeds):
        blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
        noise = np.random.default_rng(1000 + i).normal(0, 4, blocks.shape)
        images.append(Image.fromarray((blocks + noise).clip(0, 255).astype(np.uint8)))
        samples.append(Sample(file_name=f"{i}.png", text="t", prompt_id="p", seed=i, steps=1, guidance=1))
    return samples, images


def test_what_comes_again_and_again_is_a_copy() -> None:
    scores = stand_in(*drawn(7, 1, 7, 2, 7, 3), MEASURE, MEASURE.threshold)
    assert [s.copy_ for s in scores] == [True, False, True, False, True, False]
    (reference,) = {s.reference for s in scores}
    assert reference in {"0.png", "2.png", "4.png"}
    own = next(s for s in scores if s.file_name == reference)
    assert MEASURE.threshold < own.measures["ssim"] < 1  # held against another sample, not against itself
    (record,) = as_references(scores, "/run/before", {"p": "t"})
    assert (record.file_name, record.path, record.text) == (reference, f"/run/before/{reference}", "t")


def test_two_alike_may_be_chance_and_none_is_no_finding() -> None:
    for seeds in ((7, 7, 1, 2), (1, 2, 3, 4), (1,)):
        scores = stand_in(*drawn(*seeds), MEASURE, MEASURE.threshold)
        assert not any(s.copy_ for s in scores)
        assert as_references(scores, "/run/before", {"p": "t"}) == []


def test_a_distance_serves_as_well() -> None:
    measure = get_measure("tiled_l2")
    scores = stand_in(*drawn(7, 1, 7, 2, 7), measure, measure.threshold)
    assert [s.copy_ for s in scores] == [True, False, True, False, True]


def test_of_equals_the_one_in_the_middle_stands_in() -> None:
    ramp = np.tile(np.linspace(0, 200, 64), (64, 1))[..., None].repeat(3, 2)
    images = [Image.fromarray((ramp + shift).astype(np.uint8)) for shift in (0, 24, 12)]
    samples, _ = drawn(0, 1, 2)
    measure = get_measure("tiled_l2")
    scores = stand_in(samples, images, measure, measure.threshold)
    assert all(s.copy_ for s in scores)  # 24 of 255 is within the threshold, so that each has both others
    assert {s.reference for s in scores} == {"2.png"}
