"""Pictures in webdataset tars, found once and read where they lie: nothing is unpacked, so no name in a tar is a path.

A picture's address is `/a/b.tar#OFFSET+SIZE`, bytes of its data in the file. Knows nothing of picture formats.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from memfix.errors import MemfixError
from memfix.files import is_hidden
from memfix.inputs.beside import DOUBLE, SUFFIXES_BESIDE, TEXT_LIMIT, texts_in
from memfix.inputs.contents import Content, Known, content_in, masked_by
from memfix.inputs.tally import PassedOver, Tally

ADDRESS = re.compile(r"(?s)(.+)#(\d+)\+(\d+)")
LIMIT = 256 << 20  # bytes of one member; a larger one is no picture
HEADER_BLOCK = tarfile.BLOCKSIZE
END = 2 * HEADER_BLOCK  # bytes of zeros that a tar ends with at least
MOST_ZEROS = 1 << 20  # bytes behind the last member; with more, room was made for what never came


class Member(NamedTuple):
    """A picture: the last part of its name, its address and the captions beside it, each once."""

    name: str
    address: str
    texts: tuple[str, ...]


def members(tar: Path, tally: Tally | None = None) -> Iterator[Member]:
    """The pictures of a tar in order; what else is in it goes to `tally`.

    Of `a/poster v1.0.png` the caption is `a/poster v1.0.txt` or .json, wherever in the tar; else, as webdataset means
    it, `a/poster v1.txt`, and of `a/1.front.png` that is `a/1.txt`. Memory is that of the names and captions of a tar.

    Several tars in a row are one. Raises MemfixError for one with a damaged header, or that was cut off.
    """
    tally, found, texts = tally or Tally(), list[tuple[str, str]](), dict[str, list[str]]()
    try:
        # uncompressed, as webdataset's are: only then is there an offset
        with tarfile.open(tar, "r:", ignore_zeros=True) as archive:
            for info in _headers(archive, tar):
                if not info.isreg() or info.issparse():
                    if not info.isdir():
                        tally.pass_over(PassedOver.LINKED, info.name)
                    continue
                if (content := _content(archive, info, tally)) is Content.PICTURE:
                    found.append((info.name, f"{tar.resolve()}#{info.offset_data}+{info.size}"))
                    continue
                stem, suffix = _parted(info.name)
                is_text = suffix in SUFFIXES_BESIDE and content is Content.OTHER and info.size <= TEXT_LIMIT
                if is_text and (file := archive.extractfile(info)):
                    key = info.name[: -len(DOUBLE)] if info.name.lower().endswith(DOUBLE) else stem
                    texts.setdefault(key, []).extend(_captions(file.read(), suffix))
    except (tarfile.TarError, OSError) as error:
        raise MemfixError(
            f"{tar} cannot be read as a tar: {error}.", "Replace the file; unpack .tar.gz first."
        ) from None
    pictures = {_parted(name)[0] for name, _ in found}
    for name, address in found:
        if (masked := masked_by(name)) and masked in pictures:
            tally.pass_over(PassedOver.MASK, name)
            continue
        own = next(filter(None, map(texts.get, _stems(name))), [])
        yield Member(PurePosixPath(name).name, address, tuple(dict.fromkeys(own)))


def _headers(archive: tarfile.TarFile, tar: Path) -> Iterator[tarfile.TarInfo]:
    """All of them. What is between members has to be nothing, since tarfile passes over headers that are damaged."""
    end, size = 0, tar.stat().st_size
    with tar.open("rb") as file:
        for info in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember every header
            _require_nothing(file, end, info.offset)
            end = archive.offset  # of the next header
            yield info
        if not END <= size - end <= MOST_ZEROS:
            raise tarfile.TarError(f"it does not end as a tar does behind byte {end}; it was cut off, or never filled")
        _require_nothing(file, end, size)


def _require_nothing(file: IO[bytes], first: int, last: int) -> None:
    """Raise TarError unless there are zeros, or headers about a whole archive, between two places of a tar."""
    at = first
    while at < last:
        file.seek(at)
        block = file.read(min(HEADER_BLOCK, last - at))
        at += HEADER_BLOCK
        if not any(block):
            continue
        info = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")  # raises HeaderError, a TarError
        if info.type != tarfile.XGLTYPE:
            raise tarfile.TarError(f"the header at byte {at - HEADER_BLOCK} is damaged")
        at += -(-info.size // HEADER_BLOCK) * HEADER_BLOCK


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo, tally: Tally) -> Content | None:
    """What a member is; what is no picture is counted. None for what is not looked at."""
    if is_hidden(info.name):
        tally.pass_over(PassedOver.HIDDEN, info.name)
        return None
    if info.size > LIMIT:
        tally.pass_over(PassedOver.LARGE, info.name)
        return None
    file = archive.extractfile(info)
    known = content_in(info.name, file, info.size) if file else Known(Content.OTHER)
    suffix = PurePosixPath(info.name).suffix.lower()
    other = PassedOver.CAPTIONS if suffix in SUFFIXES_BESIDE else PassedOver.OTHER
    if known.content is not Content.PICTURE:
        kinds = {Content.FOREIGN: PassedOver.FOREIGN, Content.OTHER: other}
        tally.pass_over(kinds.get(known.content, PassedOver.CLOSED), info.name)
    return known.content


def _parted(name: str) -> tuple[str, str]:
    """A member's path without its last suffix, and that in lower case."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")), path.suffix.lower()


def _stems(name: str) -> Iterator[str]:
    """What a caption beside a picture is called, without its suffix: from the longest to webdataset's key."""
    path = PurePosixPath(name)
    while path.suffix:
        path = path.with_suffix("")
        yield str(path)


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


def _captions(data: bytes, suffix: str) -> list[str]:
    """The captions in a member, or nothing where there is none: references do not need one."""
    try:
        return texts_in(data, suffix)
    except UnicodeDecodeError:
        return []
