"""The end of fetching: surrogates refused, the folder made a valid imagefolder, and what was got of what was asked."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import NamedTuple

from memfix.download.fetched import Fetched, Status
from memfix.download.journal import Journal
from memfix.download.placeholders import repeated
from memfix.files import write_atomic
from memfix.inputs import tables
from memfix.inputs.links import Link
from memfix.inputs.wrong_rows import WrongRows

METADATA = "metadata.jsonl"
OWN_NAME = re.compile(r"[0-9a-f]{64}\.\w{3}")


class PictureRow(NamedTuple):
    """A line of `metadata.jsonl`: one a picture and text."""

    file_name: str
    text: str
    url: str


class Coverage(NamedTuple):
    """Of the URLs of a list: how many were fetched now and before, and how many were not, by status and reason."""

    urls: int
    fetched: int
    there: int
    missing: dict[tuple[Status, str], int]
    suspects: list[list[Fetched]]

    @property
    def pictures(self) -> int:
        """URLs that have a picture."""
        return self.fetched + self.there


def settle(links: Iterable[Link], journal: Journal, fresh: Set[str]) -> Coverage:
    """Refuse what turned out to be placeholders, write `metadata.jsonl`, and count. `fresh`: URLs just fetched."""
    links = list(links)
    found = repeated(journal.records.values(), _texts(links, journal.folder))
    for url, why in found.surrogates.items():
        record = journal.records[url]
        if record.status is Status.FETCHED:
            update = {"status": why.status, "reason": why.reason, "error": why.error, "file_name": ""}
            journal.append(record.model_copy(update=update))
    _write_metadata(links, journal)
    _drop_others(journal)
    urls = list(dict.fromkeys(link.url for link in links))
    ends = {url: journal.records[url] for url in urls if url in journal.records}
    got = [url for url, record in ends.items() if record.status is Status.FETCHED]
    now = sum(url in fresh for url in got)
    missing = Counter((r.status, r.reason) for r in ends.values() if r.status is not Status.FETCHED)
    return Coverage(len(urls), now, len(got) - now, dict(sorted(missing.items())), found.suspects)


def _texts(links: list[Link], folder: Path) -> dict[str, set[str]]:
    """Captions of every URL, of this list and of earlier ones."""
    texts = defaultdict[str, set[str]](set)
    known: list[Link | PictureRow] = [*links, *_earlier(folder)]
    for row in known:
        texts[row.url].add(row.text)
    return texts


def _write_metadata(links: list[Link], journal: Journal) -> None:
    """Rows of this list first, then those of earlier ones whose pictures are still here."""
    files = {r.url: r.file_name for r in journal.records.values() if r.status is Status.FETCHED}
    present = set(files.values())
    rows = [PictureRow(files[link.url], link.text, link.url) for link in links if link.url in files]
    rows += [row for row in _earlier(journal.folder) if row.file_name in present]
    once = {(row.file_name, row.text): row for row in reversed(rows)}
    texts = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in reversed(once.values()))
    write_atomic(journal.folder / METADATA, texts)


def _earlier(folder: Path) -> Iterator[PictureRow]:
    path = folder / METADATA
    if path.exists():
        for _, cells in tables.rows(path, WrongRows()):
            yield PictureRow(str(cells.get("file_name", "")), str(cells.get("text", "")), str(cells.get("url", "")))


def _drop_others(journal: Journal) -> None:
    """Delete pictures that no URL has any more: --references reads every picture of a folder."""
    wanted = {r.file_name for r in journal.records.values() if r.status is Status.FETCHED}
    for path in journal.folder.iterdir():
        if OWN_NAME.fullmatch(path.name) and path.name not in wanted:
            path.unlink()
