"""Reference folders, captions, unreadable pictures."""

from pathlib import Path

import pytest
from conftest import picture
from PIL import Image

from memfix.errors import MemfixError
from memfix.inputs.references import open_image, read_references
from memfix.records import Prompt


def test_folder_with_captions(reference_folder: Path) -> None:
    references = read_references(str(reference_folder), [])
    assert [r.file_name for r in references] == ["0.png", "1.png", "2.png", "3.png"]
    assert references[2].text == "disc 2"


def test_a_reference_named_twice_is_one(reference_folder: Path) -> None:
    own = Prompt(id="p", text="t", references=(str((reference_folder / "0.png").resolve()),))
    assert len(read_references(str(reference_folder), [own])) == 4
    assert [r.text for r in read_references(None, [own])] == ["t"]


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="no reference image") as caught:
        read_references(None, [Prompt(id="p", text="t")])
    assert "--references" in caught.value.hint
    with pytest.raises(MemfixError, match="no folder of references"):
        read_references(str(tmp_path / "none"), [])
    with pytest.raises(MemfixError, match="holds no image"):
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
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").getpixel((0, 0)) == (255, 255, 255)
