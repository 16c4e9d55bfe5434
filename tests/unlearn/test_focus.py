"""Which target an attack denoises best, against numbers by hand."""

import math

import pytest
import torch

from memfix.unlearn.train.focus import OF_BANDS, OF_TARGETS, SHARPNESS, Focus


def test_errors_are_held_against_those_of_all_targets_at_like_timesteps() -> None:
    focus = Focus(3, 1000)
    assert focus.odds.tolist() == pytest.approx([1 / 3] * 3)
    focus.see(0, 50, math.e)  # the first in its band, so that it is its own measure
    assert focus.lead[0] == 0
    focus.see(1, 99, 1.0)
    level = 1 - OF_BANDS
    assert focus.lead[1].item() == pytest.approx(-level)
    focus.see(1, 100, 1000.0)  # another band, where nothing else was seen: no lead
    assert focus.lead[1].item() == pytest.approx(-level * (1 - OF_TARGETS))
    odds = focus.odds
    assert odds.sum().item() == pytest.approx(1)
    assert (odds[1] / odds[0]).item() == pytest.approx(math.exp(SHARPNESS * level * (1 - OF_TARGETS)), rel=1e-4)
    assert odds[2] == odds[0]  # nothing is known of the third


def test_what_is_known_can_be_written_down_and_an_error_of_nothing_is_a_number() -> None:
    focus = Focus(2, 100)
    focus.see(0, 99, 1.0)
    focus.see(1, 90, 0.0)
    assert torch.isfinite(focus.odds).all() and focus.odds[1] > focus.odds[0]
    again = Focus(2, 100)
    again.take_up(focus.state())
    assert torch.equal(again.odds, focus.odds)
    again.see(0, 5, 2.0)
    assert torch.equal(torch.isnan(focus.level), torch.tensor([True] * 9 + [False]))  # a copy
