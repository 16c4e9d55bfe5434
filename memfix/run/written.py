"""What a stage that has not ended wrote so far, by digest: no edit of its lines is taken for a result where it goes on.

The digest lies in a hidden file beside the lines, and is written after them: what a kill left without one is cut off,
and made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memfix.errors import MemfixError
from memfix.files import TEMPORARY, errors_of, sha256

DIGEST_ENDING = ".written"
DRAWN = ".drawn.jsonl"
"""In a folder of samples: the digest of each picture, written before the picture counts as done."""

LEDGER = ".written"
"""In a run, while a stage has not ended: that there are such digests, so that a copy without them is told from a kill
before the first one."""


class Written:
    """The digests of the files of one run, as one process writes them."""

    def __init__(self) -> None:
        self._totals: dict[Path, tuple[int, Any]] = {}

    def begin(self, run: Path) -> None:
        """Before a stage writes anything: from here on its lines have digests."""
        with errors_of(run / LEDGER):
            (run / LEDGER).touch()

    def note(self, file: Path) -> None:
        """Take down what a file holds now; of one that only grew since, only its end is read."""
        size, total = self._totals.get(file, (0, hashlib.sha256()))
        with errors_of(file), file.open("rb") as opened:
            opened.seek(size)
            while chunk := opened.read(1 << 20):
                total.update(chunk)
                size += len(chunk)
        self._totals[file] = size, total
        beside = _beside(file)
        draft = beside.with_name(beside.name + TEMPORARY)
        with errors_of(beside):
            draft.write_text(f"{size} {total.hexdigest()}\n")
            draft.replace(beside)

    def forget(self, file: Path) -> None:
        """Before a file is written anew: until it is noted again, nothing is known of it."""
        self._totals.pop(file, None)
        _beside(file).unlink(missing_ok=True)

    def require(self, run: Path) -> None:
        """Raise MemfixError where lines that were noted are not what they were, and cut off those that were not.

        A file that is gone is written again.
        """
        self._totals.clear()
        for beside in sorted(run.rglob(f".*{DIGEST_ENDING}")):
            file = beside.with_name(beside.name[1 : -len(DIGEST_ENDING)])
            if not file.is_file():
                beside.unlink()
                continue
            size, digest = beside.read_text().split()
            with errors_of(file), file.open("rb") as opened:
                if hashlib.sha256(opened.read(int(size))).hexdigest() != digest:
                    raise MemfixError(
                        f"{file} is not what was written before the interruption.",
                        "Restore it, or delete it so that the stage writes it again.",
                    )
            if file.stat().st_size > int(size):
                os.truncate(file, int(size))


def require_notes(run: Path, stage: str) -> None:
    """Raise MemfixError where all digests of an interrupted stage are gone: nothing that it wrote can be believed."""
    if not (run / LEDGER).exists() and not any(run.rglob(f".*{DIGEST_ENDING}")):
        raise MemfixError(
            f"{run} lacks the hidden files that say what its {stage} stage wrote before the interruption.",
            "Copy them too (cp -a, rsync without --exclude), or make that stage anew: detect in a new run, or unlearn "
            "or recheck with --overwrite.",
        )


def drop_unnoted(files: Iterable[Path]) -> None:
    """Remove lines that have no digest, as those of a kill between the two have: they are made anew."""
    for file in files:
        if not _beside(file).exists():
            file.unlink()


def require_drawn(picture: Path, digest: str) -> None:
    """Raise MemfixError where a picture is not what was drawn."""
    if sha256([picture]) != digest:
        raise MemfixError(
            f"{picture} is not what was drawn before the interruption.",
            "Restore it, or delete it so that the stage draws it again.",
        )


def forget_all(run: Path) -> None:
    """Remove the digests of a stage that has ended, since its seal has others."""
    for name in (f".*{DIGEST_ENDING}", DRAWN, LEDGER):
        for beside in run.rglob(name):
            beside.unlink()


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}{DIGEST_ENDING}")
