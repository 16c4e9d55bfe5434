"""Pictures inside parquet tables, as the datasets library writes them."""

import base64
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memfix.errors import MemfixError
from memfix.index.walk import walk_source
from memfix.inputs.embedded import container as table_of
from memfix.inputs.embedded import is_pictures, leaves, named
from memfix.inputs.inside import container, read
from memfix.inputs.opening import open_image
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.tally import LOUD, PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(number: int) -> bytes:
    buffer = BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, cells: Sequence[Any], kind: pa.DataType = IMAGE, groups: int = 2, **more: list[Any]) -> Path:
    """A table with captions `disc 0`, … and pictures; `groups` rows in a row group."""
    texts = [f"disc {i}" for i in range(len(cells))]
    pq.write_table(pa.table({"text": texts, "image": pa.array(cells, kind), **more}), path, row_group_size=groups)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "a.parquet", [{"bytes": png(i), "path": f"{i}.png"} for i in range(5)])


def test_pictures_of_a_table_are_references(table: Path) -> None:
    references = read_references(str(table), [])
    assert [(r.file_name, r.text) for r in references] == [
        (f"a.parquet#image:{i + 1}+0", f"disc {i}") for i in range(5)
    ]
    for i in [0, 1, 4, 2, 3, 0, 4]:  # forward, back, and over row groups
        assert open_image(references[i].path).tobytes() == picture(i).tobytes()
    assert container(references[0].path) == table


def test_prompts_bring_the_pictures_of_their_rows(table: Path) -> None:
    prompts = read_prompts(str(table))
    assert [p.text for p in prompts] == [f"disc {i}" for i in range(5)]
    references = read_references(None, prompts)
    assert open_image(references[3].path).tobytes() == picture(3).tobytes()
    assert len(read_references(str(table), prompts)) == 5


def test_tables_in_a_folder(table: Path) -> None:
    for name in ("train/x.parquet", "valid/x.parquet"):
        (table.parent / name).parent.mkdir()
        (table.parent / name).write_bytes(table.read_bytes())
    names = [r.file_name for r in read_references(str(table.parent), [])]
    assert len(set(names)) == 15
    assert names[5] == "train/x.parquet#image:1+0"


def test_a_list_of_pictures_in_a_row(tmp_path: Path) -> None:
    both = [{"bytes": png(0), "path": None}, {"bytes": png(1), "path": None}]
    file = write(tmp_path / "a.parquet", [both, [], both[:1]], pa.list_(IMAGE))
    tally = Tally()
    references = read_references(str(file), [], tally=tally)
    assert [r.file_name for r in references] == [f"a.parquet#image:{place}" for place in ("1+0", "1+1", "3+0")]
    assert open_image(references[1].path).tobytes() == picture(1).tobytes()
    assert tally.passed_over == {PassedOver.NO_PICTURE: 1} and tally.first[PassedOver.NO_PICTURE] == f"{file}:2"


def test_rows_that_hold_none_and_rows_that_name_a_file(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    cells = [{"bytes": png(0), "path": "0.png"}, {"bytes": None, "path": "1.png"}, None, {"bytes": None, "path": None}]
    tally = Tally()
    file = write(tmp_path / "a.parquet", cells, file_name=["0.jpg", None, None, None])  # this column names another
    references = read_references(str(file), [], tally=tally)
    assert [r.file_name for r in references] == ["a.parquet#image:1+0", "1.png"]
    assert [open_image(r.path).tobytes() for r in references] == [picture(i).tobytes() for i in range(2)]
    assert tally.passed_over == {PassedOver.NO_PICTURE: 2}


def test_a_row_without_a_picture_that_names_a_file_has_that(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    cells = [{"bytes": png(0), "path": None}, None]
    file = write(tmp_path / "a.parquet", cells, file_name=[None, "1.png"])
    assert [r.file_name for r in read_references(str(file), [])] == ["a.parquet#image:1+0", "1.png"]


def test_memory_is_that_of_a_row_group(tmp_path: Path) -> None:
    """48 pictures of 512 KiB, 4 in a row group: listing reads none, reading holds a few groups of 2 MiB, not 24 MiB."""
    noise = [os.urandom(1 << 19) for _ in range(48)]
    file = write(tmp_path / "a.parquet", [{"bytes": data, "path": None} for data in noise], groups=4)
    used = pa.total_allocated_bytes()
    references = read_references(str(file), [])
    assert pa.total_allocated_bytes() - used < 1 << 20
    most = 0
    for reference, data in zip(references, noise, strict=True):
        assert read(reference.path) == data
        most = max(most, pa.total_allocated_bytes() - used)
    assert most < 12 << 20


def test_addresses_of_nothing(table: Path) -> None:
    for place in ("image:6+0", "image:1+1", "none:1+0", "text:1+0"):
        with pytest.raises(MemfixError, match="cannot be read as a picture"):
            open_image(f"{table}#{place}")
    with pytest.raises(MemfixError, match="cannot be read as a picture"):
        open_image(table.parent / "b.parquet#image:1+0")
    table.write_bytes(b"no table")
    with pytest.raises(MemfixError, match="cannot be read as a picture"):
        open_image(f"{table}#image:1+0")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (reference,) = read_references(str(write(tmp_path / "a.parquet", [{"bytes": b"<html>", "path": None}])), [])
    with pytest.raises(MemfixError, match=r"a\.parquet#image:1\+0 cannot be read as a picture"):
        open_image(reference.path)


def test_columns_of_pictures_are_told_by_their_type() -> None:
    for kind in (IMAGE, pa.list_(IMAGE), pa.large_list(IMAGE)):
        assert is_pictures(kind)
    for other in (pa.binary(), pa.string(), pa.list_(pa.string()), pa.struct([("bytes", pa.binary())])):
        assert not is_pictures(other)


def test_no_picture_is_read_to_list_rows_that_all_have_one(tmp_path: Path) -> None:
    full = write(tmp_path / "full.parquet", [{"bytes": png(0), "path": "0.png"}] * 2)
    some = write(tmp_path / "some.parquet", [{"bytes": png(0), "path": "0.png"}, None])
    assert leaves(pq.ParquetFile(full), "image", 0) == ["image.path"]
    assert leaves(pq.ParquetFile(some), "image", 0) == ["image"]


def test_a_cell_names_what_it_holds_or_what_lies_beside_the_table(tmp_path: Path) -> None:
    table = tmp_path / "a.parquet"
    cell = [None, {"path": "unread.png"}, {"bytes": None, "path": "beside.png"}, {"bytes": None, "path": None}]
    assert named(table, "image", 3, cell) == [f"{table}#image:3+1", "beside.png"]
    assert named(table, "image", 1, {"bytes": b"x", "path": None}) == [f"{table}#image:1+0"]
    assert named(table, "image", 1, None) == []


def test_an_address_leads_into_a_table_and_a_path_does_not() -> None:
    assert table_of("/a/b.parquet#image:3+0") == Path("/a/b.parquet")
    assert table_of("/a/b.parquet") is None


def test_tables_beside_a_picture_and_without_pictures(table: Path) -> None:
    """All of a folder is read; a table of texts beside pictures is none of it, under whatever name a table has."""
    picture(7).save(table.parent / "thumbnail.png")
    pq.write_table(pa.table({"caption": ["a"], "url": ["http://x.org/1"]}), table.parent / "00000.parquet")
    table.rename(table.parent / "train")
    tally = Tally()
    references = read_references(str(table.parent), [], tally=tally)
    assert [r.file_name for r in references] == ["thumbnail.png", *(f"train#image:{i}+0" for i in range(1, 6))]
    assert open_image(references[5].path).tobytes() == picture(4).tobytes()
    assert (tally.used, tally.passed_over) == (6, {PassedOver.CAPTIONS: 1})
    assert len(read_references(str(table.parent / "train"), [])) == 5


def test_pictures_are_found_under_any_name_of_a_column(tmp_path: Path) -> None:
    sound = [{"bytes": b"RIFF\0\0\0\0WAVE", "path": "1.wav"}] * 2
    cells = {
        "jpg": [None, png(0)], "Picture": [{"bytes": png(1), "path": None}] * 2, "several": [[png(2), png(3)], []],
        "audio": sound, "latent": [b"\0" * 64] * 2, "TEXT": ["a", "b"],
    }  # fmt: skip
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    first, second = read_prompts(str(tmp_path / "a.parquet"))
    assert [r.partition("#")[2] for r in first.references] == ["Picture:1+0", "several:1+0", "several:1+1"]
    assert [r.partition("#")[2] for r in second.references] == ["jpg:2+0", "Picture:2+0"]
    seen = [open_image(r).tobytes() for r in (*first.references, *second.references)]
    assert seen == [picture(i).tobytes() for i in (1, 2, 3, 0, 1)]
    assert len(read_references(str(tmp_path / "a.parquet"), [])) == 5


def test_a_text_in_a_cell_of_a_cell(tmp_path: Path) -> None:
    pq.write_table(pa.table({"meta": [{"prompt": "an owl", "seed": 1}]}), tmp_path / "a.parquet")
    assert [p.text for p in read_prompts(str(tmp_path / "a.parquet"))] == ["an owl"]


def test_one_broken_cell_does_not_hide_a_column(tmp_path: Path) -> None:
    rows = pa.array([{"bytes": b"broken", "path": None}, {"bytes": png(1), "path": None}])
    pq.write_table(pa.table({"photo": rows}), tmp_path / "train.parquet")
    picture(0).save(tmp_path / "0.png")
    wrong = WrongRows()
    with pytest.raises(MemfixError, match="photo:1"):
        [open_image(r.path) for r in read_references(str(tmp_path), [])]
    assert len(read_references(str(tmp_path), [], wrong)) == 3


def test_lists_of_one_length_hold_pictures(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]), 2)
    rows = pa.array([[{"bytes": png(i), "path": None} for i in range(2)]], kind)
    pq.write_table(pa.table({"photos": rows}), tmp_path / "train.parquet")
    assert [open_image(r.path).tobytes() for r in read_references(str(tmp_path), [])] == [
        picture(i).tobytes() for i in range(2)
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a sound"]), pa.array([{"inner": {"bytes": b"x"}}]), pa.array([b"x"]).dictionary_encode(),
        pa.array([{"bytes": b"x"}]),
    ],
    ids=["no picture", "a struct in a struct", "dictionary", "without a path"],
)  # fmt: skip
def test_bytes_that_are_not_read_are_told_of_aloud(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"photo": column}), tmp_path / "train.parquet")
    picture(0).save(tmp_path / "0.png")
    tally = Tally()
    assert len(read_references(str(tmp_path), [], tally=tally)) == 1
    assert tally.passed_over == {PassedOver.UNREAD: 1} and PassedOver.UNREAD in LOUD


def test_a_table_under_another_name_is_read(table: Path, tmp_path: Path) -> None:
    for name in ("shard", "a.png", "a.csv"):
        other = tmp_path / "other" / name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(table.read_bytes())
        assert len(read_references(str(other), [])) == len(read_prompts(str(other))) == 5
    assert len(read_references(str(tmp_path / "other"), [])) == 15


def test_bytes_of_every_kind_of_column_are_pictures(tmp_path: Path) -> None:
    for i, kind in enumerate([pa.large_binary(), pa.binary(len(png(0))), pa.binary_view()]):
        pq.write_table(pa.table({"picture": pa.array([png(0)], kind)}), tmp_path / f"{i}.parquet")
    pq.write_table(pa.table({"picture": pa.array([png(0)] * 2).dictionary_encode()}), tmp_path / "3.parquet")
    found = read_references(str(tmp_path), [])
    assert [r.file_name for r in found] == [
        *(f"{i}.parquet#picture:1+0" for i in range(4)), "3.parquet#picture:2+0"
    ]  # fmt: skip
    assert all(open_image(r.path).tobytes() == picture(0).tobytes() for r in found)


def levels(kind: pa.DataType) -> pa.Array:
    return pa.array([[[[0, 9, 255]]]], pa.list_(pa.list_(pa.list_(kind))))


NOT_READ = {
    "in a struct": pa.array([{"image": {"bytes": png(1), "path": None}}], pa.struct([("image", IMAGE)])),
    "of other names": pa.array([{"data": png(1)}], pa.struct([("data", pa.binary())])),
    "lists of lists": pa.array([[[png(1)]]], pa.list_(pa.list_(pa.binary()))),
    "in messages": pa.array([[{"role": "user", "image": {"bytes": png(1), "path": None}}]]),
    "heic": pa.array([b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"]),
    "levels": levels(pa.uint8()), "numbers": levels(pa.int64()), "fractions": levels(pa.float32()),
    "bytes as numbers": pa.array([[*png(1)]], pa.list_(pa.uint8())),
    "base64": pa.array([base64.b64encode(png(1)).decode()]),
}  # fmt: skip


@pytest.mark.parametrize("form", NOT_READ)
def test_a_column_that_may_hold_pictures_beside_one_that_does_is_told(tmp_path: Path, form: str) -> None:
    file = write(tmp_path / "a.parquet", [{"bytes": png(0), "path": None}], second=NOT_READ[form])
    for reader in (lambda path, tally: read_references(path, [], WrongRows(skip=True), tally=tally),
                 lambda path, tally: read_prompts(path, wrong=WrongRows(skip=True), tally=tally)):  # fmt: skip
        for source in (file, tmp_path):
            tally = Tally()
            if form != "base64":  # which makes a wrong row
                assert len(reader(str(source), tally)) == 1
            else:
                with pytest.raises(MemfixError, match="holds a picture as text"):
                    reader(str(source), tally)
            assert tally.passed_over[PassedOver.UNREAD] == 1
            assert form == "base64" or "column 'second'" in tally.warnings()[0]
    reasons = [row.reason for row in walk_source(tmp_path) if row.reason]
    assert len(reasons) == 1 and "not read" in reasons[0]


@pytest.mark.parametrize("form", NOT_READ)
def test_such_a_column_alone_beside_a_picture_is_told(tmp_path: Path, form: str) -> None:
    pq.write_table(pa.table({"second": NOT_READ[form]}), tmp_path / "a.parquet")
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a disc")
    for reader in (lambda tally: read_references(str(tmp_path), [], tally=tally),
                 lambda tally: read_prompts(str(tmp_path), tally=tally)):  # fmt: skip
        tally = Tally()
        assert len(reader(tally)) == 1 and tally.passed_over[PassedOver.UNREAD] == 1
    assert [bool(row.reason) for row in walk_source(tmp_path)] == [True, False]


def test_columns_of_numbers_are_no_pictures(tmp_path: Path) -> None:
    more = {"embedding": [[0.5, 0.25]], "tokens": [[1, 2]], "box": [[[0.0, 1.0], [2.0, 3.0]]], "seed": [7]}
    tally = Tally()
    assert read_references(
        str(write(tmp_path / "a.parquet", [{"bytes": png(0), "path": None}], **more)), [], tally=tally
    )
    assert not tally.passed_over


@pytest.mark.parametrize("kind", [IMAGE, pa.binary()])
def test_rows_without_a_picture_are_counted(tmp_path: Path, kind: pa.DataType) -> None:
    held = {"bytes": png(1), "path": None} if kind is IMAGE else png(1)
    table, tally = write(tmp_path / "a.parquet", [None, held], kind), Tally()
    assert [r.text for r in read_references(str(table), [], tally=tally)] == ["disc 1"]
    assert tally.passed_over == {PassedOver.NO_PICTURE: 1}
    assert [len(p.references) for p in read_prompts(str(table))] == [0, 1]


@pytest.mark.parametrize("name", ["", "#", "a#b:1+0.c", "100%", "%23", "a.b", "é"])
def test_columns_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: pa.array([png(0), png(1)], pa.binary()), "text": ["disc 0", "disc 1"]}), path)
    references = read_references(str(path), [])
    assert [r.text for r in references] == ["disc 0", "disc 1"]
    assert [read(r.path) for r in references] == [png(0), png(1)]
    assert [container(r.path) for r in references] == [path.resolve()] * 2
