"""Prompt lists: one prompt a line, or CSV, TSV and JSONL with the column names in use."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memfix.demo import LISTS, list_path
from memfix.errors import ExitCode, MemfixError
from memfix.records import Prompt, Role

TEXT_COLUMNS = ("text", "prompt", "caption")
IMAGE_COLUMNS = ("file_name", "image", "image_path", "reference")

Row = tuple[int, str, tuple[str, ...]]  # line, text, references


def read_prompts(source: str, role: Role = Role.PROMPT, limit: int | None = None) -> list[Prompt]:
    """Read a prompt list; a text that comes again is read once, with the references of all its rows.

    Raises MemfixError, naming file and line, for a missing, empty or malformed list.
    """
    path = list_path(source) if source in LISTS and not Path(source).exists() else Path(source)
    if path.is_dir():
        path = path / "metadata.jsonl"
    if not path.is_file():
        raise MemfixError(f"There is no prompt list {path}.", "Give a text file, one prompt a line.", ExitCode.USAGE)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MemfixError(f"{path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None
    merged: dict[str, tuple[int, tuple[str, ...]]] = {}
    for line, text, images in _rows(path, content):
        for name in images:
            if not Path(name).is_file():
                raise MemfixError(f"{path}:{line}: there is no reference image {name}.", "Correct or drop the path.")
        first, known = merged.get(text, (line, ()))
        merged[text] = (first, tuple(dict.fromkeys((*known, *images))))
    if not merged:
        raise MemfixError(f"{path} holds no prompt.", "Write one prompt a line.")
    prefix = "p" if role is Role.PROMPT else "c"
    prompts = [
        Prompt(id=f"{prefix}{i:04d}", text=text, role=role, source=f"{path}:{line}", references=images)
        for i, (text, (line, images)) in enumerate(merged.items(), 1)
    ]
    return prompts[:limit]


def _rows(path: Path, content: str) -> Iterator[Row]:
    match path.suffix.lower():
        case ".csv" | ".tsv":
            yield from _read_csv(path, content)
        case ".jsonl" | ".ndjson":
            yield from _read_jsonl(path, content)
        case _:
            for line, text in enumerate(content.split("\n"), 1):
                if text.strip():
                    yield line, text.strip(), ()


def _read_csv(path: Path, content: str) -> Iterator[Row]:
    header = content.split("\n", 1)[0]
    delimiter = max("\t;,", key=header.count)
    reader = csv.DictReader(content.splitlines(keepends=True), delimiter=delimiter)
    for row in reader:
        yield _row(path, reader.line_num, {k: v for k, v in row.items() if k is not None})


def _read_jsonl(path: Path, content: str) -> Iterator[Row]:
    for line, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise MemfixError(f"{path}:{line} is not JSON: {error}", "Correct the line.") from None
        if not isinstance(row, dict):
            raise MemfixError(f"{path}:{line} is not a JSON object.", 'Write {"text": "…"} a line.')
        yield _row(path, line, row)


def _row(path: Path, line: int, row: dict[str, Any]) -> Row:
    by_name = {str(k).strip().lower(): v for k, v in row.items()}
    text = next((by_name[c] for c in TEXT_COLUMNS if c in by_name), None)
    if not isinstance(text, str) or not text.strip():
        raise MemfixError(
            f"{path}:{line} has no prompt text.", f"One of these columns must hold it: {', '.join(TEXT_COLUMNS)}."
        )
    images = next((by_name[c] for c in IMAGE_COLUMNS if by_name.get(c)), ())
    names = [images] if isinstance(images, str) else [str(i) for i in images]
    return line, " ".join(text.split()), tuple(str((path.parent / name).resolve()) for name in names)
