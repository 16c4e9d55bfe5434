"""Pictures in columns of any name: those that are there are compared with, the others are told. Never dropped."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memfix.inputs.captions import FURTHER_MISSING, UNREAD_COLUMN
from memfix.inputs.further import further_pictures
from memfix.inputs.prompts import NOT_THERE, read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.seeming import seems_to_name, texts_inside
from memfix.inputs.tally import Tally
from tests.conftest import picture
from tests.inputs.test_tars import png

NAMES = ["a.png", "b.png", "in/a.png", "my photo.png", "c.tga"]
ROWS: list[tuple[dict[str, Any], list[str]]] = [
    ({"image": "a.png", "image_2": "b.png"}, ["a.png", "b.png"]),
    ({"image": "a.png", "conditioning_image": "in/a.png"}, ["a.png", "in/a.png"]),
    ({"image": "a.png", "reference": "in/a.png"}, ["a.png", "in/a.png"]),
    ({"files": ["a.png", "b.png"]}, ["a.png", "b.png"]),
    ({"photo": "my photo.png"}, ["my photo.png"]),
    ({"x": "c.tga"}, ["c.tga"]),
    ({"image": "a.png", "more_images": ["b.png", "c.tga"]}, ["a.png", "b.png", "c.tga"]),
    ({"meta": {"prompt": "a cat", "image": "b.png"}}, ["b.png"]),
    ({"image": "a.png", "target": {"path": "b.png", "bytes": None}}, ["a.png", "b.png"]),
    ({"views": '["a.png", {"file": "b.png"}]'}, ["a.png", "b.png"]),
    ({"image": "a.png", "prompt_image": "b.png"}, ["a.png", "b.png"]),
    ({"image": "a.png", "path": "/elsewhere/a.png", "name": "a.png"}, ["a.png"]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i, name in enumerate(NAMES):
        picture(i).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(("row", "names"), ROWS)
def test_pictures_that_are_there_count_in_any_column(
    folder: Path, row: dict[str, Any], names: list[str], form: str
) -> None:
    row = row if "meta" in row else {"text": "a cat", **row}
    table = folder / f"list.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), table)
    else:
        table.write_text(json.dumps(row))
    for tally in (Tally(), Tally()):
        (prompt,) = read_prompts(str(table), tally=tally)
        assert sorted(str(Path(r).relative_to(folder)) for r in prompt.references) == sorted(names)
        references = read_references(str(table), [], tally=tally)
        assert sorted(r.file_name for r in references) == sorted(names)
        assert not tally.altered


@pytest.mark.parametrize("cell", ["gone.png", ["gone.png"], {"file": "my gone.heic"}, "other/gone.jxl"])
def test_what_is_not_there_is_told_by_its_column(folder: Path, cell: Any) -> None:
    (folder / "list.jsonl").write_text(json.dumps({"text": "a cat", "image": "a.png", "second": cell}))
    for read in (read_prompts, lambda path, tally: read_references(path, [], tally=tally)):
        tally = Tally()
        assert len(read(str(folder / "list.jsonl"), tally=tally)) == 1
        assert tally.altered == {UNREAD_COLUMN: 1} and "column 'second'" in tally.warnings()[0]
    (folder / "list.jsonl").rename(folder / "metadata.jsonl")
    tally = Tally()
    assert len(read_references(str(folder), [], tally=tally)) == len(NAMES) and tally.altered == {UNREAD_COLUMN: 1}


def test_another_picture_of_the_same_name_is_not_the_same(folder: Path) -> None:
    (folder / "list.jsonl").write_text(json.dumps({"text": "a", "image": "a.png", "img": "gone/a.png"}))
    tally = Tally()
    read_prompts(str(folder / "list.jsonl"), tally=tally)
    assert not tally.altered  # an end of the other: the same one, as another program wrote it
    (folder / "list.jsonl").write_text(json.dumps({"text": "a", "image": "in/a.png", "img": "gone/a.png"}))
    tally = Tally()
    read_prompts(str(folder / "list.jsonl"), tally=tally)
    assert tally.altered == {NOT_THERE: 1}
    tally = Tally()
    read_references(str(folder / "list.jsonl"), [], tally=tally)
    assert tally.altered == {FURTHER_MISSING: 1}


def test_a_column_of_a_parquet_table_in_another_one_s_cells(folder: Path) -> None:
    """Texts in dictionaries, and pictures in the table beside those that it names."""
    held = pa.array([{"bytes": png(7), "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    names = pa.array(["b.png"]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a cat"], "image": held, "second": names}), folder / "a.parquet")
    found = read_references(str(folder / "a.parquet"), [])
    assert [r.file_name for r in found] == ["a.parquet#image:1+0", "b.png"]


@pytest.mark.parametrize("text", ["a.png", " my photo.JPG ", "in/x.tga", "a.jpg#2", "x.heic", "['a.png']", "a.png;"])
def test_names_of_pictures(text: str) -> None:
    assert seems_to_name(text)


@pytest.mark.parametrize("text", ["", ".png", "png", "openai.ai", "a cat", "a.png shows a cat", "/a/.png", "1.5"])
def test_what_is_no_name(text: str) -> None:
    assert not seems_to_name(text)


def test_texts_are_found_however_deep() -> None:
    assert [*texts_inside({"a": ["b", {"c": "['d', 'e']"}, 3, None], "f": b"g"})] == ["b", "d", "e"]
    assert [*texts_inside("[" * 50 + "]" * 50)] == []


def test_a_row_without_others_has_none(folder: Path) -> None:
    row = {"text": "a.png", "caption": "b.png", "image": "a.png", "url": "http://x.org/b.png", "md5": "c.tga"}
    assert further_pictures(folder / "list.jsonl", row) == ([], [], "")
