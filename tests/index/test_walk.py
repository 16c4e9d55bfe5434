"""The walk: one order for files and members of tars, the names that references have, odd names and folders."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from memfix.index.rows import Row, as_line, from_line, read_lines, write_lines
from memfix.index.walk import walk_source
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture
from tests.inputs.test_tars import png


def tar(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w") as archive:
        for seed, name in enumerate(names):
            data = io.BytesIO()
            picture(seed, 16).save(data, "PNG")
            info = tarfile.TarInfo(name)
            info.size = data.tell()
            data.seek(0)
            archive.addfile(info, data)


def test_order_and_names_are_those_of_references(tmp_path: Path) -> None:
    for name in ("b/1.png", "a.png", "b.png", "b-c/1.PNG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0, 16).save(tmp_path / name, "PNG")
    tar(tmp_path / "b/x.tar", ["9.png", "../1.png"])
    rows = list(walk_source(tmp_path))
    assert [row.file_name for row in rows] == [
        "a.png", "b/1.png", "b/x.tar/1.png", "b/x.tar/9.png", "b-c/1.PNG", "b.png", "notes.txt",
    ]  # fmt: skip
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert {row.file_name for row in rows} == {r.file_name for r in read_references(str(tmp_path), [])}
    for row, seed in ((rows[2], 1), (rows[3], 0)):
        assert open_image(str(tmp_path / row.path)).tobytes() == picture(seed, 16).tobytes()


def test_odd_folders(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken.tar").write_bytes(b"no tar at all")
    (tmp_path / "link.png").symlink_to("missing")
    with open(os.fsencode(tmp_path) + b"/\xff\n.png", "wb") as file:  # noqa: PTH123  # a name that is no text
        picture(3, 16).save(file, "PNG")
    rows = {row.file_name: row for row in walk_source(tmp_path)}
    assert rows.keys() == {"broken.tar", "link.png", "\\udcff\n.png"}
    assert "cannot be read as a tar" in rows["broken.tar"].reason and "No such file" in rows["link.png"].reason
    odd = rows["\\udcff\n.png"]
    write_lines(tmp_path / "rows.jsonl", [as_line(odd)])
    assert [from_line(line) for line in read_lines(tmp_path / "rows.jsonl")] == [odd]
    assert open_image(str(tmp_path / odd.path)).size == (16, 16)


def test_folders_that_are_links_are_entered(tmp_path: Path) -> None:
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    for file in (pictures / "b/2.png", elsewhere / "in/1.png"):
        file.parent.mkdir(parents=True)
        picture(0, 16).save(file)
    (pictures / "a").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(pictures)
    (pictures / "c").symlink_to(pictures / "b")
    (pictures / "z").symlink_to("unmounted")
    rows = list(walk_source(pictures))
    assert [(row.file_name, row.reason) for row in rows] == [
        ("a/in/1.png", ""), ("b/2.png", ""), ("z", "No such file or directory"),
    ]  # fmt: skip
    assert {r.file_name for r in read_references(str(pictures), [], WrongRows(skip=True))} == {"a/in/1.png", "b/2.png"}


def test_lines_leave_out_what_goes_without_saying() -> None:
    assert as_line(Row("a.png", "a.png", 1, 2)) == {"file_name": "a.png", "size": 1, "mtime_ns": 2}
    row = Row("x.tar/a.png", "x.tar#512+9", 9, 2, "ab", "why")
    assert from_line(as_line(row)) == row


def test_what_may_hold_pictures_is_a_row_and_all_else_is_counted(tmp_path: Path) -> None:
    for name in ("a.jfif", "noext", "22.05", "._a.png", ".ipynb_checkpoints/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0, 16).save(tmp_path / name, "JPEG")
    tar(tmp_path / "x.tar", ["poster v1.0.png", "._poster.png"])
    cells = [{"bytes": (tmp_path / "a.jfif").read_bytes(), "path": None}]
    pq.write_table(pa.table({"img": cells}), tmp_path / "p.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "q.parquet")
    for name, data in [("b.heic", b""), ("c.arrow", b""), ("d.txt", b"a cat"), ("e.bin", b"\0")]:
        (tmp_path / name).write_bytes(data)
    tally = Tally()
    rows = {row.file_name: row.reason for row in walk_source(tmp_path, tally)}
    assert {name for name, reason in rows.items() if not reason} == {
        "a.jfif", "noext", "22.05", "x.tar/poster v1.0.png",
        "p.parquet/img:000000001+0",
    }  # fmt: skip
    assert "is HEIC" in rows["b.heic"] and "cannot look" in rows["c.arrow"]
    over = {why: count for why, count in tally.passed_over.items() if count}
    assert over == {PassedOver.HIDDEN: 3, PassedOver.CAPTIONS: 2, PassedOver.OTHER: 1}


def table(path: Path, seeds: list[int | None], column: str = "image", groups: int = 4) -> Path:
    """A parquet table with a picture for each seed; one without is named and not held."""
    cells = [{"bytes": png(seed) if seed is not None else None, "path": f"{seed}.png"} for seed in seeds]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    texts = [f"disc {i}" for i in range(len(cells))]
    pq.write_table(pa.table({"text": texts, column: pa.array(cells, kind)}), path, row_group_size=groups)
    return path


def test_pictures_in_tables_are_rows_in_their_order(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", list(range(12)))
    (tmp_path / "a.parquet-notes").write_text("a cat")
    picture(0, 16).save(tmp_path / "a.png")
    rows = list(walk_source(tmp_path))
    assert [row.file_name for row in rows] == [f"a.parquet/image:{i:09}+0" for i in range(1, 13)] + ["a.png"]
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert {row.path for row in rows} == {r.file_name for r in read_references(str(tmp_path), [])}
    assert {row.path: row.text for row in rows[:12]} == {f"a.parquet#image:{i + 1}+0": f"disc {i}" for i in range(12)}
    for seed, row in enumerate(rows[:12]):
        assert open_image(str(tmp_path / row.path)).tobytes() == picture(seed).tobytes()


def test_what_a_table_names_and_does_not_hold_is_told(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", [1, None, 2])
    rows = list(walk_source(tmp_path))
    assert [(row.file_name, row.reason[:10]) for row in rows] == [
        ("a.parquet", "has 1 rows"), ("a.parquet/image:000000001+0", ""), ("a.parquet/image:000000003+0", ""),
    ]  # fmt: skip


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", ["1.png", "2.png"])
    table(tmp_path / "y.parquet", [3])
    assert [row.path.partition("#")[0] for row in walk_source(tmp_path / "x.tar")] == ["x.tar", "x.tar"]
    assert [row.path for row in walk_source(tmp_path / "y.parquet")] == ["y.parquet#image:1+0"]


def test_masks_of_pictures_beside_them_are_counted(tmp_path: Path) -> None:
    for i, name in enumerate(["a.png", "a-masklabel.png"]):
        picture(i).save(tmp_path / name)
    tally = Tally()
    assert [row.file_name for row in walk_source(tmp_path, tally)] == ["a.png"]
    assert tally.passed_over[PassedOver.MASK] == 1
