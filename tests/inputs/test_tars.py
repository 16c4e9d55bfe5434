"""Webdataset tars: pictures read in place, captions from their neighbours, hostile and broken archives."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.opening import open_image
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.tally import LOUD, PassedOver, Tally
from memfix.inputs.tars import container, members, read
from tests.conftest import picture


def png(seed: int) -> bytes:
    data = io.BytesIO()
    picture(seed).save(data, "PNG")
    return data.getvalue()


def write(path: Path, files: list[tuple[str, bytes]], mode: str = "w", form: int = tarfile.DEFAULT_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_pictures_and_captions(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", [
        ("000.png", png(0)), ("000.txt", b"a cat\n"), ("000.json", b"{broken"), ("001.json", b'{"caption": "a dog"}'),
        ("001.PNG", png(1)), ("002.png", png(2)), ("002.cls", b"3"),
    ])  # fmt: skip
    picture(3).save(tmp_path / "own.png")
    references = read_references(str(tmp_path), [])
    assert [(r.file_name, r.text) for r in references] == [
        ("00000.tar/000.png", "a cat"), ("00000.tar/001.PNG", "a dog"), ("00000.tar/002.png", ""), ("own.png", ""),
    ]  # fmt: skip
    for seed, reference in enumerate(references):
        assert open_image(reference.path).tobytes() == picture(seed).tobytes()
    assert container(references[0].path) == tmp_path / "00000.tar" and container(references[3].path).name == "own.png"
    assert [r.path for r in read_references(str(tmp_path / "00000.tar"), [])] == [r.path for r in references[:3]]


def test_names_in_a_tar_are_no_paths(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", [("../../etc/1.png", png(0)), ("/1.png", png(1)), ("a/1.png", png(2))])
    with tarfile.open(tar, "a") as archive:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    references = read_references(str(tar), [])
    assert [r.file_name for r in references] == ["x.tar/1.png", "x.tar/2-1.png", "x.tar/3-1.png"]
    assert open_image(references[1].path).tobytes() == picture(1).tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_a_file_that_looks_like_an_address_is_a_file(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "x.tar#0+9", "PNG")
    assert read(str(tmp_path / "x.tar#0+9")) is None
    assert open_image(tmp_path / "x.tar#0+9").size == (64, 64)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_broken_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(MemfixError, match=r"x\.tar cannot be read as a tar"):
        list(members(tmp_path / "x.tar"))


def test_compressed_and_cut_off(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="cannot be read as a tar") as caught:
        list(members(write(tmp_path / "x.tar", [("1.png", png(0))], "w:gz")))
    assert "unpack" in caught.value.hint
    tar = write(tmp_path / "y.tar", [("1.png", png(0)), ("2.png", png(1))])
    *_, last = members(tar)
    start, size = map(int, last.address.split("#")[1].split("+"))
    tar.write_bytes(tar.read_bytes()[: start + size // 2])
    with pytest.raises(MemfixError, match="cannot be read as a tar: unexpected end of data"):
        list(members(tar))
    with pytest.raises(MemfixError, match=r"y\.tar#\d+\+\d+ cannot be read as a picture"):
        open_image(last.address)


def test_names_with_dots_and_members_of_every_kind(tmp_path: Path) -> None:
    """A caption belongs to the picture of its own name first, and then to all of the webdataset key."""
    tar = write(tmp_path / "x.tar", [
        ("in/22.05.png", png(0)), ("in/22.06.png", png(1)), ("in/poster v1.0 (new).jpeg", png(2)),
        ("in/7.front.png", png(3)), ("in/noext", png(4)), ("._a.png", b"\0\5"), ("in/Thumbs.db", b"x"),
        ("in/7.json", b'{"caption": "seven"}'), ("in/22.05.txt", b"five"), ("in/poster v1.0 (new).caption", b"poster"),
        ("in/8.heic", b"x"), ("in/8.cls", b"3"), ("in/22.txt", b"both"),
    ])  # fmt: skip
    tally = Tally()
    found = read_references(str(tar), [], tally=tally)
    assert [(r.file_name, r.text) for r in found] == [
        ("x.tar/22.05.png", "five"), ("x.tar/22.06.png", "both"), ("x.tar/poster v1.0 (new).jpeg", "poster"),
        ("x.tar/7.front.png", "seven"), ("x.tar/noext", ""),
    ]  # fmt: skip
    assert [open_image(r.path).tobytes() for r in found] == [picture(i).tobytes() for i in range(5)]
    assert tally.passed_over == {
        PassedOver.HIDDEN: 2, PassedOver.CAPTIONS: 4, PassedOver.FOREIGN: 1, PassedOver.OTHER: 1,
    }  # fmt: skip
    tar.rename(tmp_path / "shard-00001")
    assert len(read_references(str(tmp_path), [])) == 5


def test_tars_in_a_row_are_one(tmp_path: Path) -> None:
    a, b = (write(tmp_path / f"{i}.tar", [(f"{i}.png", png(i)), (f"{i}.txt", b"a cat")]) for i in range(2))
    both = tmp_path / "both.tar"
    both.write_bytes(a.read_bytes() + b.read_bytes())
    assert [(m.name, m.texts) for m in members(both)] == [("0.png", ("a cat",)), ("1.png", ("a cat",))]
    assert read([*members(both)][1].address) == png(1)


def test_headers_about_the_whole_archive_are_no_damage(tmp_path: Path) -> None:
    """As `git archive` writes them; and names too long for a header."""
    path, long = tmp_path / "x.tar", "a" * 200 + ".png"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as archive:
        for name in ("0.png", long):
            info = tarfile.TarInfo(name)
            info.size = len(png(0))
            archive.addfile(info, io.BytesIO(png(0)))
    path.write_bytes(2 * path.read_bytes())
    assert [m.name for m in members(path)] == 2 * ["0.png", long]


def flipped(data: bytes, second: int) -> bytes:
    return data[: second + 5] + bytes([data[second + 5] ^ 1]) + data[second + 6 :]


@pytest.mark.parametrize(
    "broken",
    [
        flipped, lambda data, second: data[:second], lambda data, second: data[: second + 100],
        lambda data, second: data[:second] + bytes(2 << 20), lambda data, second: data + b"behind the end",
    ],
    ids=["a bit", "cut at a header", "cut in a header", "never filled", "something behind it"],
)  # fmt: skip
def test_a_tar_that_may_have_held_more_is_an_error(tmp_path: Path, broken: Callable[[bytes, int], bytes]) -> None:
    path = write(tmp_path / "x.tar", [(f"{i}.png", png(i)) for i in range(3)])
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    path.write_bytes(broken(path.read_bytes(), second))
    with pytest.raises(MemfixError, match="cannot be read as a tar"):
        list(members(path))


def test_links_and_sparse_files_are_counted_aloud(tmp_path: Path) -> None:
    path, tally = write(tmp_path / "x.tar", [("0.png", png(0))]), Tally()
    with tarfile.open(path, "a") as archive:
        for name, kind in (("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE), ("a", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0.png"
            archive.addfile(info)
    assert [m.name for m in members(path, tally)] == ["0.png"]
    assert tally.passed_over == {PassedOver.LINKED: 2} and PassedOver.LINKED in LOUD


def test_all_captions_of_a_picture_count(tmp_path: Path) -> None:
    more = b'{"captions": ["a red cat", "a cat"], "url": "http://x.org/1.png"}'
    tar = write(tmp_path / "x.tar", [("1.png", png(0)), ("1.txt", b"a cat"), ("1.json", more)])
    assert [m.texts for m in members(tar)] == [("a cat", "a red cat")]
    assert [p.text for p in read_prompts(str(tar))] == ["a cat", "a red cat"]


def test_masks_and_captions_that_end_twice(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", [
        ("d/4.png", png(0)), ("d/4-masklabel.png", png(1)), ("d/4.caption.txt", b"a cat"), ("d/5.png", png(2)),
        ("d/5.cap", b"a dog"), ("e/4-masklabel.png", png(3)),
    ])  # fmt: skip
    tally = Tally()
    assert [(m.name, m.texts) for m in members(tar, tally)] == [
        ("4.png", ("a cat",)), ("5.png", ("a dog",)), ("4-masklabel.png", ()),
    ]  # fmt: skip
    assert tally.passed_over[PassedOver.MASK] == 1 and tally.passed_over[PassedOver.CAPTIONS] == 2
