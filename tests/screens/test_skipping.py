"""Skipping by a screen: by hand, against brute force, and against mixtures whose truth is known."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import beta, binom, invgamma, norm

from memfix.errors import MemfixError
from memfix.screens import skipping
from memfix.screens.skipping import (
    Expected,
    Groups,
    Skipping,
    audit_bound,
    draw_audit,
    expect,
    lowest_skipped,
    plan_skipping,
    posterior,
)

CONTROLS = np.exp(norm.ppf((np.arange(24) + 0.5) / 24)).tolist()
"""Log-scores at the quantiles of a standard normal."""


def mixture(seed: int, prompts: int, share: float, mean: float, sd: float) -> tuple[dict[str, float], set[str]]:
    """Scores, and the ids of the memorized prompts."""
    rng = np.random.default_rng(seed)
    memorized = rng.random(prompts) < share
    logs = np.where(memorized, rng.normal(mean, sd, prompts), rng.normal(0, 1, prompts))
    return {f"p{i}": math.exp(x) for i, x in enumerate(logs)}, {f"p{i}" for i in np.flatnonzero(memorized)}


def planned(scores: dict[str, float], miss_rate: float = 0.05, audit: int = 0, seed: int = 0) -> Skipping:
    return plan_skipping(scores, CONTROLS, miss_rate, audit, seed, screen="magnitude")


def test_expected_missed_by_hand() -> None:
    # one draw: a fifth of the list is memorized, N(3, 1); 2.28 % of that lies below 1, half below 3
    one = Groups(*(np.array([v]) for v in (0.0, 1.0, 3.0, 1.0, 0.2)))
    assert one.below(np.array([1.0, 3.0])) == pytest.approx([0.2 * 0.02275, 0.1], rel=1e-3)
    # two draws: the mean of 0.1 and of 0.4 · 0.5
    two = Groups(*(np.array(v) for v in ([0.0, 0.0], [1.0, 1.0], [3.0, 3.0], [1.0, 2.0], [0.2, 0.4])))
    assert two.below(np.array([3.0])) == pytest.approx([0.15])


def test_decision_by_hand() -> None:
    scores = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0}
    missed = np.array([1.0, 0.02, 0.06, 1.01])
    # 5 % of 20 expected memorized prompts is one prompt
    found = lowest_skipped(Expected(scores, missed, 20, 9, ()), 0.05, 0, 0, screen="magnitude")
    assert (found.threshold, found.skipped, found.expected_missed) == (4, ("b", "c", "a"), 1)
    assert found.expected_miss_rate == 0.05
    # where half of one is expected, 5 % of one
    found = lowest_skipped(Expected(scores, missed, 0.5, 9, ()), 0.05, 0, 0, screen="magnitude")
    assert (found.threshold, found.skipped, found.expected_miss_rate) == (2, ("b",), 0.02)
    # what reaches the limit is generated, whatever may be missed
    found = lowest_skipped(Expected(scores, missed, 20, 3, ()), 0.9, 0, 0, screen="magnitude")
    assert (found.threshold, found.skipped) == (3, ("b", "c"))


@pytest.mark.slow
def test_posterior_agrees_with_brute_force() -> None:
    """Against the sum over a grid of all five parameters, written from the densities alone."""
    listed, controls = np.array([-1.0, -0.3, 0.2, 0.9, 4.5, 6.5]), norm.ppf((np.arange(20) + 0.5) / 20)
    grid = product(
        np.linspace(-0.9, 0.9, 13), np.geomspace(0.5, 1.9, 11), np.linspace(-1.5, 14, 32), np.geomspace(0.6, 10, 23)
    )
    clean_mean, clean_sd, mean, sd = np.array([g for g in grid if g[2] > g[0] and g[3] >= g[1]]).T
    log = norm.logpdf(clean_mean, 0, clean_sd / math.sqrt(0.1)) + norm.logpdf(mean, 6, sd)
    # densities of the logarithm of a deviation: that of the variance, times the variance
    log += invgamma.logpdf(clean_sd**2, 1, scale=1) + 2 * np.log(clean_sd)
    log += invgamma.logpdf(sd**2, 3, scale=8) + 2 * np.log(sd)

    def likelihood(x: np.ndarray, share: float) -> np.ndarray:
        return np.sum(
            [np.log((1 - share) * norm.pdf(v, clean_mean, clean_sd) + share * norm.pdf(v, mean, sd)) for v in x], 0
        )

    log += likelihood(controls, 0.5 / 20)
    shares = (np.arange(25) + 0.5) / 25
    logs = np.array([log + likelihood(listed, p) + beta.logpdf(p, 0.2, 1) for p in shares])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    expected_share = float((weights.sum(1) * shares).sum())
    expected_below = float((weights * shares[:, None] * norm.cdf((1 - mean) / sd)).sum())

    groups, odds = posterior(listed, np.ones(6, np.int64), controls)
    assert groups.share.mean() == pytest.approx(expected_share, rel=0.05)
    assert groups.below(np.array([1.0]))[0] == pytest.approx(expected_below, rel=0.15)
    assert groups.clean_mean.mean() == pytest.approx(float((weights.sum(0) * clean_mean).sum()), abs=0.03)
    assert groups.mean.mean() == pytest.approx(float((weights.sum(0) * mean).sum()), abs=0.25)
    assert (odds < 0.05).all()


def test_a_list_of_any_length_is_its_distinct_scores() -> None:
    values, controls = np.array([-1.0, 0.0, 1.0, 7.0, 8.0]), np.log(CONTROLS)
    counts = np.array([20, 30, 20, 3, 4])
    together, _ = posterior(values, counts, controls)
    apart, _ = posterior(np.repeat(values, counts), np.ones(77, np.int64), controls)
    assert together.share.mean() == pytest.approx(apart.share.mean(), rel=0.03)
    assert together.mean.mean() == pytest.approx(apart.mean.mean(), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "share", "mean", "sd"),
    [(100, 0.1, 3, 1), (100, 0.1, 6, 2), (400, 0.05, 4, 2), (400, 0.05, 12, 5), (400, 0.5, 3, 1), (400, 0.5, 6, 2)],
)
def test_realised_miss_rate_is_within_the_asked_one(prompts: int, share: float, mean: float, sd: float) -> None:
    rates, memorized = (0.02, 0.1), 0
    missed = dict.fromkeys(rates, 0)
    for seed in range(8):
        scores, truth = mixture(seed, prompts, share, mean, sd)
        controls = np.exp(np.random.default_rng(1000 + seed).normal(0, 1, 30)).tolist()
        expected, memorized = expect(scores, controls), memorized + len(truth)
        for rate in rates:
            missed[rate] += len(truth & set(lowest_skipped(expected, rate, 0, 0, screen="magnitude").skipped))
    for rate in rates:  # and what chance adds to a rate that is just kept, once in a thousand cases
        assert missed[rate] <= binom.isf(0.001, memorized, rate)


def test_well_separated_prompts_are_skipped() -> None:
    scores, truth = mixture(0, 300, 0.1, 9, 2)
    found = planned(scores)
    assert len(found.skipped) > 0.8 * (300 - len(truth))
    assert not truth & set(found.skipped)
    assert found.expected_memorized == pytest.approx(len(truth), rel=0.15)


def test_plan_skips_what_lies_below_the_threshold_lowest_first() -> None:
    scores, _ = mixture(1, 200, 0.1, 6, 2)
    found = planned(scores)
    assert set(found.skipped) == {i for i, s in scores.items() if s < found.threshold}
    assert [scores[i] for i in found.skipped] == sorted(scores[i] for i in found.skipped)
    assert found.expected_missed <= 0.05 * found.expected_memorized


@pytest.mark.slow
def test_more_is_skipped_where_more_may_be_missed() -> None:
    scores, _ = mixture(2, 200, 0.2, 4, 2)
    plans = [planned(scores, rate) for rate in (0.001, 0.01, 0.05, 0.2, 0.9)]
    thresholds = [p.threshold for p in plans]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    for fewer, more in pairwise(plans):
        assert set(fewer.skipped) <= set(more.skipped)


def test_the_highest_clean_prompts_are_generated_whatever_may_be_missed() -> None:
    scores, _ = mixture(3, 1000, 0, 0, 1)
    found = planned(scores, 0.99)
    assert 0.07 < 1 - len(found.skipped) / 1000 < 0.13
    assert found.threshold < max(CONTROLS)


def test_scores_in_other_units_give_the_same_plan() -> None:
    scores, _ = mixture(4, 100, 0.1, 6, 2)
    found = planned(scores)
    scaled = plan_skipping(
        {i: 1000 * s for i, s in scores.items()}, [1000 * s for s in CONTROLS], 0.05, 0, 0, screen="magnitude"
    )
    assert scaled.skipped == found.skipped
    assert scaled.threshold == pytest.approx(1000 * found.threshold)


@pytest.mark.slow
def test_scores_that_may_be_negative_are_taken_as_they_are() -> None:
    scores, _ = mixture(5, 100, 0.1, 6, 2)
    logs = {i: math.log(s) for i, s in scores.items()}
    found = plan_skipping(logs, np.log(CONTROLS).tolist(), 0.05, 0, 0, screen="agreement")
    assert found.skipped == planned(scores).skipped
    assert found.threshold == pytest.approx(math.log(planned(scores).threshold))


@pytest.mark.slow
def test_a_list_without_memorized_prompts_is_skipped_with_care() -> None:
    plans = [planned(mixture(seed, 200, 0, 0, 1)[0]) for seed in range(12)]
    assert all(p.expected_missed <= 0.05 * max(1, p.expected_memorized) for p in plans)
    assert np.median([p.expected_memorized for p in plans]) < 1
    skipped = [len(p.skipped) for p in plans]
    assert np.mean(skipped) > 80 and max(skipped) <= 190


@pytest.mark.slow
def test_a_list_of_memorized_prompts_is_generated() -> None:
    scores, _ = mixture(7, 100, 1, 6, 1)
    assert len(planned(scores).skipped) <= 5
    assert planned(scores).expected_memorized > 90


def test_one_prompt_and_none() -> None:
    assert planned({"a": math.exp(8)}).skipped == ()
    empty = planned({})
    assert empty.skipped == empty.audited == ()
    assert empty.expected_memorized == empty.expected_missed == 0


def test_equal_scores_share_their_fate() -> None:
    scores = {f"p{i}": math.exp((i % 4) * 0.5 - 1) for i in range(40)} | {
        f"m{i}": math.exp(7 + i / 4) for i in range(8)
    }
    found = set(planned(scores).skipped)
    for rest in range(4):
        assert len({f"p{i}" in found for i in range(rest, 40, 4)}) == 1


def test_an_odd_control_is_named_and_widens_nothing() -> None:
    scores, _ = mixture(8, 200, 0.1, 8, 1)
    found = plan_skipping(scores, [*CONTROLS, math.exp(9)], 0.05, 0, 0, screen="magnitude")
    assert found.odd_controls == (24,)
    assert found.threshold == pytest.approx(planned(scores).threshold, rel=0.2)


def test_controls_that_calibrate_nothing_are_refused() -> None:
    scores, _ = mixture(9, 50, 0.1, 6, 2)
    with pytest.raises(MemfixError, match="at least 20 controls; there are 19") as few:
        plan_skipping(scores, CONTROLS[:19], 0.05, 0, 0, screen="magnitude")
    assert "--controls FILE with 20 or more" in few.value.hint
    with pytest.raises(MemfixError, match="at least 20 controls; there are 0"):
        plan_skipping(scores, [], 0.05, 0, 0, screen="magnitude")
    with pytest.raises(MemfixError, match="same score"):
        plan_skipping(scores, [1.0] * 30, 0.05, 0, 0, screen="magnitude")
    odd = [*CONTROLS, *(math.exp(8 + i / 10) for i in range(5))]
    with pytest.raises(MemfixError, match=r"5 of 29 controls score like memorized prompts: no\. 25, 26, 27, 28, 29"):
        plan_skipping(scores, odd, 0.05, 0, 0, screen="magnitude")
    with pytest.raises(MemfixError, match=r"controls score lower than the prompts of the list that look clean, by 0.8"):
        plan_skipping({i: 4.5 * s for i, s in scores.items()}, CONTROLS, 0.05, 0, 0, screen="magnitude")
    with pytest.raises(MemfixError, match="not a finite number"):
        plan_skipping({"a": math.nan}, CONTROLS, 0.05, 0, 0, screen="magnitude")


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
@pytest.mark.slow
def test_what_is_no_miss_rate_is_refused(rate: float) -> None:
    with pytest.raises(MemfixError, match="miss rate"):
        planned({"a": 1.0}, rate)


@pytest.mark.slow
def test_audit_is_drawn_from_the_skipped_and_repeats() -> None:
    scores, _ = mixture(10, 200, 0.1, 8, 1)
    found, again, other = (planned(scores, audit=12, seed=s) for s in (1, 1, 2))
    assert found == again
    assert found.audited != other.audited and found.skipped == other.skipped
    assert len(set(found.audited)) == 12 and set(found.audited) <= set(found.skipped)
    assert set(found.not_generated) | set(found.audited) == set(found.skipped)
    assert len(found.not_generated) == len(found.skipped) - 12
    assert draw_audit(["a", "b"], 5, 0) == ("a", "b")
    with pytest.raises(MemfixError, match="audit"):
        draw_audit(["a"], -1, 0)


def test_audit_is_even() -> None:
    drawn = np.array([[i in draw_audit(list("abcde"), 2, seed) for i in "abcde"] for seed in range(2000)])
    assert drawn.mean(0) == pytest.approx([0.4] * 5, abs=0.04)


def test_audit_bound() -> None:
    # none of 20: (1 - p)^20 = 0.05
    assert audit_bound(0, 20, 150) == pytest.approx(1 - 0.05 ** (1 / 20))
    # two of 20: the share at which so few are seen in one of twenty audits
    assert binom.cdf(2, 20, audit_bound(2, 20, 150)) == pytest.approx(0.05)
    assert audit_bound(0, 0, 150) == 1
    assert audit_bound(0, 0, 0) == audit_bound(0, 20, 20) == 0
    assert audit_bound(1, 20, 20) == pytest.approx(0.05)


def test_reasons_and_json() -> None:
    found = Skipping(
        screen="fine_detail", miss_rate=0.01, threshold=0.5, scores={"a": 0.412, "b": 0.3, "c": 0.5},
        skipped=("b", "a"), audited=("b",), expected_memorized=25, expected_missed=0.2, odd_controls=(),
    )  # fmt: skip
    assert found.reason("a") == "screen fine_detail 0.412 lies below 0.5; expected miss rate 0.8 %"
    assert found.reason("b").endswith("expected miss rate 0.8 %; drawn for the audit, generated")
    assert found.reason("c") == "screen fine_detail 0.5 does not lie below 0.5; generated"
    assert Skipping.model_validate_json(found.model_dump_json()) == found
    assert found.not_generated == ("a",)


def test_prior_finds_as_many_as_magnitude_is_published_to() -> None:
    """The prior predictive of a memorized score is Student's t; so much of it lies above the 1 % highest clean ones."""
    from scipy.stats import t

    scale = math.sqrt(skipping.RATE / skipping.SHAPE * (1 + 1 / skipping.WEIGHT))
    assert t.sf((norm.ppf(0.99) - skipping.MEAN) / scale, 2 * skipping.SHAPE) == pytest.approx(0.92, abs=0.005)
