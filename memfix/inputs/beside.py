"""The text file beside a picture, in a folder or in a tar: how it is called, and what it says. Opens no file."""

from __future__ import annotations

import json

from memfix.inputs import columns
from memfix.inputs.contents import POINTER

JSON = ".json"
SUFFIXES_BESIDE = (".txt", ".caption", ".cap", JSON)
DOUBLE = ".caption.txt"
"""A name of a caption that ends twice: of 4.png in 4.caption.txt."""
TEXT_LIMIT = 1 << 20  # bytes of such a file


def texts_in(data: bytes, suffix: str) -> list[str]:
    """The texts of a caption: all of a file of text, or those of an object of JSON, if it has any.

    A pointer of Git LFS says nothing. Raises UnicodeDecodeError for a text that is none.
    """
    if data.startswith(POINTER):
        return []
    text = data.decode("utf-8-sig", errors="replace" if suffix == JSON else "strict")
    try:
        cells = json.loads(text) if suffix == JSON else {"text": text}
        named = {columns.normal(name): cell for name, cell in cells.items()} if isinstance(cells, dict) else {}
        return columns.texts(named, required=False)
    except (ValueError, RecursionError, columns.WrongCellError):  # it is about something else
        return []
