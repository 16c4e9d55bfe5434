"""Whatever is in a file from outside, its reader reads it or says what is wrong with it."""

import zlib
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.readers import READERS, read

CASES = 250  # of each reader; `python -m tests.fuzz` goes on for as long as one likes


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    data = READERS[name][0]
    read(name, data, tmp_path)
    for number in range(CASES):
        case = mutated(name, data, Random(zlib.crc32(f"{name} {number}".encode())))
        try:
            read(name, case, tmp_path)
        except Exception as error:
            raise AssertionError(f"{name}, case {number}: {case[:200]!r}") from error
