"""What files are, by their bytes: pictures of every format, what may hold some, and texts that only begin like one."""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.inputs.contents import HEAD, Content, by_bytes, by_head, content_of
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from tests.conftest import picture
from tests.inputs.test_tars import png
from tests.inputs.test_tars import write as write_tar

FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "TGA", "QOI"]


def encoded(kind: str, size: int = 64) -> bytes:
    data = io.BytesIO()
    more = {"save_all": True, "append_images": [picture(2, size)]} if kind == "MPO" else {}
    picture(1, size).save(data, kind, **more)
    return data.getvalue()


def found(data: bytes) -> Content:
    return by_bytes(io.BytesIO(data), len(data)).content


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_one_under_any_name(tmp_path: Path, kind: str) -> None:
    for name in ("noext", "a.dat", "notes.txt", "22.05"):
        (tmp_path / name).write_bytes(encoded(kind))
        assert content_of(tmp_path / name).content is Content.PICTURE


def test_tga_without_a_mark_is_told_by_its_size() -> None:
    data = encoded("TGA")
    assert data.endswith(b"TRUEVISION-XFILE.\0")
    bare = data[: 18 + 64 * 64 * 3]
    assert found(bare) is Content.PICTURE
    assert found(bare[:-1]) is Content.OTHER


@pytest.mark.parametrize(
    "data",
    [
        b"", b"a cat\n", b"BMW 328i on a road", b"P1 is a camera", b"P6 of the series", b"\0" * 600,
        b"GIF of a cat", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42", bytes(range(256)) * 3,
        gzip.compress(b"a cat", mtime=0), bz2.compress(b"a cat"), lzma.compress(b"a cat"),
        b"\0\0\0\1Bud1" + b"\0" * 600,
    ],
)  # fmt: skip
def test_what_is_no_picture(data: bytes) -> None:
    assert found(data) is Content.OTHER


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"), (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"8BPS\0\1", "PSD"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"), (b"\xff\x0a\x00", "JPEG XL"), (b"%PDF-1.7", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)  # fmt: skip
def test_formats_that_are_not_read_are_named(data: bytes, name: str) -> None:
    known = by_bytes(io.BytesIO(data), len(data))
    assert (known.content, known.format) == (Content.FOREIGN, name)


def test_avif_that_also_calls_itself_heif_is_avif() -> None:
    assert by_head(b"\0\0\0\x20ftypmif1\0\0\0\0avifmif1miaf\0\0\0\0") == (Content.PICTURE, "")


def test_what_may_hold_pictures(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("1.png", png(0))])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/1.JPG", b"x")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", b"x")
    assert found(tar.read_bytes()) is Content.TAR
    assert found(packed.getvalue()) is Content.PACKED and found(other.getvalue()) is Content.OTHER
    assert found(gzip.compress(tar.read_bytes(), mtime=0)) is Content.PACKED
    assert found(bz2.compress(png(0))) is Content.PACKED
    for closed in (b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, b"SQLite format 3\0", b"PK\x03\x04", packed.getvalue()[:-9]):
        assert found(closed) is Content.CLOSED
    assert found(gzip.compress(png(0), mtime=0)[:12]) is Content.CLOSED
    assert found(b"PAR1" + b"\0" * 99) is Content.TABLE


MEMBERS = [
    ("in/a.parquet", b"", Content.PACKED), ("a.tar", b"", Content.PACKED), ("in/0001", png(0), Content.PACKED),
    ("octopus.jpg_large", png(0), Content.PACKED), ("img.bin", png(0), Content.PACKED),
    ("a.dat", encoded("BMP"), Content.PACKED), ("b", encoded("TGA"), Content.PACKED),
    ("c", b"8BPS\0\1", Content.PACKED),
    ("more.dat", gzip.compress(png(0), mtime=0), Content.PACKED), ("archive/data.pkl", b"\x80\2}q", Content.CLOSED),
    ("more.zip", b"", Content.OTHER), ("latents.npy", b"", Content.OTHER), ("0001", b"a cat", Content.OTHER),
    ("__MACOSX/._a.png", b"", Content.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "content"), MEMBERS)
def test_a_zip_is_what_is_in_it(name: str, data: bytes, content: Content) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, data)
    assert found(packed.getvalue()) is content


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, None])
def test_a_tar_of_any_age_is_one_under_any_name(tmp_path: Path, form: int | None) -> None:
    """The oldest ones have no mark, only a sum of each header."""
    data = write_tar(tmp_path / "x.tar", [("1.png", png(0))], form=form or tarfile.USTAR_FORMAT).read_bytes()
    if form is None:
        head = data[:257].ljust(512, b"\0")
        total = sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
        data = head[:148] + f"{total:06o}\0 ".encode() + head[156:] + data[512:]
    for name in ("shard", "a.dat", "a.png"):
        (tmp_path / name).write_bytes(data)
        assert content_of(tmp_path / name).content is Content.TAR


def test_the_bytes_decide_before_the_name(tmp_path: Path) -> None:
    table = b"PAR1" + b"\0" * 99
    files = {
        "a.heic": (png(0), Content.PICTURE), "a.parquet": (png(0), Content.PICTURE), "a.tar": (png(0), Content.PICTURE),
        "a.png": (table, Content.TABLE), "b.png": (b"%PDF-1.7", Content.FOREIGN), "a.arrow": (table, Content.TABLE),
        "a.cr2": (encoded("TIFF"), Content.FOREIGN), "a.dng": (encoded("TIFF"), Content.FOREIGN),  # raw files are TIFF
        "a.tif": (encoded("TIFF"), Content.PICTURE),
    }  # fmt: skip
    for name, (data, content) in files.items():
        (tmp_path / name).write_bytes(data)
        assert content_of(tmp_path / name).content is content


def test_the_name_decides_what_a_broken_file_was_to_be(tmp_path: Path) -> None:
    names = {"a.png": Content.PICTURE, "a.JFIF": Content.PICTURE, "a.tar": Content.TAR, "a.parquet": Content.TABLE}
    for name, content in (names | {"a.HEIC": Content.FOREIGN, "a.cr2": Content.FOREIGN}).items():
        (tmp_path / name).write_bytes(b"")
        assert content_of(tmp_path / name).content is content


def test_the_head_is_enough_to_tell_a_picture() -> None:
    for kind in FORMATS[:9]:
        known = by_head(encoded(kind)[:HEAD])
        assert kind == "BMP" or (known and known.content is Content.PICTURE)
    assert Image.MAX_IMAGE_PIXELS


def saved(array: np.ndarray, how: str) -> bytes:
    data = io.BytesIO()
    match how:
        case "npz":
            np.savez(data, images=array)
        case "packed":
            np.savez_compressed(data, images=array)
        case _:
            pickle.dump({"data": array}, data, protocol=int(how))
    return data.getvalue()


IDX = struct.pack(">IIII", 0x803, 2, 8, 8) + bytes(128)
RECORD = struct.pack("<Q", 5) + b"abcd" + b"12345" + b"abcd"
PIXELS = np.zeros((2, 8, 8, 3), np.uint8)
CLOSED = {
    "data_batch_1": saved(PIXELS, "2"), "old": saved(PIXELS, "0"), "new": saved(PIXELS, "4"),
    "mnist.pkl.gz": gzip.compress(saved(PIXELS, "3"), mtime=0), "train-images-idx3-ubyte": IDX,
    "train-images-idx3-ubyte.gz": gzip.compress(IDX, mtime=0), "pathmnist.npz": saved(PIXELS, "npz"),
    "train": saved(PIXELS.astype(np.float32), "packed"), "train-00000-of-01024": RECORD, "records": RECORD * 5,
    "posters-train.tfrecord-00000-of-00001": RECORD, "packed.gz": gzip.compress(RECORD, mtime=0),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_data_sets_of_numbers_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CLOSED[name])
    assert content_of(tmp_path / name).content is Content.CLOSED
    tally = Tally()
    picture(0).save(tmp_path / "a.png")
    assert len(read_references(str(tmp_path), [], tally=tally)) == 1
    assert tally.passed_over == {PassedOver.CLOSED: 1} and tally.warnings()


def test_latents_and_labels_are_no_pictures() -> None:
    latents = io.BytesIO()
    np.savez(latents, latents=np.zeros((4, 8, 8), np.float32), original_size=np.array([512, 512]))
    assert found(latents.getvalue()) is Content.OTHER
    assert found(struct.pack(">II", 0x801, 8) + bytes(8)) is Content.OTHER


def test_pictures_are_found_in_packings_of_any_kind() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("1.png", png(0))
    for data in (
        gzip.compress(encoded("BMP"), mtime=0), gzip.compress(encoded("TGA"), mtime=0),
        gzip.compress(gzip.compress(png(0), mtime=0), mtime=0), lzma.compress(png(0), lzma.FORMAT_ALONE),
        gzip.compress(packed.getvalue(), mtime=0), b"#!/bin/sh\nexit\n" + packed.getvalue(),
    ):  # fmt: skip
        assert found(data) is Content.PACKED
    assert found(b"PK\7\x08" + packed.getvalue()) is Content.CLOSED


@pytest.mark.parametrize("kind", ["ICO", "PCX", "SGI", "ICNS", "IM", "XBM", "MSP", "DDS", "EPS", "PDF"])
def test_foreign_pictures_are_told_under_any_name(kind: str) -> None:
    data = io.BytesIO()
    picture(0, 64).convert("1" if kind in {"XBM", "MSP"} else "RGB").save(data, kind)
    assert found(data.getvalue()) is Content.FOREIGN
    for head in (b"P7\nWIDTH 2\n", b"SIMPLE  =      T", b"\0" * 128 + b"DICM", b"\x59\xa6\x6a\x95", b"farbfeld"):
        assert found(head + b"\0" * 99) is Content.FOREIGN
