"""Reference folders, captions, unreadable pictures."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.errors import MemfixError
from memfix.index.build import build
from memfix.index.store import Store
from memfix.inputs.captions import captions
from memfix.inputs.opening import open_image
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import index_folder, read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Pixels
from memfix.measures.pixels import Ssim
from memfix.records import Prompt
from memfix.references.in_memory import HeldReferences
from tests.conftest import picture


def test_folder_with_captions(reference_folder: Path) -> None:
    references = read_references(str(reference_folder), [])
    assert [r.file_name for r in references] == ["0.png", "1.png", "2.png", "3.png"]
    assert references[2].text == "disc 2"


def test_a_reference_named_twice_is_one(reference_folder: Path) -> None:
    own = Prompt(id="p", text="t", references=(str((reference_folder / "0.png").resolve()),))
    assert len(read_references(str(reference_folder), [own])) == 4
    assert [r.text for r in read_references(None, [own])] == ["t"]


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    assert read_references(None, [Prompt(id="p", text="t")]) == []
    with pytest.raises(MemfixError, match="no folder of images") as caught:
        read_references(str(tmp_path / "none"), [], flag="--surrogates")
    assert "--surrogates" in caught.value.hint
    with pytest.raises(MemfixError, match="contains no image"):
        read_references(str(tmp_path), [])


def test_bad_metadata_is_named(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"name": 1}\n')
    with pytest.raises(MemfixError, match=r"metadata\.jsonl:2"):
        read_references(str(tmp_path), [])


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n broken"])
def test_unreadable_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(MemfixError, match=r"x\.png cannot be read"):
        open_image(tmp_path / "x.png")


def test_truncated_picture(tmp_path: Path) -> None:
    picture(0, 256).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MemfixError, match="cannot be read"):
        open_image(tmp_path / "x.png")


def test_transparency_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 1))
    image.save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_picture_without_a_visible_pixel_is_no_reference(tmp_path: Path, mode: str) -> None:
    picture(0).save(tmp_path / "a.png")
    empty = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    (empty.quantize(2) if mode == "P" else empty.convert(mode)).save(tmp_path / "b.png")
    references = read_references(str(tmp_path), [])
    with pytest.raises(MemfixError, match=r"b\.png cannot be read as a picture: it is transparent everywhere"):
        HeldReferences(references, Ssim())
    wrong = WrongRows(skip=True)
    assert len(HeldReferences(references, Ssim(), wrong)) == 1 and wrong.pictures == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    """The eight orientations of one picture of 3 x 2 pixels, stored so that each is to be seen the same."""
    seen = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 9)
    how = Image.Transpose
    stored = [None, how.FLIP_LEFT_RIGHT, how.ROTATE_180, how.FLIP_TOP_BOTTOM, how.TRANSPOSE, how.ROTATE_90,
              how.TRANSVERSE, how.ROTATE_270][orientation - 1]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    (seen if stored is None else seen.transpose(stored)).save(tmp_path / "x.png", exif=exif)
    assert open_image(tmp_path / "x.png").tobytes() == seen.tobytes()


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert open_image(tmp_path / "x.png").tobytes() == picture(0).tobytes()


@pytest.mark.parametrize(("kind", "suffix"), [("<u2", "png"), ("<u2", "tif"), (">u2", "tif"), ("<i4", "tif")])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, kind: str, suffix: str) -> None:
    levels = np.array([[0, 257, 25700], [32896, 65278, 65535]])
    Image.fromarray(levels.astype(kind)).save(tmp_path / f"x.{suffix}")
    expected = [[0, 1, 100], [128, 254, 255]]
    found = np.asarray(open_image(tmp_path / f"x.{suffix}"))
    assert found.tolist() == [[[v] * 3 for v in row] for row in expected]


def test_eight_bits_in_a_wide_file_are_left(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100], [200, 255]], np.int32)).save(tmp_path / "x.tif")
    assert np.asarray(open_image(tmp_path / "x.tif"))[..., 0].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "P", "L", "RGB"])
def test_transparency_of_every_kind_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (90, 90, 90, 255))
    image.putpixel((1, 0), (90, 90, 90, 0))
    if mode in {"L", "RGB"}:  # one colour stands for transparent
        clear = 7 if mode == "L" else (7, 7, 7)
        flat = Image.new(mode, (2, 1))
        flat.putpixel((1, 0), clear)
        flat.save(tmp_path / "x.png", transparency=clear)
    elif mode == "P":
        image.quantize(4).save(tmp_path / "x.png")
    else:
        image.convert(mode).save(tmp_path / ("x.tif" if mode == "PA" else "x.png"))
    found = np.asarray(open_image(next(tmp_path.iterdir())))
    assert found[0, 1].tolist() == [255] * 3 and found[0, 0].max() < 100


def test_a_table_names_several_images_a_row(tmp_path: Path) -> None:
    for i, name in enumerate(["a/1.png", "b/1.png", "c.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(i).save(tmp_path / name)
    (tmp_path / "refs.jsonl").write_text('{"images": ["a/1.png", "b/1.png"], "text": "t"}\n{"image": "c.png"}\n')
    references = read_references(str(tmp_path / "refs.jsonl"), [])
    assert [(r.file_name, r.text) for r in references] == [("a/1.png", "t"), ("b/1.png", "t"), ("c.png", "")]


def test_wrong_rows_of_a_table(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "refs.csv").write_text("image,url\ngone.png,\n,http://x.org/1.jpg\na.png,\n")
    with pytest.raises(MemfixError, match=r"refs\.csv:2: there is no reference image gone\.png"):
        read_references(str(tmp_path / "refs.csv"), [])
    wrong = WrongRows(skip=True)
    assert [r.file_name for r in read_references(str(tmp_path / "refs.csv"), [], wrong)] == ["a.png"]
    assert (wrong.count, wrong.pictures) == (1, 1) and "memfix fetch" in wrong.first[0]


def test_entries_of_a_folder_whose_picture_is_missing(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a cat\ngone.png,a dog\n")
    with pytest.raises(MemfixError, match=r"metadata\.csv:3: there is no reference image gone\.png"):
        read_references(str(tmp_path), [])
    wrong = WrongRows(skip=True)
    assert [(r.file_name, r.text) for r in read_references(str(tmp_path), [], wrong)] == [("a.png", "a cat")]
    assert (wrong.count, wrong.pictures) == (0, 1)


def test_captions_beside_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, name in enumerate(["a.png", "b.jpg", "c.png", "in/d.png"]):
        picture(i).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("\ufeff a cat, asleep\nin a box\n")
    (tmp_path / "b.caption").write_text("a dog")
    (tmp_path / "in/d.txt").write_text("a bird")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "./in/d.png", "text": "a red bird"}\n')
    texts = {"a.png": "a cat, asleep", "b.jpg": "a dog", "c.png": "", "in/d.png": "a red bird"}
    assert {r.file_name: r.text for r in read_references(str(tmp_path), [])} == texts
    assert captions(tmp_path, ["b.jpg", "c.png", "in/d.png"]) == {"b.jpg": "a dog", "in/d.png": "a red bird"}
    (tmp_path / "c.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(MemfixError, match=r"c\.txt is not UTF-8"):
        read_references(str(tmp_path), [])


def test_a_broken_reference_is_left_out_and_counted(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"<html>")
    (tmp_path / "c.tar").write_bytes(b"no tar")
    with pytest.raises(MemfixError, match=r"c\.tar cannot be read as a tar"):
        read_references(str(tmp_path), [])
    wrong = WrongRows(skip=True)
    references = read_references(str(tmp_path), [], wrong)
    assert [r.file_name for r in references] == ["a.png", "b.png"] and wrong.pictures == 1
    with pytest.raises(MemfixError, match=r"b\.png cannot be read as a picture"):
        HeldReferences(references, Ssim())
    with pytest.raises(MemfixError, match=r"b\.png cannot be read") as caught:
        HeldReferences(references, Ssim(), wrong=WrongRows())
    assert "--skip-invalid" in caught.value.hint
    gallery = HeldReferences(references, Ssim(), wrong=wrong)
    assert [r.file_name for r in gallery.recorded(CopyRule.default(Ssim()))] == ["a.png"] and wrong.pictures == 2
    assert wrong.told()[1].endswith("b.png cannot be read as a picture: UnidentifiedImageError; it is left out")
    with pytest.raises(MemfixError, match="None of the 1 references can be read"):
        HeldReferences(references[1:], Ssim(), wrong=WrongRows(skip=True))


def test_pictures_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    paths = [tmp_path / name / "1.png" for name in "ab"]
    prompt = Prompt(id="p", text="t", references=tuple(map(str, paths)))
    assert [r.file_name for r in read_references(None, [prompt])] == ["1.png", "b/1.png"]


def test_an_index_is_told_from_a_folder(reference_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build(Store.create(out, reference_folder, Pixels()), reference_folder, Pixels())
    assert index_folder(str(out)) == out
    for other in (None, str(reference_folder), str(tmp_path / "none"), str(out / "manifest.json")):
        assert index_folder(other) is None
    assert read_references(str(out), []) == []
    (tmp_path / "0.png").write_bytes(b"any")
    own = Prompt(id="p", text="t", references=(str(tmp_path / "0.png"),))
    (only,) = read_references(str(out), [own], taken=Store.open(out))
    assert only.path == str(tmp_path / "0.png") and only.file_name == f"{tmp_path.name}/0.png"  # 0.png is in the index


def test_captions_of_some(reference_folder: Path, tmp_path: Path) -> None:
    assert captions(reference_folder, {"1.png", "9.png"}) == {"1.png": "disc 1"}
    assert captions(tmp_path, {"1.png"}) == {}
    (tmp_path / "metadata.jsonl").write_text('not json\n{"file_name": "1.png", "text": "one"}\n')
    assert captions(tmp_path, {"1.png"}) == {"1.png": "one"}


def test_pictures_in_a_folder_that_is_a_link_are_references(reference_folder: Path, tmp_path: Path) -> None:
    """A picture that is not entered is one that no sample is ever compared with."""
    root = tmp_path / "all"
    (root / "own").mkdir(parents=True)
    picture(9).save(root / "own/9.png")
    (root / "linked").symlink_to(reference_folder)
    (root / "again").symlink_to(root / "own")  # what is found there by itself keeps its name
    (root / "loop").symlink_to(root)
    found = read_references(str(root), [])
    assert [(r.file_name, r.text) for r in found] == [
        *((f"linked/{i}.png", f"disc {i}") for i in range(4)), ("own/9.png", ""),
    ]  # fmt: skip
    assert found[0].path == str((reference_folder / "0.png").resolve())


def test_pictures_that_a_link_shows_and_that_lie_hidden_are_references(tmp_path: Path) -> None:
    """As tools keep them that leave links in place of data: the link is what people see."""
    (tmp_path / ".store").mkdir()
    for number in range(2):
        picture(number).save(tmp_path / f".store/{number}.png")
    (tmp_path / "pics").symlink_to(".store")
    tally = Tally()
    assert [r.file_name for r in read_references(str(tmp_path), [], tally=tally)] == ["pics/0.png", "pics/1.png"]
    assert (tally.used, tally.passed_over) == (2, {PassedOver.HIDDEN: 2})


@pytest.mark.parametrize("name", ["gone.png", "more"])
def test_a_link_to_nowhere_in_a_folder_is_a_picture_that_is_missing(tmp_path: Path, name: str) -> None:
    picture(0).save(tmp_path / "0.png")
    (tmp_path / name).symlink_to("/none/at/all")
    (tmp_path / ".#0.txt").symlink_to("user@host")  # as editors lock files
    with pytest.raises(MemfixError, match=f"{name} cannot be read: No such file") as caught:
        read_references(str(tmp_path), [])
    assert "--skip-invalid" in caught.value.hint
    wrong = WrongRows(skip=True)
    assert [r.file_name for r in read_references(str(tmp_path), [], wrong)] == ["0.png"]
    assert wrong.pictures == 1


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.avif", "a.jp2", "a.ppm", "a.tga", "a", "a.txt", "22.05"])
def test_a_picture_of_any_name_is_a_reference(tmp_path: Path, name: str) -> None:
    kinds = {".avif": "AVIF", ".jp2": "JPEG2000", ".ppm": "PPM", ".tga": "TGA", "": "PNG", ".txt": "WEBP", ".05": "GIF"}
    picture(0).save(tmp_path / "plain.png")
    picture(1).save(tmp_path / name, kinds.get(Path(name).suffix, "JPEG"))
    found = {r.file_name: r for r in read_references(str(tmp_path), [])}
    assert found.keys() == {"plain.png", name}
    seen, known = (np.asarray(image, float) for image in (open_image(found[name].path), picture(1)))
    assert np.abs(seen - known).mean() < 12
    assert [r.file_name for r in read_references(str(tmp_path / name), [])] == [name]  # one picture is a source, too


def test_side_files_neither_stop_the_reading_nor_count_twice(tmp_path: Path) -> None:
    for name in ("a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png", "._a.png", "in/.thumbs/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(tmp_path / name)
    for name in ("Thumbs.db", ".DS_Store", "in/desktop.ini", "._metadata.csv", "__MACOSX/metadata.csv"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "again.png").symlink_to("a.png")
    tally = Tally()
    assert [r.file_name for r in read_references(str(tmp_path), [], tally=tally)] == ["a.png"]
    assert tally.passed_over == {PassedOver.HIDDEN: 9, PassedOver.AGAIN: 1}


def test_what_may_hold_pictures_and_is_not_read_is_told(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    for name, data in [("b.heic", b""), ("c", b"\0\0\0\x18ftypheic"), ("d.arrow", b"ARROW1"), ("e.rar", b"Rar!\x1a\7")]:
        (tmp_path / name).write_bytes(data)
    tally = Tally()
    assert len(read_references(str(tmp_path), [], tally=tally)) == 1
    assert tally.passed_over == {PassedOver.FOREIGN: 2, PassedOver.CLOSED: 2}
    assert [name in line for name, line in zip(["b.heic", "d.arrow"], tally.warnings(), strict=True)] == [True, True]
    with tarfile.open(tmp_path / "f.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "a.png", "1.png")
    with pytest.raises(MemfixError, match=r"f\.tar\.gz is an archive of pictures") as caught:
        read_references(str(tmp_path), [])
    assert "Unpack it" in caught.value.hint and "--skip-invalid" in caught.value.hint
    for name in ("b.heic", "e.rar", "f.tar.gz"):
        with pytest.raises(MemfixError, match=f"{name} is no source of references"):
            read_references(str(tmp_path / name), [])


def test_paths_of_windows_and_urls_of_files(tmp_path: Path) -> None:
    (tmp_path / "my images").mkdir()
    for i, name in enumerate(["a b.png", "c.png", "d.png"]):
        picture(i).save(tmp_path / "my images" / name)
    picture(3).save(tmp_path / "my images\\c.png")  # a name that holds a backslash wins
    names = ["my images\\a b.png", "my images\\c.png", (tmp_path / "my images/d.png").as_uri()]
    rows = [{"file_name": name, "text": str(i)} for i, name in enumerate(names)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_references(str(tmp_path / "metadata.jsonl"), [])
    assert [(r.file_name, r.text) for r in found] == [
        ("my images/a b.png", "0"), ("my images\\c.png", "1"), ("my images/d.png", "2"),
    ]  # fmt: skip
    texts = {r.file_name: r.text for r in read_references(tmp_path.as_uri(), [])}
    assert texts == {"my images/a b.png": "0", "my images/c.png": "", "my images\\c.png": "1", "my images/d.png": "2"}
    (tmp_path / "cells.jsonl").write_text(json.dumps({"image": {"bytes": None, "path": "my images/d.png"}}))
    (tmp_path / "cells.csv").write_text("image,text\n\"{'bytes': None, 'path': 'my images/d.png'}\",x\n")
    for name in ("cells.jsonl", "cells.csv"):
        assert [r.file_name for r in read_references(str(tmp_path / name), [])] == ["my images/d.png"]


def test_masks_of_pictures_beside_them_are_no_training_images(tmp_path: Path) -> None:
    """OneTrainer's: a-masklabel.png beside a.jpg. Without that picture it is one itself."""
    for i, name in enumerate(["a.JPG", "a-masklabel.png", "a-condlabel.png", "alone-masklabel.png"]):
        picture(i).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("a cat")
    tally = Tally()
    assert [r.file_name for r in read_references(str(tmp_path), [], tally=tally)] == ["a.JPG", "alone-masklabel.png"]
    assert tally.passed_over[PassedOver.MASK] == 2
    tally = Tally()
    (prompt,) = read_prompts(str(tmp_path), tally=tally)
    assert prompt.references == (str(tmp_path / "a.JPG"),) and tally.passed_over[PassedOver.MASK] == 2
    assert tally.passed_over[PassedOver.UNCAPTIONED] == 1
    assert len(read_references(str(tmp_path / "a-masklabel.png"), [])) == 1  # what is named is taken


def test_a_text_file_names_a_picture_a_line(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for i, name in enumerate(["a.png", "b c.png"]):
        picture(i).save(tmp_path / "set" / name)
    (tmp_path / "list.txt").write_text("set/a.png\n\nset\\b c.png\n")
    assert [r.file_name for r in read_references(str(tmp_path / "list.txt"), [])] == ["set/a.png", "set/b c.png"]
    (tmp_path / "list.txt").write_text("set/a.png\na red kite\n")  # a list of prompts is none of pictures
    with pytest.raises(MemfixError, match=r"list\.txt:2: there is no reference image a red kite"):
        read_references(str(tmp_path / "list.txt"), [])
