"""What a detection reads, with counts: each source seen, used and passed over, and none that was named and is empty."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.detect.sources import NOT_LOOKED_THROUGH, SourceName, Sources, in_words
from memfix.errors import ExitCode, MemfixError
from memfix.index.build import build
from memfix.index.store import Store
from memfix.inputs.tally import PassedOver
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures.descriptor import Pixels
from memfix.records import Role
from tests.conftest import picture


def read(prompts: str | Path, references: Path | None = None, skip: bool = False, **settings: object) -> Sources:
    given = DetectSettings(references=str(references) if references else None, **settings)  # type: ignore[arg-type]
    return Sources.read(str(prompts), given, WrongRows(skip))


def test_each_source_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "refs"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b", ".ipynb_checkpoints/a-checkpoint.png"]):
        picture(i).save(folder / name, "PNG")
    (folder / "again.png").symlink_to("a.png")
    (folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "a.txt").write_text("a cat")
    (folder / "model.bin").write_bytes(b"\0" * 9)
    (tmp_path / "p.txt").write_text("# set\na cat\na dog --w 512\na cat\n")
    (tmp_path / "c.txt").write_text("a bird\n")
    found = read(tmp_path / "p.txt", folder, controls=str(tmp_path / "c.txt"))
    prompts, controls, references = (found.records()[name] for name in ("prompts", "controls", "references"))
    assert (prompts.seen, prompts.used, prompts.passed_over) == (
        4, 2, {str(PassedOver.COMMENT): 1, str(PassedOver.REPEATED): 1},
    )  # fmt: skip
    assert list(prompts.altered.values()) == [1] and (controls.seen, controls.used) == (1, 1)
    assert (references.source, references.seen, references.used) == (str(folder), 7, 2)
    assert references.passed_over == dict.fromkeys(
        map(str, (PassedOver.AGAIN, PassedOver.CAPTIONS, PassedOver.FOREIGN, PassedOver.HIDDEN, PassedOver.OTHER)), 1
    )
    said = io.StringIO()
    talk = Talk()
    monkeypatch.setattr(talk.err, "file", said)
    monkeypatch.setattr(talk.err, "_width", 400)
    found.tell(talk)
    assert f"References of {folder}: 7 seen, 2 used; passed over: " in said.getvalue()
    assert "Warning: Passed over: pictures of formats that memfix does not read (1), " in said.getvalue()
    assert "c.heic" in said.getvalue()
    found.count_broken(1)
    broken = found.records()["references"]
    assert (broken.seen, broken.used, broken.passed_over[str(PassedOver.BROKEN)]) == (7, 1, 1)
    assert in_words("references", broken).endswith("texts and tables beside pictures (1).")


def test_a_source_that_was_named_and_gives_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "side").mkdir()
    (tmp_path / "side/Thumbs.db").write_bytes(b"x")
    (tmp_path / "none.csv").write_text("file_name\n")
    (tmp_path / "gone.csv").write_text("file_name\nimages\\gone.png\n")
    for name, why in [("empty", ""), ("side", "hidden"), ("none.csv", ""), ("gone.csv", "no reference image")]:
        with pytest.raises(MemfixError, match=f"contains no image.*{why}") as caught:
            read(tmp_path / "p.txt", tmp_path / name, skip=True)
        assert "compared with each other" in caught.value.hint
    (tmp_path / "p.csv").write_text("text,file_name\na cat,gone.png\n")
    with pytest.raises(MemfixError, match="none of them is there"):
        read(tmp_path / "p.csv", skip=True)
    assert read(tmp_path / "p.txt").references == []  # nothing was named


def test_pictures_of_an_index_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(0).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"<html>")
    (folder / "c.psd").write_bytes(b"8BPS")
    build(Store.create(tmp_path / "index", folder, Pixels()), folder, Pixels())
    (tmp_path / "p.txt").write_text("a cat\n")
    sources = read(tmp_path / "p.txt", tmp_path / "index")
    found = sources.records()["references"]
    assert (found.seen, found.used, found.passed_over) == (3, 1, {str(PassedOver.UNINDEXED): 2})
    (line,) = sources.tallies[SourceName.REFERENCES].warnings()
    assert "files that the index could not read (2), b.png, which cannot be read as a picture" in line


def test_pictures_that_came_after_an_index_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of them are called distinct, and the prompt clean, as long as the index does not hold them."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    picture(0).save(folder / "a.png")
    picture(1).save(folder / "b.png")
    build(Store.create(tmp_path / "index", folder, Pixels()), folder, Pixels())
    (tmp_path / "p.txt").write_text("a cat\n")
    assert read(tmp_path / "p.txt", tmp_path / "index").records()["references"].passed_over == {}
    picture(2).save(folder / "0.png")
    picture(3).save(folder / "b.png")
    os.utime(folder / "b.png", (1, 1))
    sources = read(tmp_path / "p.txt", tmp_path / "index")
    assert sources.records()["references"].passed_over == {str(PassedOver.NEWER): 2}
    (line,) = sources.tallies[SourceName.REFERENCES].warnings()
    assert "(2), 0.png (bring the index up to date by memfix index '" in line and "my pictures' --out " in line
    with monkeypatch.context() as patched:
        patched.setattr("memfix.detect.sources.MOST_LOOKED_THROUGH", 1)
        sources = read(tmp_path / "p.txt", tmp_path / "index")
        (line,) = sources.tallies[SourceName.REFERENCES].warnings()
        assert line.startswith("Index of a folder too large to be looked through") and "by memfix index '" in line
        found = sources.records()[
            "references"
        ]  # which the report shows, since new pictures would make no prompt memorized
        assert found.altered == {NOT_LOOKED_THROUGH: 1} and found.passed_over == {}
    folder.rename(tmp_path / "moved")
    assert read(tmp_path / "p.txt", tmp_path / "index").records()["references"].used == 2


def test_controls_that_are_prompts_as_well_are_no_controls_and_counted(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    (tmp_path / "c.txt").write_text("a dog\na bird\n")
    sources = read(tmp_path / "p.txt", controls=str(tmp_path / "c.txt"), num_samples=4)
    found = sources.records()["controls"]
    assert (found.seen, found.used, found.passed_over) == (2, 1, {str(PassedOver.LISTED): 1})
    assert [p.text for p in sources.prompts if p.role is Role.CONTROL] == ["a bird"]


def test_training_images_that_are_not_compared_with_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    for i in range(2):
        (tmp_path / f"{i}.txt").write_text(f"a cat {i}")

    def told(references: Path | None = None, **settings: object) -> str:
        read(tmp_path, references, **settings).tell(Talk())
        return " ".join(capsys.readouterr().err.split())

    assert "1 picture without a caption in" in told() and "--limit" not in told()
    assert "With --limit 1 only training images of these prompts are compared with." in told(limit=1)
    assert "Warning" not in told(tmp_path, limit=1)


@pytest.mark.parametrize("samples", [1, 2])
def test_too_few_samples_to_compare_with_each_other_are_refused(tmp_path: Path, samples: int) -> None:
    """Two others must be alike: with fewer samples every prompt would be clean, or have no score at all."""
    (tmp_path / "p.txt").write_text("a cat\n")
    with pytest.raises(MemfixError, match="No training image was given") as caught:
        read(tmp_path / "p.txt", num_samples=samples)
    assert caught.value.exit_code == ExitCode.USAGE and "--num-samples of 3" in caught.value.hint
    assert len(read(tmp_path / "p.txt", num_samples=3).prompts) == 1
    picture(0).save(tmp_path / "a.png")
    assert len(read(tmp_path / "p.txt", tmp_path / "a.png", num_samples=samples).references) == 1


def test_further_frames_of_references_are_counted_and_told(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    sources, wrong = read("an owl by a lake", tmp_path), WrongRows()
    assert sources.count_frames(wrong) == ""
    wrong.own_frames = 3
    for same in (False, False, True):
        wrong.add_frame("a.tif", same)
    assert "(2), a.tif among them" in sources.count_frames(wrong)
    told = sources.records()["references"]
    assert (told.seen, told.used) == (7, 4)
    assert sorted(told.passed_over.values()) == [1, 2]


def table(path: Path, **cells: str | bytes) -> None:
    """A parquet table of one row, in which bytes are a picture as `datasets` keeps it."""
    columns = {
        name: [{"bytes": cell, "path": "x.png"} if isinstance(cell, bytes) else cell] for name, cell in cells.items()
    }
    parquet.write_table(pa.table(columns), path)


def drawn(number: int) -> bytes:
    data = io.BytesIO()
    picture(number).save(data, "PNG")
    return data.getvalue()


def test_pictures_of_a_table_without_captions_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be what the model draws, and no prompt brings them along."""
    table(tmp_path / "a.parquet", image=drawn(0), text="a cat")
    table(tmp_path / "b.parquet", image=drawn(1))
    found = read(tmp_path)
    assert found.tallies[SourceName.PROMPTS].passed_over == {PassedOver.UNCAPTIONED: 1}
    said, talk = io.StringIO(), Talk()
    monkeypatch.setattr(talk.err, "file", said)
    monkeypatch.setattr(talk.err, "_width", 400)
    found.tell(talk)
    assert "1 picture without a caption" in said.getvalue() and f"--references {tmp_path}" in said.getvalue()


@pytest.mark.parametrize("name", ["z.parquet", "z.png", "z.tar", "z.heic"])
@pytest.mark.parametrize("limit", [None, 1])
def test_texts_beside_pictures_of_their_own_need_references(tmp_path: Path, name: str, limit: int | None) -> None:
    """Else samples would only be compared with each other, though training images are there."""
    parquet.write_table(pa.table({"text": ["a cat", "a dog"]}), tmp_path / "a.parquet")
    assert len(read(tmp_path).prompts) == 2
    if name.endswith(".parquet"):
        table(tmp_path / name, image=drawn(0))
    elif name.endswith(".tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            info = tarfile.TarInfo("x.png")
            info.size = len(drawn(0))
            tar.addfile(info, io.BytesIO(drawn(0)))
    else:
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" if name.endswith(".heic") else drawn(0))
    with pytest.raises(MemfixError, match=f"none of them goes with a prompt, .*{name}") as caught:
        read(tmp_path, limit=limit)
    assert f"--references {tmp_path}" in caught.value.hint


def test_pictures_that_come_behind_a_limit_are_not_passed_over_silently(tmp_path: Path) -> None:
    file, kind = tmp_path / "late.parquet", pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [None, None, {"bytes": drawn(0), "path": "x.png"}]
    texts = ["a cat", "a dog", "an owl"]
    parquet.write_table(pa.table({"text": texts, "image": pa.array(cells, kind)}), file)
    with pytest.raises(MemfixError, match=r"none of them in the rows that --limit 2 takes.*late\.parquet:3") as told:
        read(file, limit=2)
    assert f"--references {file}" in told.value.hint
    assert len(read(file, limit=3).references) == 1
    assert len(read(file, file, limit=2).references) == 1
    parquet.write_table(pa.table({"text": texts}), file)
    assert len(read(file, limit=2).prompts) == 2
