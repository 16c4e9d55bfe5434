"""What seems to be the name of a picture, and the texts inside a cell that may be one. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from memfix.inputs import columns
from memfix.inputs.contents import FOREIGN_SUFFIXES, SUFFIXES

LIKE_DOMAINS = {".ai", ".ps", ".im"}
ENDINGS = (SUFFIXES | FOREIGN_SUFFIXES) - LIKE_DOMAINS
CAPTION_NUMBER = re.compile(r"#\d+$")  # Flickr8k: of a caption, behind the name of its picture
MOST_LETTERS = 500
AROUND = " \t\r\n\"'[](){},;"
MOST_DEEP = 6  # cells in cells that are looked into


def seems_to_name(text: str) -> bool:
    """Whether a text seems to be the name of a picture."""
    if "." not in text or len(text) > MOST_LETTERS:
        return False
    name = CAPTION_NUMBER.sub("", text.strip(AROUND))
    stem, dot, ending = name.rpartition(".")
    return f"{dot}{ending}".lower() in ENDINGS and stem[-1:] not in {"", "/", "\\", " "} and "\n" not in stem


def texts_inside(cell: Any, depth: int = MOST_DEEP) -> Iterator[str]:
    """The texts in a cell, in lists and objects too, also where these are written as JSON or Python text."""
    if isinstance(cell, str):
        inner = columns.written(cell) if depth else None
        if inner is None:
            yield cell.strip()
        else:
            yield from texts_inside(inner, depth - 1)
    elif depth and isinstance(cell, Mapping | Sequence) and not isinstance(cell, bytes | bytearray):
        for item in cell.values() if isinstance(cell, Mapping) else cell:
            yield from texts_inside(item, depth - 1)
