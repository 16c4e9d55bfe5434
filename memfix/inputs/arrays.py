"""Files of numbers that data sets are published in: pickles, NumPy, IDX, TFRecord. Tells them, and reads none."""

from __future__ import annotations

import ast
import math
import re
from typing import IO

PICKLED = re.compile(rb"\x80[\x02-\x05][}\](cXU\x8a\x95KJN]|\((?:dp|lp)\d*\n|c(?:numpy|copy_reg|_codecs)", re.DOTALL)
NUMPY = b"\x93NUMPY"
HEADER_OF_NUMPY = re.compile(rb"\{.*?\}", re.DOTALL)
IDX_SIZES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}
SHARD = re.compile(r".*(?:\.tfrecords?\b.*|-\d{5}-of-\d{5})", re.IGNORECASE)
"""How TFDS and ImageNet call their files: posters-train.tfrecord-00000-of-00001, train-00000-of-01024."""

FRAME = 16  # bytes around each record of TFRecord
RECORDS_THAT_SHOW = 3


def is_array_file(head: bytes, file: IO[bytes], size: int) -> bool:
    """Whether a file of so many bytes that begins like this is a pickle, or IDX or TFRecord. Raises OSError."""
    return PICKLED.match(head) is not None or _is_idx(head, size) or _is_records(head, file, size)


def may_be_pictures(head: bytes) -> bool:
    """Whether an array of NumPy may be pictures: of bytes, or of more axes than the latents of one picture."""
    found = HEADER_OF_NUMPY.search(head) if head.startswith(NUMPY) else None
    try:
        header = ast.literal_eval(found[0].decode("latin-1")) if found else {}
        shape, form = header["shape"], str(header["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError):
        return False
    return len(shape) > 3 or (form.endswith("u1") and len(shape) > 1) or (len(shape) == 3 and shape[-1] in {1, 3, 4})


def _is_idx(head: bytes, size: int) -> bool:
    """Whether a file is one of MNIST's, of two axes or more: its header gives its size."""
    if len(head) < 8 or head[:2] != b"\0\0" or head[2] not in IDX_SIZES or not 2 <= head[3] <= 4:
        return False
    axes = [int.from_bytes(head[4 * i : 4 * i + 4]) for i in range(1, head[3] + 1)]
    return size == 4 + 4 * len(axes) + math.prod(axes) * IDX_SIZES[head[2]]


def _is_records(head: bytes, file: IO[bytes], size: int) -> bool:
    """Whether a file is a chain of records, each with its length in front."""
    at, begin = 0, head[:8]
    for _ in range(RECORDS_THAT_SHOW):
        length = int.from_bytes(begin, "little")
        at += length + FRAME
        if len(begin) < 8 or length == 0 or at > size:
            return False
        if at == size:
            return True
        file.seek(at)
        begin = file.read(8)
    return True
