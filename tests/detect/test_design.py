"""Sequential designs: boundaries by hand, probabilities by listing every sequence, coverage by exact enumeration."""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise, product
from math import comb

import pytest

from memfix.detect.design import Design
from memfix.errors import MemfixError
from memfix.records import Label
from memfix.stats import clopper_pearson

LOOKS = [(16,), (4, 8, 16), (13, 26), (4, 8, 16, 32, 64), (1, 2, 3, 5, 8, 13, 21)]
CHANCES = [0.0, 0.001, 0.01, 0.05, 0.1]
TOLERANCES = [0.15, 0.25, 0.5]
SHARES = [0, 0.0005, 0.001, 0.003, 0.01, 0.02, 0.05, *(i / 37 for i in range(3, 37)), 0.99, 1]
DESIGNS = [Design(looks, chance) for looks in LOOKS for chance in CHANCES]

Outcomes = dict[tuple[int, int], float]


def outcomes(design: Design, p: float) -> Outcomes:
    """Probability of each (k, n) at which sampling ends: forward, in floats, from nothing but `decide`."""
    ended: Outcomes = {}
    running, drawn = {0: 1.0}, 0
    for n in design.looks:
        reached: defaultdict[int, float] = defaultdict(float)
        for k, mass in running.items():
            for more in range(n - drawn + 1):
                reached[k + more] += mass * comb(n - drawn, more) * p**more * (1 - p) ** (n - drawn - more)
        running = {}
        for k, mass in reached.items():
            if design.decide(k, n) is None:
                running[k] = mass
            else:
                ended[k, n] = mass
        drawn = n
    return ended


def from_low_to_high(design: Design) -> list[tuple[int, int]]:
    """Outcomes as ordered for the interval: clean by look, the last look by k, memorized by look from the last one."""
    ended = outcomes(design, 0.5)
    last = design.looks[-1]
    clean = sorted((n, k) for k, n in ended if n < last and k == 0)
    end = sorted((n, k) for k, n in ended if n == last)
    memorized = sorted((-n, k) for k, n in ended if n < last and k)
    return [(k, abs(n)) for n, k in [*clean, *end, *memorized]]


def test_fixed_design_decides_as_any_copy_of_sixteen() -> None:
    design = Design.fixed(16)
    # 1 - .999^16 = .0159, within ε = .05
    assert [design.decide(k, 16) for k in range(17)] == [Label.CLEAN] + [Label.MEMORIZED] * 16


@pytest.mark.parametrize(("n", "least"), [(1, 1), (51, 1), (52, 2), (64, 2)])
def test_boundary_of_one_look_by_hand(n: int, least: int) -> None:
    # 1 - .999^51 = .0497, 1 - .999^52 = .0507
    assert Design.fixed(n).boundaries() == (least,)


@pytest.mark.parametrize(("n", "label"), [(12, Label.UNDECIDED), (13, Label.CLEAN)])
def test_clean_needs_thirteen_samples(n: int, label: Label) -> None:
    # .75^12 = .0317, .75^13 = .0238; half of ε is .025
    assert Design.fixed(n).decide(0, n) is label


def test_boundaries_of_two_looks_by_hand() -> None:
    # At 2: P(2) = p². Those with 0 or 1 go on, so 4 samples hold 1, 2, 3 copies in 4, 5, 2 orders.
    # p = .1: .01, then + P(3) = 2·.001·.9 is .0118, + P(2) = 5·.01·.81 is .0523 > .05.
    assert Design((2, 4), 0.1, 0.5).boundaries() == (2, 3)
    # p = .05: .0025, then + .0002 + 5·.0025·.9025 is .0140, + P(1) = 4·.05·.857 is .1855.
    assert Design((2, 4), 0.05, 0.5).boundaries() == (2, 2)
    assert Design((2, 4), 0.1, 0.5).decide(1, 2) is None
    assert Design((2, 4), 0.1, 0.5).decide(2, 4) is Label.UNDECIDED


def test_boundaries_of_doubling_looks() -> None:
    assert Design.doubling(4, 64).boundaries() == (1, 1, 1, 1, 1)
    # By hand for the first: 1 - .99^4 = .0394, within ε; at 8, one copy more would make .0773.
    assert Design.doubling(4, 64, chance=0.01).boundaries() == (1, 2, 2, 3, 4)


def test_a_look_that_cannot_call_memorized() -> None:
    assert Design((1, 8), 0.1).boundaries()[0] is None
    assert Design((1, 8), 0.1).decide(1, 1) is None


def test_clean_stops_at_the_first_look_that_may() -> None:
    design = Design.doubling(4, 64)
    assert [design.decide(0, n) for n in (4, 8, 16)] == [None, None, Label.CLEAN]


@pytest.mark.parametrize("p", [Fraction(0), Fraction(1, 10), Fraction(1, 3), Fraction(9, 10), Fraction(1)])
@pytest.mark.parametrize("looks", [(2, 4), (3, 5, 10), (1, 2, 4, 8)])
def test_operating_equals_listing_every_sequence(looks: tuple[int, ...], p: Fraction) -> None:
    design = Design(looks, 0.1, 0.5, 0.9)
    found: defaultdict[str, Fraction] = defaultdict(Fraction)
    for sequence in product((0, 1), repeat=looks[-1]):
        mass = Fraction(1)
        for x in sequence:
            mass *= p if x else 1 - p
        n, label = next((n, label) for n in looks if (label := design.decide(sum(sequence[:n]), n)))
        found[label] += mass
        found["samples"] += mass * n
    exact = design.operating(float(p))._asdict()
    assert exact == pytest.approx({key: float(found[key]) for key in exact}, abs=1e-14)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("looks", LOOKS)
def test_both_errors_are_held(looks: tuple[int, ...], confidence: float) -> None:
    for chance, tolerance in product(CHANCES, TOLERANCES):
        design = Design(looks, chance, tolerance, confidence)
        for p in SHARES:
            found = design.operating(p)
            assert found.memorized + found.clean + found.undecided == pytest.approx(1)
            assert looks[0] <= found.samples + 1e-9
            assert found.samples <= looks[-1] + 1e-9
            if p <= chance:
                assert found.memorized <= design.error + 1e-12
            if p >= tolerance:
                assert found.clean <= design.error / 2 + 1e-12


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_boundary_is_the_least_that_holds_the_error(design: Design) -> None:
    spent = 0.0
    for n, least in zip(design.looks, design.boundaries(), strict=True):
        called = {k: m for (k, at), m in outcomes(design, design.chance).items() if at == n and k}
        spent += sum(m for k, m in called.items() if design.decide(k, n) is Label.MEMORIZED)
        below = (least or n + 1) - 1
        if below and design.chance:
            one_less = Design(tuple(m for m in design.looks if m <= n), design.chance)
            assert spent + outcomes(one_less, design.chance).get((below, n), 0) > design.error
    assert spent <= design.error


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_boundaries_never_fall_and_verdicts_follow_the_share(design: Design) -> None:
    least = [b or n + 1 for b, n in zip(design.boundaries(), design.looks, strict=True)]
    assert all(a <= b for a, b in pairwise(least))
    found = [design.operating(p) for p in SHARES]
    assert all(a.memorized <= b.memorized + 1e-12 for a, b in pairwise(found))
    assert all(a.clean >= b.clean - 1e-12 for a, b in pairwise(found))


@pytest.mark.parametrize("design", DESIGNS, ids=str)
@pytest.mark.slow
def test_looks_may_be_appended(design: Design) -> None:
    longer = Design((*design.looks, 2 * design.looks[-1]), design.chance)
    assert longer.boundaries()[:-1] == design.boundaries()
    for k, n in outcomes(design, 0.5):
        assert longer.interval(k, n) == design.interval(k, n)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 4, 13, 16, 64])
def test_one_look_gives_clopper_pearson(n: int, confidence: float) -> None:
    design = Design.fixed(n, confidence=confidence)
    assert all(design.interval(k, n) == clopper_pearson(k, n, confidence) for k in range(n + 1))


def test_a_look_that_stops_nothing_changes_no_interval() -> None:
    # Neither verdict is possible after one sample, so the root search must find what the beta quantiles give.
    design = Design((1, 10), 0.1)
    for k in range(11):
        assert design.interval(k, 10) == pytest.approx(clopper_pearson(k, 10), abs=1e-12)


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_intervals_cover_the_true_share(design: Design) -> None:
    intervals = {x: design.interval(*x) for x in outcomes(design, 0.5)}
    for p in SHARES:
        held = sum(m for x, m in outcomes(design, p).items() if intervals[x][0] <= p <= intervals[x][1])
        assert held >= design.confidence - 1e-12


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_interval_ends_have_their_tails_and_order(design: Design) -> None:
    order = from_low_to_high(design)
    intervals = [design.interval(*x) for x in order]
    for (low, high), (next_low, next_high) in pairwise(intervals):  # ends of neighbours may agree to all digits
        assert low <= next_low + 1e-13
        assert high <= next_high + 1e-13
    for i, (low, high) in enumerate(intervals):
        if low > 0:
            at_low = outcomes(design, low)
            assert sum(at_low[x] for x in order[i:]) == pytest.approx(0.025)
        if high < 1:
            at_high = outcomes(design, high)
            assert sum(at_high[x] for x in order[: i + 1]) == pytest.approx(0.025)


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.slow
def test_clean_shows_an_interval_within_tolerance(looks: tuple[int, ...], tolerance: float) -> None:
    for chance in CHANCES:
        design = Design(looks, chance, tolerance)
        for k, n in outcomes(design, 0.5):
            label, (low, high) = design.decide(k, n), design.interval(k, n)
            assert 0 <= low < high <= 1
            if k == 0:
                assert (label is Label.CLEAN) == (high <= tolerance)
            else:
                assert label is not Label.CLEAN


def test_memorized_is_one_sided() -> None:
    # 1 of 4 is called memorized as 1 - .99^4 = .039 is within ε. The interval is two-sided, .039 exceeds its tail of
    # .025, so it holds chance; at twice the tail it does not.
    design = Design.doubling(4, 64, chance=0.01)
    assert design.decide(1, 4) is Label.MEMORIZED
    assert design.interval(1, 4)[0] < design.chance < clopper_pearson(1, 4, 0.9)[0]


def test_more_samples_than_floats_count() -> None:
    # comb(2000, 1000) exceeds the largest float.
    found = Design((1000, 2000), 0.01).operating(0.5)
    assert found == pytest.approx((1, 0, 0, 1000))


def test_constructors() -> None:
    assert Design.doubling(4, 16).looks == (4, 8, 16)
    assert Design.doubling(4, 24).looks == (4, 8, 16, 24)
    assert Design.doubling(32, 16).looks == (16,)
    assert Design.fixed(16, chance=0.01, tolerance=0.5, confidence=0.9) == Design((16,), 0.01, 0.5, 0.9)


@pytest.mark.parametrize("looks", [(), (0,), (0, 4), (4, 4), (8, 4), (-1,)])
def test_looks_must_ascend(looks: tuple[int, ...]) -> None:
    with pytest.raises(MemfixError, match="ascend"):
        Design(looks)


def test_chance_must_be_below_tolerance() -> None:
    with pytest.raises(MemfixError, match=r"explains \(0\.3\).*\(0\.25\)"):
        Design((16,), 0.3)
    with pytest.raises(MemfixError, match="confidence"):
        Design((16,), confidence=1)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (-1, 4), (5, 4), (8, 8), (0, 32)])
def test_what_cannot_come_up_is_refused(k: int, n: int) -> None:
    # 5 is no look; 8 of 8 would have stopped at 4; none of 32 at 16
    with pytest.raises(ValueError, match=r"no outcome|cannot come up"):
        Design.doubling(4, 32).decide(k, n)
