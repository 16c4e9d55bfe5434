"""Pictures behind the first one of a file: pages of a TIFF, frames of an animation, further photographs of an MPO.

Each that shows something of its own is a picture of its own. A smaller version of another page, a mask, and what was
seen in the same file already is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from enum import Enum
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from memfix.inputs import inside
from memfix.inputs.decoding import as_rgb
from memfix.inputs.opening import UNREADABLE, further_frames, seek, undecoded

MOST_FRAMES = 64
"""Frames of an animation that are looked at, evenly spread: two beside each other hardly differ."""

MOST_PAGES = 1000
"""Pages of a TIFF that are looked at."""

KIND_OF_PAGE, SMALLER_OR_MASK = 254, 0b101
"""The tag of a TIFF, and the bits in it, that say that a page is a smaller version or a mask of another one."""


class NotOwn(Enum):
    """Why a frame is no picture of its own."""

    SAME = "as one before it"
    UNUSED = "a preview, broken, or one of more than are looked at"


class Frame(NamedTuple):
    """A frame of a file: its address, and its picture as training sees it, or why it is none of its own."""

    address: str
    found: Image.Image | NotOwn


def frames_behind(address: str, first: Image.Image) -> Iterator[Frame]:
    """Every frame behind the first one of a file, which is given, in order and one in memory at a time."""
    known = {_print(first)}
    held = inside.read(address)
    with undecoded(address if held is None else BytesIO(held)) as image:
        size, count = image.size, 1 + further_frames(image)
        wanted = _wanted(image.format or "", count)
        for place in range(1, count):
            found = _own(image, place, size) if place in wanted else NotOwn.UNUSED
            if isinstance(found, Image.Image):
                mark = _print(found)
                found, known = (NotOwn.SAME if mark in known else found), known | {mark}
            yield Frame(f"{address}#{place + 1}", found)


def _wanted(form: str, count: int) -> Collection[int]:
    """The frames that are looked at."""
    if form == "TIFF":
        return range(min(count, MOST_PAGES))
    return range(count) if count <= MOST_FRAMES else {i * count // MOST_FRAMES for i in range(MOST_FRAMES)}


def _own(image: Image.Image, place: int, first: tuple[int, int]) -> Image.Image | NotOwn:
    """The picture of a frame, or why it is none. `first` is the size of the first one."""
    try:
        seek(image, place)
        if image.format == "MPO" and image.size != first:
            return NotOwn.UNUSED
        if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(KIND_OF_PAGE, 0) & SMALLER_OR_MASK:
            return NotOwn.UNUSED
        return as_rgb(image)
    except UNREADABLE:
        return NotOwn.UNUSED


def _print(image: Image.Image) -> tuple[tuple[int, int], bytes]:
    """What two frames share exactly where they are the same picture."""
    return image.size, hashlib.sha256(image.tobytes()).digest()
