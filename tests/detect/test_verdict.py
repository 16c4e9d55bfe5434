"""Verdicts and intervals, by hand and against a search for the exact bounds."""

from itertools import combinations_with_replacement

import pytest
from scipy.stats import binom

from memfix.detect.design import Design
from memfix.detect.verdict import verdict_on
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.records import Label, Score, Verdict, WitnessScore
from memfix.stats import clopper_pearson


def scores(values: list[float], reference: str = "r.png") -> list[Score]:
    return [
        Score(
            file_name=f"{i}.png", prompt_id="p", seed=i, reference=reference, measures={"tiled_l2": v},
            copy_=v <= 0.15, detail=0.1,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


RULE = CopyRule(get_measure("tiled_l2"), 0.15, "test")


def verdict(values: list[float], design: Design | None = None, chance: float = 0.001) -> Verdict:
    return verdict_on(scores(values), RULE, design or Design.fixed(len(values), chance=chance))


@pytest.mark.parametrize(("k", "n"), [(0, 16), (1, 16), (7, 16), (16, 16), (3, 5)])
def test_interval_has_its_tails(k: int, n: int) -> None:
    low, high = clopper_pearson(k, n)
    if k:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025)
    assert low <= k / n <= high


def test_interval_by_hand() -> None:
    # 0 of 16: (1 - p)^16 = 0.025
    assert clopper_pearson(0, 16)[1] == pytest.approx(1 - 0.025 ** (1 / 16))
    with pytest.raises(ValueError, match="need"):
        clopper_pearson(0, 0)


def test_one_copy_is_enough() -> None:
    found = verdict([0.1] + [0.4] * 15)
    assert (found.verdict, found.copies, found.share, found.score) == (Label.MEMORIZED, 1, 1 / 16, 0.1)


def test_clean_needs_enough_samples() -> None:
    assert verdict([0.4] * 16).verdict is Label.CLEAN
    few = verdict([0.4] * 4)
    assert few.verdict is Label.UNDECIDED
    assert few.reason == (
        "none of 4 samples reproduces a reference, but 4 samples are too few to show that at most 25 % are copies"
    )


def test_fixed_numbers_decide_as_before_designs() -> None:
    for k, n in list(combinations_with_replacement(range(33), 2))[1:]:  # without 0 of 0
        found = verdict([0.1] * k + [0.4] * (n - k))
        clean = clopper_pearson(0, n)[1] <= 0.25
        assert found.verdict is (Label.MEMORIZED if k else Label.CLEAN if clean else Label.UNDECIDED)
        assert found.interval == pytest.approx(clopper_pearson(k, n), abs=5e-5)


def test_sequential_design_stops_early_and_widens_its_interval() -> None:
    design = Design.doubling(4, 16, chance=0.01)
    found = verdict([0.1, 0.4, 0.4, 0.4], design=design)
    assert (found.verdict, found.reason) == (Label.MEMORIZED, "1 of 4 samples reproduces a reference")
    later = verdict([0.1] * 2 + [0.4] * 6, design=design)
    assert (later.verdict, later.reason) == (Label.MEMORIZED, "2 of 8 samples reproduce a reference")
    assert later.interval == tuple(round(x, 4) for x in design.interval(2, 8))
    assert later.interval[0] < clopper_pearson(2, 8)[0]
    assert verdict([0.4] * 16, design=design).verdict is Label.CLEAN


def test_design_brings_its_own_confidence() -> None:
    found = verdict([0.4] * 16, design=Design.fixed(16, confidence=0.9, tolerance=0.1))
    assert (found.verdict, found.confidence) == (Label.UNDECIDED, 0.9)
    assert "at most 10 %" in found.reason


def test_what_chance_explains_is_undecided() -> None:
    found = verdict([0.1] + [0.4] * 63)
    assert found.verdict is Label.UNDECIDED
    assert found.reason == "1 of 64 samples passes the threshold, which may be due to chance (0.1 % per sample)"
    more = verdict([0.1] * 2 + [0.4] * 14, chance=0.03)
    assert more.reason == "2 of 16 samples pass the threshold, which may be due to chance (3 % per sample)"


def test_sampling_that_was_broken_off_is_undecided() -> None:
    found = verdict([0.4] * 4, design=Design.doubling(4, 16))
    assert found.verdict is Label.UNDECIDED
    assert found.reason.endswith("sampling was interrupted, up to 16 samples were planned")
    with pytest.raises(ValueError, match="no outcome"):
        verdict([0.4] * 5, design=Design.doubling(4, 16))


def test_reference_is_the_one_most_copies_show() -> None:
    mixed = scores([0.05], "a.png") + scores([0.1, 0.12], "b.png")
    found = verdict_on(mixed, RULE, Design.fixed(3))
    assert found.reference == "b.png"
    assert found.score == 0.05


def test_a_disputed_sample_is_neither_clean_nor_a_copy() -> None:
    told = {"structure": WitnessScore(value=0.91, reference="x.png", copy_=True)}
    listed = scores([0.2] * 16)
    listed[3] = listed[3].model_copy(update={"witnesses": told})
    found = verdict_on(listed, RULE, Design.fixed(16))
    assert (found.verdict, found.copies, found.disputed) == (Label.UNDECIDED, 0, 1)
    assert found.interval == (0, round(clopper_pearson(1, 16)[1], 4))
    assert found.reason == (
        "1 of 16 samples is disputed: structure calls 3.png a copy of x.png by 0.910, though its tiled_l2 of 0.200 "
        "does not pass 0.15"
    )
    unheard = {"structure": told["structure"].model_copy(update={"copy_": False})}
    listed[3] = listed[3].model_copy(update={"witnesses": unheard})
    assert verdict_on(listed, RULE, Design.fixed(16)).verdict is Label.CLEAN
    copies = [s.model_copy(update={"witnesses": told}) for s in scores([0.1] * 16)]
    found = verdict_on(copies, RULE, Design.fixed(16))
    assert (found.verdict, found.copies, found.disputed) == (Label.MEMORIZED, 16, 0)
