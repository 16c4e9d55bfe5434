"""Damage by hand-worked numbers, and every limit from both sides."""

import re
from pathlib import Path

import pytest
import torch

from memfix.quality import MOST_BROKEN
from memfix.recheck import damage
from memfix.recheck.damage import (
    LEAST_DISTANCE,
    LEAST_DIVERSITY,
    LEAST_FREEDOM,
    LEAST_LEAD,
    MOST_CHANGED,
    NO_LEAD,
    Seen,
    harm,
    harm_of_model,
    measure_damage,
)
from memfix.records import Damage

FINE = Damage(
    drift=0.1, broken=0.0, diversity_before=0.3, diversity_after=0.3, distance_before=0.4, distance_after=0.4,
    clip_lead_before=0.1, clip_lead_after=0.1,
)  # fmt: skip


def grey(*levels: float) -> torch.Tensor:
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_differences_by_hand() -> None:
    """Grey pictures differ by the difference of their levels."""
    found = measure_damage(
        {"a": Seen.of(grey(0.0, 0.2), grey(0.1, 0.1), 0.5), "b": Seen.of(grey(0.6, 0.6), grey(0.1, 0.1), 0.0)}
    )
    a = found["a"]
    assert (a.drift, a.broken) == (pytest.approx(0.1), 0.5)
    assert (a.diversity_before, a.diversity_after) == (pytest.approx(0.2, abs=1e-4), 0)
    assert a.distance_before == pytest.approx(((0.36 + 0.16) / 2) ** 0.5, abs=1e-4)  # 0.6 and 0.4 from the others
    assert a.distance_after == 0
    assert found["b"].diversity_before == 0


def test_pairs_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    own, others = (torch.rand(n, 3, 8, 8, generator=generator) for n in (3, 5))
    found = measure_damage({"a": Seen.of(own, own, 0), "b": Seen.of(others, others, 0)})["a"]

    def rms(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x - y).square().mean())

    within = [rms(own[i], own[j]) for i in range(3) for j in range(i)]
    between = [rms(x, y) for x in own for y in others]
    assert found.diversity_before == pytest.approx((sum(within) / 3) ** 0.5, abs=1e-5)
    assert found.distance_after == pytest.approx((sum(between) / 15) ** 0.5, abs=1e-5)


def test_a_single_prompt_of_a_single_sample_has_nothing_to_differ_from() -> None:
    found = measure_damage({"a": Seen.of(grey(0.1), grey(0.5), 0)})["a"]
    assert found.diversity_before is found.diversity_after is found.distance_before is found.distance_after is None
    assert harm(found, must_not_change=True) is None


def test_a_lead_that_was_never_there_cannot_be_lost() -> None:
    gone = FINE.model_copy(update={"clip_lead_before": NO_LEAD, "clip_lead_after": -0.1})
    assert harm(gone, must_not_change=True) is None
    assert harm(gone.model_copy(update={"clip_lead_before": None}), must_not_change=True) is None
    assert harm(gone.model_copy(update={"clip_lead_before": NO_LEAD + 0.01}), must_not_change=True)


@pytest.mark.parametrize(
    ("field", "limit", "past", "of_targets", "told"),
    [
        ("broken", MOST_BROKEN, 0.01, True, "blank or noise"),
        ("distance_after", LEAST_DISTANCE * 0.4, -0.01, True, "grew like those of other prompts"),
        ("diversity_after", LEAST_DIVERSITY * 0.3, -0.01, False, "grew alike"),
        ("drift", MOST_CHANGED * 0.3, 0.01, False, "draws other pictures"),
        ("clip_lead_after", LEAST_LEAD * 0.1, -0.01, False, "no longer show what it says"),
    ],
)
def test_every_limit(field: str, limit: float, past: float, of_targets: bool, told: str) -> None:
    within, beyond = (FINE.model_copy(update={field: value}) for value in (limit - past / 10, limit + past))
    assert harm(within, must_not_change=True) is None
    assert told in (harm(beyond, must_not_change=True) or "")
    assert (harm(beyond, must_not_change=False) is not None) is of_targets


def test_one_other_picture_for_every_seed_is_no_erasure_even_of_a_single_prompt() -> None:
    """Nothing to compare a single prompt with but itself: it moved far, and its seeds no longer differ."""
    alone = FINE.model_copy(update={"distance_before": None, "distance_after": None, "diversity_before": 0.02})
    moved = alone.model_copy(update={"drift": 0.3})
    within, beyond = (
        moved.model_copy(update={"diversity_after": LEAST_FREEDOM * 0.3 + x}) for x in (0.01, -0.01)
    )  # fmt: skip
    assert harm(within, must_not_change=False) is None
    assert "every seed gives nearly the same picture" in (harm(beyond, must_not_change=False) or "")


def test_a_model_is_damaged_when_more_than_a_quarter_is() -> None:
    assert harm_of_model([]) is None
    assert harm_of_model([True] * 3 + [False]) is None
    assert "2 of 4" in (harm_of_model([True, False, False, True]) or "")


def test_limits_are_those_that_the_page_tells() -> None:
    page = Path(__file__).parents[2] / "docs/verdicts.md"
    told = {n: float(v) for n, v in re.findall(r"`((?:MOST|LEAST)_[A-Z]+)` = ([0-9.]+)", page.read_text())}
    limits = {n: v for n, v in vars(damage).items() if n.startswith(("MOST_", "LEAST_"))}
    assert {n: v for n, v in told.items() if n in limits} == limits
