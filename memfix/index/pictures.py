"""Pictures read ahead by threads, in order, in batches bounded by number and by pixels. Knows nothing of indexes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image

from memfix.errors import MemfixError
from memfix.files import sha256 as file_sha256
from memfix.inputs.inside import parted, read
from memfix.inputs.opening import further_frames, open_image, undecoded

PIXELS_AT_ONCE = 1 << 25  # of one batch: 96 MiB decoded
READ_AHEAD = 64  # files hashed ahead; their contents are not kept

T = TypeVar("T")
R = TypeVar("R")


class Looked(NamedTuple):
    """A file before its picture is decoded: its hash, the pixels its header promises, why it cannot be read, and how
    many frames are behind the first one."""

    sha256: str
    pixels: int
    reason: str
    further: int = 0


def examine(path: str) -> Looked:
    """Hash a file, or a member of a tar, and read the size of its picture; of a frame, those of its whole file."""
    path, _ = parted(path)
    try:
        inside = read(path)
        digest = file_sha256([Path(path)]) if inside is None else sha256(inside).hexdigest()
    except OSError as error:
        return Looked("", 0, error.strerror or type(error).__name__)
    try:
        with undecoded(path if inside is None else BytesIO(inside)) as image:
            return Looked(digest, image.width * image.height, "", further_frames(image))
    except Exception:  # decoders raise anything on a broken file; decoding will say why
        return Looked(digest, 0, "")


def decode(path: str) -> Image.Image | str:
    """A picture, or why it cannot be had."""
    try:
        return open_image(path)
    except MemfixError as error:
        return error.message.removeprefix(f"{path} ")
    except Exception as error:  # a decoder that gives up on one broken file must not end the run
        return f"cannot be read as a picture: {type(error).__name__}."


def ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[tuple[T, R]]:
    """(item, function(item)) in order, while up to `depth` further items are under way."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def picture_batches(
    looked: Iterable[tuple[T, Looked]], size: int, pixels: int = PIXELS_AT_ONCE
) -> Iterator[list[tuple[T, Looked]]]:
    """Groups of up to `size` pictures that hold up to `pixels` together; a larger picture is alone."""
    batch: list[tuple[T, Looked]] = []
    total = 0
    for item, found in looked:
        if batch and (len(batch) == size or total + found.pixels > pixels):
            yield batch
            batch, total = [], 0
        batch.append((item, found))
        total += found.pixels
    if batch:
        yield batch


def decoded(
    pool: Executor, groups: Iterable[list[tuple[T, Looked]]], path: Callable[[T], str]
) -> Iterator[list[tuple[T, Image.Image | str]]]:
    """The pictures of each batch, while those of the next one are being decoded: two batches are in memory."""
    waiting: list[tuple[T, Future[Image.Image | str]]] = []
    for group in groups:
        coming = [(item, pool.submit(partial(decode, path(item)))) for item, _ in group]
        if waiting:
            yield [(item, future.result()) for item, future in waiting]
        waiting = coming
    if waiting:
        yield [(item, future.result()) for item, future in waiting]
