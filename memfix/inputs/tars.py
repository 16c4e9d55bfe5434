"""Pictures in webdataset tars, found once and read where they lie: nothing is unpacked, so no name in a tar is a path.

A picture's address is `/a/b.tar#OFFSET+SIZE`, bytes of its data in the file. Knows nothing of picture formats.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from memfix.errors import MemfixError
from memfix.inputs import columns

ADDRESS = re.compile(r"(?s)(.+\.tar)#(\d+)\+(\d+)")
LIMIT = 256 << 20  # bytes of one member; a larger one is no picture
TEXT_LIMIT = 1 << 20


class Member(NamedTuple):
    """A picture: the last part of its name, its address and the caption beside it."""

    name: str
    address: str
    text: str


def members(tar: Path, suffixes: Set[str]) -> Iterator[Member]:
    """The pictures of a tar in order; a caption is the key.txt or key.json beside key.jpg, before or behind it."""
    key, pictures, text = "", list[Member](), ""
    try:
        with tarfile.open(tar, "r:") as archive:  # uncompressed, as webdataset's are: only then is there an offset
            for info in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every header
                if not info.isreg() or info.issparse() or info.size > LIMIT:
                    continue
                stem, _, suffix = PurePosixPath(info.name).name.partition(".")
                new = f"{PurePosixPath(info.name).parent}/{stem}"
                if new != key:
                    yield from (picture._replace(text=text) for picture in pictures)
                    key, pictures, text = new, [], ""
                suffix = f".{suffix.lower()}"
                if suffix in suffixes:
                    address = f"{tar.resolve()}#{info.offset_data}+{info.size}"
                    pictures.append(Member(PurePosixPath(info.name).name, address, ""))
                elif suffix in {".txt", ".json"} and info.size <= TEXT_LIMIT and (file := archive.extractfile(info)):
                    text = _caption(file.read(), suffix) or text
            yield from (picture._replace(text=text) for picture in pictures)
    except (tarfile.TarError, OSError) as error:
        raise MemfixError(
            f"{tar} cannot be read as a tar: {error}.", "Replace the file; unpack .tar.gz first."
        ) from None


def container(address: str) -> Path:
    """The file that holds a picture: the tar of an address, else the path itself."""
    match = ADDRESS.fullmatch(address)
    return Path(match[1] if match else address)


def read(address: str) -> bytes | None:
    """The bytes at an address; None if it is none but an ordinary path. Raises OSError."""
    match = ADDRESS.fullmatch(address)
    if match is None or Path(address).is_file():
        return None
    with Path(match[1]).open("rb") as file:
        file.seek(int(match[2]))
        return file.read(min(int(match[3]), LIMIT))


def _caption(data: bytes, suffix: str) -> str:
    """A caption, or nothing where there is none: references do not need one."""
    try:
        text = data.decode("utf-8-sig")
        cells = json.loads(text) if suffix == ".json" else {"text": text}
        named = {columns.normal(name): cell for name, cell in cells.items()} if isinstance(cells, dict) else {}
        return next(iter(columns.texts(named, required=False)), "")
    except (ValueError, RecursionError, columns.WrongCellError):
        return ""
