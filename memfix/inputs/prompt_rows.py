"""One text of a list with its pictures, and what of it is no text: places for other texts, names of LoRAs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memfix.inputs import columns
from memfix.inputs.tally import PassedOver, Tally

NO_TEXT = " ,.;:-=*_~+|{}[]()<>$%"
"""What says nothing: what is left of a style, or a row that parts others."""

TAKEN_OUT = re.compile(r"\{prompt\}|<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)
"""The place for a prompt in a style, and what a web UI loads for it."""

WAS_TAKEN_OUT = "places for a prompt in a style, and names of LoRAs, were taken out"
BETWEEN = re.compile(r"\s*,(?:\s*,)+")
"""Commas that had something between them."""


class PromptRow(NamedTuple):
    """One text of a list. `references` are absolute paths of files that exist, or addresses; `urls` as written."""

    line: int
    text: str
    references: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    ground_truth: str = ""
    source: str = ""


def without_place(row: PromptRow, tally: Tally) -> Iterator[PromptRow]:
    """A row without what is no text: what a style itself says is what can be asked."""
    text = _joined(TAKEN_OUT.sub(" ", row.text)) if TAKEN_OUT.search(row.text) else row.text
    if text != row.text:
        tally.alter(WAS_TAKEN_OUT, row.source)
    if text.strip(NO_TEXT):
        yield row._replace(text=text)
    else:
        tally.pass_over(PassedOver.EMPTY, row.source)


def _joined(text: str) -> str:
    """A text of which something was taken out, without the marks that parted it from that."""
    return BETWEEN.sub(",", columns.clean(text)).lstrip(" ,.;:|-").rstrip(" ,;:|-")


def with_pictures_of(first: PromptRow, again: PromptRow) -> PromptRow:
    """A row with the pictures of another one that has the same text."""
    return first._replace(
        references=_union(first.references, again.references),
        urls=_union(first.urls, again.urls),
        ground_truth=first.ground_truth or again.ground_truth,
    )


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
