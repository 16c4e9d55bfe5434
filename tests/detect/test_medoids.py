"""Detection without references, on pictures made by hand."""

from pathlib import Path

import numpy as np
from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.detect.check import Check
from memfix.detect.medoids import as_references, hold_against_medoid
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.records import Label, Sample, Verdict
from memfix.run.folder import Run

RULE = CopyRule.default(get_measure("ssim"))


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
    scores = hold_against_medoid(*drawn(7, 1, 7, 2, 7, 3), RULE).scores
    assert [s.copy_ for s in scores] == [True, False, True, False, True, False]
    (reference,) = {s.reference for s in scores}
    assert reference in {"0.png", "2.png", "4.png"}
    own = next(s for s in scores if s.file_name == reference)
    assert RULE.threshold < own.measures["ssim"] < 1  # held against another sample, not against itself
    (record,) = as_references(scores, "/run/before", {"p": "t"})
    assert (record.file_name, record.path, record.text) == (reference, f"/run/before/{reference}", "t")


def test_two_alike_may_be_chance_and_none_is_no_finding() -> None:
    for seeds in ((7, 7, 1, 2), (1, 2, 3, 4), (1,)):
        scores = hold_against_medoid(*drawn(*seeds), RULE).scores
        assert not any(s.copy_ for s in scores)
        assert as_references(scores, "/run/before", {"p": "t"}) == []


def checked(tmp_path: Path, *seeds: int) -> Verdict:
    """The verdict of a detection without references that drew these samples."""
    run, (samples, images) = Run.create(tmp_path / "run"), drawn(*seeds)
    (run.path / "before").mkdir()
    for sample, image in zip(samples, images, strict=True):
        image.save(run.path / "before" / sample.file_name)
    (verdict,) = Check(run, "before", None, RULE, None, DetectSettings()).conclude(samples)
    return verdict


def test_a_pair_among_sixteen_is_undecided(tmp_path: Path) -> None:
    verdict = checked(tmp_path, 7, 7, *range(100, 114))
    assert (verdict.verdict, verdict.copies, verdict.samples) == (Label.UNDECIDED, 0, 16)
    assert verdict.reason.startswith("two samples are near-identical, which is too few to be called copies")
    assert verdict.interval == (0, 0.3835)  # two of sixteen would end there


def test_sixteen_that_differ_are_clean_and_three_alike_memorized(tmp_path: Path) -> None:
    clean = checked(tmp_path / "a", *range(100, 116))
    assert (clean.verdict, clean.reason) == (Label.CLEAN, "none of 16 samples reproduces another sample")
    assert checked(tmp_path / "b", 7, 7, 7, *range(100, 113)).verdict is Label.MEMORIZED


def test_a_distance_serves_as_well() -> None:
    measure = get_measure("tiled_l2")
    scores = hold_against_medoid(*drawn(7, 1, 7, 2, 7), CopyRule.default(measure)).scores
    assert [s.copy_ for s in scores] == [True, False, True, False, True]


def test_of_equals_the_one_in_the_middle_stands_in() -> None:
    ramp = np.tile(np.linspace(0, 200, 64), (64, 1))[..., None].repeat(3, 2)
    images = [Image.fromarray((ramp + shift).astype(np.uint8)) for shift in (0, 24, 12)]
    samples, _ = drawn(0, 1, 2)
    measure = get_measure("tiled_l2")
    scores = hold_against_medoid(samples, images, CopyRule.default(measure)).scores
    assert all(s.copy_ for s in scores)  # 24 of 255 is within the threshold, so that each has both others
    assert {s.reference for s in scores} == {"2.png"}
