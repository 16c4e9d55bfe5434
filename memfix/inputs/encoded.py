"""Pictures as text in a cell: in base64, as a data URI, or as Python prints bytes. They are told, and not read."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from memfix.inputs.columns import Cells, WrongCellError
from memfix.inputs.contents import Content, by_head
from memfix.inputs.seeming import texts_inside

ENCODED = re.compile(
    r"""[\s\["']*(?:data:image/|(?:\{'bytes': )?b["'](?:\\x89PNG|\\xff\\xd8\\xff|RIFF|GIF8))""", re.IGNORECASE
)
"""How a picture begins as text: as a data URI, or as Python prints bytes."""

BASE64 = re.compile(r"""[\s\["']*([A-Za-z0-9+/_-]{64,4096})([^A-Za-z0-9+/_-]?)""")
"""The beginning of what may be base64, and what ends it: in a path that is a dot or another mark."""


def require_no_encoded(cells: Cells) -> None:
    """Raise WrongCellError, naming the column, where a row holds a picture as text, which is not read."""
    for name, cell in cells.items():
        if not isinstance(cell, str | list | Mapping):
            continue
        written = cell if isinstance(cell, str) else ""
        if is_encoded(written) or any(map(is_encoded, texts_inside(cell))):
            raise WrongCellError(
                f"holds a picture as text (base64) in column '{name}': write it into a file, and name that"
            )


def is_encoded(text: str) -> bool:
    """Whether a text is a picture in base64, as a data URI or as Python prints bytes."""
    if ENCODED.match(text):
        return True
    begin = BASE64.match(text)
    if begin is None or begin[2] not in {"", *"=\"']\r\n"}:
        return False
    whole = begin[1][: len(begin[1]) // 4 * 4]
    known = by_head(base64.b64decode(whole, b"-_" if {*whole} & {*"-_"} else None))
    return known is not None and known.content is Content.PICTURE
