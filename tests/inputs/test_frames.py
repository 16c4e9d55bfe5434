"""Pictures behind the first one of a file: which of them are pictures of their own, and how they are opened."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from memfix.inputs.frames import KIND_OF_PAGE, MOST_FRAMES, NotOwn, frames_behind
from memfix.inputs.inside import container, parted, read
from memfix.inputs.opening import open_image
from memfix.inputs.references import opened_with_frames, read_references
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Reference


def coloured(*colours: str, side: int = 32) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), colour) for colour in colours]


def stored(path: Path, images: list[Image.Image]) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def found_in(source: Path, wrong: WrongRows) -> dict[str, Reference]:
    return {r.file_name: r for r, _ in opened_with_frames(read_references(str(source), []), wrong)}


@pytest.mark.parametrize("ending", ["tif", "gif", "png", "webp", "mpo"])
def test_what_is_of_its_own_is_a_reference(tmp_path: Path, ending: str) -> None:
    stored(tmp_path / f"a.{ending}", coloured("red", "blue", "lime"))
    Image.new("RGB", (32, 32), "white").save(tmp_path / "b.png")
    wrong = WrongRows()
    found = list(opened_with_frames(read_references(str(tmp_path), []), wrong))
    assert [r.file_name for r, _ in found] == [f"a.{ending}", f"a.{ending}#2", f"a.{ending}#3", "b.png"]
    assert (wrong.own_frames, wrong.frames, wrong.same_frames) == (2, 0, 0)
    for reference, image in found:  # later stages open it by its address alone
        np.testing.assert_array_equal(open_image(reference.path), image)
        assert container(reference.path).is_file()
    assert [np.asarray(image)[3, 3].argmax() for _, image in found] == [0, 2, 1, 0]


def test_the_same_frame_is_one_reference(tmp_path: Path) -> None:
    stored(tmp_path / "a.tif", coloured("red", "blue", "red", "blue"))
    wrong = WrongRows()
    assert list(found_in(tmp_path, wrong)) == ["a.tif", "a.tif#2"]
    assert (wrong.own_frames, wrong.same_frames, wrong.frames, wrong.first_frames) == (1, 2, 0, "")


def test_frames_that_are_recorded_are_not_found_twice(tmp_path: Path) -> None:
    stored(tmp_path / "a.tif", coloured("red", "blue"))
    recorded = list(found_in(tmp_path, WrongRows()).values())
    assert [r for r, _ in opened_with_frames(recorded, WrongRows())] == recorded


def test_smaller_versions_are_told_only(tmp_path: Path) -> None:
    """The preview of a photograph in its MPO, and the smaller pages of a pyramid in a TIFF."""
    stored(tmp_path / "a.mpo", [*coloured("red"), *coloured("blue", side=16)])
    smaller = TiffImagePlugin.ImageFileDirectory_v2()
    smaller[KIND_OF_PAGE] = 1
    first, second = coloured("lime", "blue")
    second.encoderinfo = {"tiffinfo": smaller}
    first.save(tmp_path / "b.tif", save_all=True, append_images=[second])
    wrong = WrongRows()
    assert list(found_in(tmp_path, wrong)) == ["a.mpo", "b.tif"]
    assert wrong.frames == 2 and wrong.first_frames.endswith("a.mpo")


def test_long_animations_are_looked_at_here_and_there(tmp_path: Path) -> None:
    count = 3 * MOST_FRAMES
    frames = [Image.fromarray(np.full((8, 8, 3), i, np.uint8)) for i in range(count)]
    path = stored(tmp_path / "a.png", frames)
    behind = list(frames_behind(str(path), open_image(path)))
    own = [int(f.address.rpartition("#")[2]) for f in behind if isinstance(f.found, Image.Image)]
    assert len(behind) == count - 1 and len(own) <= MOST_FRAMES - 1
    assert max(own) > count - 6 and max(np.diff(own)) <= 9
    assert all(f.found in (NotOwn.UNUSED, NotOwn.SAME) for f in behind if not isinstance(f.found, Image.Image))
    assert len(list(frames_behind(str(stored(tmp_path / "b.tif", frames)), open_image(path)))) == count - 1


def test_a_broken_frame_is_told_and_ends_nothing(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.gif", [Image.effect_noise((64, 64), sigma) for sigma in (20, 60, 90)])
    path.write_bytes(path.read_bytes()[:-3000])
    wrong = WrongRows()
    assert "a.gif" in found_in(tmp_path, wrong) and wrong.frames >= 1


def test_frames_of_a_member_of_a_tar(tmp_path: Path) -> None:
    stored(tmp_path / "a.tif", coloured("red", "blue"))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "a.tif", "a.tif")
    found = found_in(tmp_path / "b.tar", WrongRows())
    assert list(found) == ["b.tar/a.tif", "b.tar/a.tif#2"]
    second = found["b.tar/a.tif#2"].path
    assert open_image(second).getpixel((3, 3)) == (0, 0, 255)
    assert container(second) == tmp_path / "b.tar" and read(second) == (tmp_path / "a.tif").read_bytes()


def test_a_file_may_be_called_like_a_frame(tmp_path: Path) -> None:
    """It is what its name says, and the frame is told of."""
    path = stored(tmp_path / "a.tif", coloured("red", "blue"))
    Image.new("RGB", (32, 32), "white").save(tmp_path / "c.png")
    (tmp_path / "c.png").rename(tmp_path / "a.tif#2")
    wrong = WrongRows()
    assert list(found_in(tmp_path, wrong)) == ["a.tif", "a.tif#2"] and wrong.frames == 1
    assert open_image(f"{path}#2").getpixel((3, 3)) == (255, 255, 255)
    assert parted(f"{path}#2") == (f"{path}#2", 0) and parted(f"{path}#1") == (f"{path}#1", 0)
