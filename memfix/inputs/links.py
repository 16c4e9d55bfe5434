"""Lists of picture URLs: any table that has a URL column, or lines of URLs. Fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memfix.errors import MemfixError
from memfix.inputs import columns, tables
from memfix.inputs.prompts import list_file
from memfix.inputs.wrong_rows import WrongRows

HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
PARTS = re.compile(r"[\s,;|]+")
HINT = f"One of these columns must hold the URL: {', '.join(columns.URL)}; hashes go to {' or '.join(columns.HASH)}."


class Link(NamedTuple):
    """A picture's URL with a text that it goes with. `hashes`: what its bytes must have, sha256 or md5, lower case."""

    url: str
    text: str = ""
    hashes: frozenset[str] = frozenset()


def read_links(source: str, wrong: WrongRows | None = None, limit: int | None = None) -> list[Link]:
    """Every URL of a list with every text of its row; with `limit`, of the first rows that have any.

    Raises MemfixError, naming file and line, for a missing or malformed list and for one without URLs.
    """
    path = list_file(source)
    found: dict[Link, None] = {}
    for number, row in enumerate(_rows(path, wrong or WrongRows())):
        if number == limit:
            break
        found |= dict.fromkeys(row)
    if not found:
        raise MemfixError(f"{path} names no URL.", HINT)
    return list(found)


def _rows(path: Path, wrong: WrongRows) -> Iterator[list[Link]]:
    if tables.form(path) is None:
        for number, line in tables.lines(path, wrong):
            *urls, last = columns.split_urls(line.strip())
            last, _, text = last.partition(" ")
            if columns.is_url(last):
                yield [Link(url, text.strip()) for url in (*urls, last)]
            elif last:
                wrong.add(f"{path}:{number}", "does not begin with a URL", "Write one URL per line, or give a table.")
        return
    for number, cells in tables.rows(path, wrong):
        try:
            links = _links(cells)
        except columns.WrongCellError as error:
            wrong.add(f"{path}:{number}", str(error), HINT)
            continue
        if links:
            yield links


def _links(cells: columns.Cells) -> list[Link]:
    urls, texts = [columns.clean(u) for u in columns.urls(cells)], columns.texts(cells, required=False)
    if not urls:  # a JSON list of nothing but texts
        urls, texts = [t for t in texts if columns.is_url(t)], []
    hashes = [_hashes(cells, name, len(urls)) for name in columns.HASH]
    return [
        Link(url, text, frozenset(column[i] for column in hashes if column and column[i]))
        for i, url in enumerate(urls)
        for text in texts or [""]
    ]


def _hashes(cells: columns.Cells, name: str, urls: int) -> list[str]:
    """Hashes of a row's URLs, in their order; none if the row gives none."""
    found = [part.lower() for cell in columns.as_list(cells.get(name), name) for part in PARTS.split(cell)]
    if found and len(found) != urls:
        raise columns.WrongCellError(f"gives {len(found)} {name} for {urls} URLs")
    if not all(HASHES[name].fullmatch(value) for value in found):
        raise columns.WrongCellError(f"holds something else than a hash in column '{name}'")
    return found
