"""What fits a card is what the room of a training finds, and what memfix comes with is in order."""

import pytest
import torch

from memfix.models.cards import CONTEXT, GIB, Fit, Growth, counted_families, fit_in_words, fitting, free_bytes
from memfix.models.room import Room

PLAIN, AGAIN = Growth(24, 240, 10), Growth(24, 120, 28)


@pytest.mark.parametrize(
    ("free", "found"),
    [
        (240, Fit(24, False)), (239, Fit(24, True)), (120, Fit(24, True)), (119, Fit(11, False)), (10, Fit(1, False)),
        (9, None),
    ],
)  # fmt: skip
def test_ways_are_taken_in_the_order_of_the_room(free: int, found: Fit | None) -> None:
    assert fitting(lambda again: AGAIN if again else PLAIN, free) == found
    room = Room(save=lambda on: None)

    def work() -> None:
        if (AGAIN if room.saves else PLAIN).of(min(24, room.most or 24)) > free:
            raise torch.OutOfMemoryError("of this test")

    if found is None:
        with pytest.raises(torch.OutOfMemoryError):
            room.fit(work, 24)
    else:
        room.fit(work, 24)
        assert room.saves is found.checkpointing
        assert found.at_once / 2 < (room.most or 24) <= found.at_once  # it halves


def test_a_single_item_that_needs_checkpointing() -> None:
    growth = {False: Growth(4, 400, 100), True: Growth(4, 80, 20)}
    assert fitting(growth.__getitem__, 45) == Fit(2, True)


def test_growth_is_on_a_line() -> None:
    assert [PLAIN.of(n) for n in (1, 2, 24)] == [10, 20, 240]
    assert Growth(1, 7, 7).of(1) == 7 and Growth(1, 7, 7).most(6) == 0


def test_a_card_has_its_context_and_gaps() -> None:
    assert free_bytes(CONTEXT + 100, 15) == 80


def test_cells_of_a_table() -> None:
    cells = [fit_in_words(f, 24) for f in (None, Fit(24, False), Fit(24, True), Fit(3, True))]
    assert cells == ["does not fit", "all", "all, checkpointing", "3, checkpointing"]


def test_what_is_wanted_of_cards_is_so_by_default() -> None:
    """12 GB: SD 1.5 LoRA. 24 GB: SD 1.5 full with 8-bit AdamW, SD 2.1 and SDXL LoRA."""
    found = {(row.family.split(",")[0], row.work): row for row in counted_families()}
    assert found["SD 1.x", "LoRA"].on(12 * GIB)
    for family, work in (("SD 1.x", "full, 8-bit AdamW"), ("SD 2.x", "LoRA"), ("SDXL", "LoRA")):
        assert found[family, work].on(24 * GIB), (family, work)
