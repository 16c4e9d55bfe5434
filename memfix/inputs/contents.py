"""What a file is: a picture, or something that may hold pictures. Decodes nothing.

The bytes decide, whatever the name. Where they say nothing, a name tells what a broken file was to be.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from enum import StrEnum
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from memfix.files import is_hidden
from memfix.inputs.arrays import NUMPY, SHARD, is_array_file, may_be_pictures

HEAD = 512  # bytes that tell what a file is; the mark of a tar is behind the 256th
TAR, PARQUET = ".tar", ".parquet"
SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".webp", ".avif", ".jp2", ".j2k", ".jpf",
    ".jpx", ".j2c", ".jpc", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga",
    ".qoi",
})  # fmt: skip
"""Names of pictures that memfix reads: such a file is one, and an error where it cannot be read."""

FOREIGN_SUFFIXES = frozenset({
    ".heic", ".heif", ".hif", ".jxl", ".jxr", ".psd", ".psb", ".eps", ".ps", ".ai", ".svg", ".svgz", ".pdf", ".raw",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".exr", ".hdr", ".dds", ".ico", ".icns",
    ".pcx", ".sgi", ".xcf", ".kra", ".wmf", ".emf", ".pam", ".fits", ".fit", ".fts", ".dcm", ".dicom", ".xbm", ".xpm",
    ".im", ".ras", ".cur", ".msp", ".psp", ".bpg", ".flif", ".djvu", ".dpx", ".cin", ".ff", ".mng", ".jng", ".iff",
    ".lbm", ".pict", ".pct", ".spi", ".ktx", ".ktx2", ".x3f", ".mrw", ".srw", ".3fr", ".iiq", ".nii", ".ora", ".heics",
})  # fmt: skip
"""Names of pictures that memfix does not read."""

CLOSED_SUFFIXES = frozenset({
    ".arrow", ".feather", ".tfrecord", ".tfrecords", ".h5", ".hdf5", ".lmdb", ".mdb", ".beton", ".npy", ".pkl",
    ".pickle", ".mat", ".avro", ".rec",
})  # fmt: skip
"""Names of what else training sets are kept in."""

SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"qoif",
)  # fmt: skip
FOREIGN_SIGNATURES = {
    b"8BPS": "PSD", b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"gimp xcf": "XCF",
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"v/1\x01": "OpenEXR", b"DDS ": "DDS",
    b"P7\n": "PAM", b"icns": "ICNS", b"\x01\xda\0\1": "SGI", b"\x01\xda\1\1": "SGI", b"SIMPLE  =": "FITS",
    b"\x59\xa6\x6a\x95": "Sun raster", b"/* XPM */": "XPM", b"Image type:": "IM", b"DanM": "MSP", b"LinS": "MSP",
    b"II\xbc\x01": "JPEG XR", b"BPG\xfb": "BPG", b"FLIF": "FLIF", b"AT&TFORM": "DjVu", b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR", b"SDPX": "DPX", b"XPDS": "DPX", b"farbfeld": "farbfeld", b"\x8aMNG": "MNG",
    b"\x8bJNG": "JNG", b"\xd7\xcd\xc6\x9a": "WMF", b"FUJIFILMCCD-RAW": "camera raw", b"IIU\0": "camera raw",
    b"IIRO": "camera raw", b"IIRS": "camera raw", b"FOVb": "camera raw", b"\0MRM": "camera raw",
    b"\xabKTX ": "KTX", b"Paint Shop Pro": "PSP",
}  # fmt: skip
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
TIFF = (b"II*\0", b"MM\0*")
"""What raw files of cameras (CR2, NEF, DNG, …) begin with, too: of these the name is to be believed."""

CLOSED_ARCHIVES = (
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"ARROW1", b"\x89HDF",
    b"SQLite format 3\0", b"\x93NUMPY", b"MATLAB 5.0", b"MATLAB 7.3", b"\x1f\x9d", b"LZIP", b"FEA1", b"Obj\x01", b"ORC",
    b"\x0a\x23\xd7\xce", b"PK\x07\x08",
)  # fmt: skip
"""7-Zip, RAR, Zstandard, LZ4, Arrow, HDF5, SQLite, NumPy, MATLAB, compress, lzip, Feather, Avro, ORC, RecordIO, and a
zip in parts"""

UNPACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"\x5d\0\0": lzma.open,
}  # fmt: skip
PROGRAMS = (b"MZ", b"#!", b"\x7fELF")
"""What an archive that unpacks itself begins with."""

POINTER = b"version https://git-lfs"
"""What a file of Git LFS begins with where its content was not fetched."""

LMDB = b"\xde\xc0\xef\xbe"
MOST_NESTED = 3  # archives in archives
MOST_UNPACKED = 64 << 20  # bytes of a file in an archive that are looked at
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
TGA_HEADER = 18

MASK = re.compile(r"(.+)-(?:mask|cond)label\.png", re.IGNORECASE)
"""What OneTrainer weighs the loss of a picture with, or gives the network beside it: nobody wants it drawn."""


class Content(StrEnum):
    """What a file is to memfix."""

    PICTURE = "picture"
    FOREIGN = "picture of a format that memfix does not read"
    TAR = "tar"
    TABLE = "parquet table"
    PACKED = "archive that holds pictures"
    CLOSED = "archive that memfix cannot look into"
    OTHER = "no picture"


class Known(NamedTuple):
    """What a file is, and the name of its format where that is not read."""

    content: Content
    format: str = ""


def masked_by(name: str) -> str:
    """The path, without its suffix, of the picture that a file is the mask of by its name; nothing if it is none."""
    named = MASK.fullmatch(name)
    return named[1] if named else ""


def is_mask(path: Path) -> bool:
    """Whether a file is called the mask of a picture that is beside it."""
    stem = masked_by(path.name)
    endings = (written for suffix in SUFFIXES for written in (suffix, suffix.upper()))
    return bool(stem) and any(path.with_name(stem + ending).is_file() for ending in endings)


def by_name(name: str) -> Known | None:
    """What a name alone says; None if that is nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    named = {TAR: Content.TAR, PARQUET: Content.TABLE}
    if suffix in FOREIGN_SUFFIXES:
        return Known(Content.FOREIGN, suffix[1:].upper())
    if suffix in CLOSED_SUFFIXES or SHARD.fullmatch(PurePosixPath(name).name):
        return Known(Content.CLOSED)
    content = Content.PICTURE if suffix in SUFFIXES else named.get(suffix)
    return Known(content) if content else None


def content_of(path: Path) -> Known:
    """What a file is. Raises OSError where it cannot be opened."""
    with path.open("rb") as file:
        return content_in(path.name, file, path.stat().st_size)


def content_in(name: str, file: IO[bytes], size: int) -> Known:
    """What a file of this name and of so many bytes is, from its beginning on. Raises OSError."""
    named, head = by_name(name), file.read(HEAD)
    if named is None:
        file.seek(0)
        return by_bytes(file, size)
    is_raw = named.content is Content.FOREIGN and head.startswith(TIFF)
    return named if is_raw else by_head(head) or named


def by_bytes(file: IO[bytes], size: int, depth: int = MOST_NESTED) -> Known:
    """What a file of so many bytes holds, from its beginning on; `depth` archives in it are opened. Raises OSError."""
    head = file.read(HEAD)
    if known := by_head(head):
        return known
    if head.startswith((b"BM", b"P")) and _opens(head):
        return Known(Content.PICTURE)
    if format_ := _foreign_otherwise(head):
        return Known(Content.FOREIGN, format_)
    if _is_tga(head, size) or (head and size > TGA_HEADER and file.seek(-len(TGA_FOOTER), 2) and _ends_as_tga(file)):
        return Known(Content.PICTURE)
    if head.startswith(b"PK\x03\x04") or (head.startswith(PROGRAMS) and zipfile.is_zipfile(file)):
        return Known(_in_zip(file, depth))
    for start, unpack in UNPACKED.items():
        if head.startswith(start):
            return Known(_in_packed(file, unpack, depth))
    closed = head.startswith((*CLOSED_ARCHIVES, POINTER)) or head[16:20] == LMDB or is_array_file(head, file, size)
    return Known(Content.CLOSED if closed else Content.OTHER)


def by_head(head: bytes) -> Known | None:
    """What the first bytes of a file say beyond doubt; None if that is nothing."""
    if head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return Known(Content.PICTURE)
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4]), HEAD), 4))}
        if brands & AVIF_BRANDS:
            return Known(Content.PICTURE)
        return Known(Content.FOREIGN, "HEIF") if brands & HEIF_BRANDS else None
    for start, name in FOREIGN_SIGNATURES.items():
        if head.startswith(start):
            return Known(Content.FOREIGN, name)
    if b"<svg" in head:
        return Known(Content.FOREIGN, "SVG")
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return Known(Content.TAR)
    return Known(Content.TABLE) if head.startswith(b"PAR1") else None


def _opens(head: bytes) -> bool:
    """Whether what begins as BMP or PPM, or as a text about a BMW, goes on as a picture."""
    from PIL import Image

    try:
        with Image.open(BytesIO(head), formats=("BMP", "PPM")) as image:
            return min(image.size) > 0
    except Exception:  # a decoder raises anything for what is no picture
        return False


def _is_tga(head: bytes, size: int) -> bool:
    """Whether a file without a mark is a TGA picture that was not compressed: its header gives its size."""
    if len(head) < TGA_HEADER or head[1] > 1 or head[2] not in {1, 2, 3} or head[16] not in {8, 16, 24, 32}:
        return False
    width, height = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    colours = int.from_bytes(head[5:7], "little") * ((head[7] + 7) // 8) if head[1] else 0
    return width * height > 0 and size == TGA_HEADER + head[0] + colours + width * height * ((head[16] + 7) // 8)


def _ends_as_tga(file: IO[bytes]) -> bool:
    return file.read() == TGA_FOOTER


def _is_old_tar(head: bytes) -> bool:
    """Whether a file without a mark begins with a header of a tar, which has a sum of its own bytes."""
    try:
        return len(head) == tarfile.BLOCKSIZE and bool(tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").name)
    except tarfile.HeaderError:
        return False


def _foreign_otherwise(head: bytes) -> str:
    """The name of a format that is not read and that more than the first bytes tell; or nothing."""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head.startswith(b"#define ") and b"_width " in head[:200]:
        return "XBM"
    if head[:4] == b"FORM" and head[8:12] in {b"ILBM", b"PBM "}:
        return "ILBM"
    if head[40:44] == b" EMF":
        return "EMF"
    is_icon = head[:4] in {b"\0\0\1\0", b"\0\0\2\0"} and 0 < int.from_bytes(head[4:6], "little") < 256
    if is_icon and head[9:10] == b"\0" and int.from_bytes(head[18:22], "little") >= 22:
        return "ICO"
    is_pcx = len(head) > 127 and head[0] == 10 and head[1] in {0, 2, 3, 4, 5} and head[2] < 2
    return "PCX" if is_pcx and head[3] in {1, 2, 4, 8} and head[64] == 0 else ""


def _in_zip(file: IO[bytes], depth: int) -> Content:
    """What a zip is, by what its members are."""
    held = Content.OTHER
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir() and not is_hidden(info.filename):
                    held = _more(held, _member(archive, info, depth))
                    if held is Content.PACKED:
                        break
    # zipfile raises any of these for archives that are broken, encrypted, or packed in a way that it does not know
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return Content.CLOSED  # broken, or kept from us
    return held


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, depth: int) -> Content:
    named = by_name(info.filename)
    if named and named.content is not Content.CLOSED:  # it may be kept from us
        return named.content
    with archive.open(info) as member:
        head = member.read(HEAD)
        if head.startswith(NUMPY) or info.filename.lower().endswith(".npy"):  # sd-scripts keeps latents so
            return Content.CLOSED if may_be_pictures(head) else Content.OTHER
        known = by_head(head) or named
        if known is not None or not head:
            return known.content if known else Content.OTHER
        return _unpacked(head + member.read(MOST_UNPACKED), depth)


def _in_packed(file: IO[bytes], unpack: Callable[..., Any], depth: int) -> Content:
    """What a single packed file is, by what it unpacks to."""
    file.seek(0)
    try:
        with unpack(file) as inside:
            head = inside.read(HEAD)
            known = by_head(head)
            held = known.content if known else _unpacked(head + inside.read(MOST_UNPACKED), depth)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):  # cut off, or only begins as if it were packed
        return Content.CLOSED
    return _more(Content.OTHER, held)


def _unpacked(data: bytes, depth: int) -> Content:
    """What a file in an archive is; where there are too many archives in each other, no one looks into them."""
    return by_bytes(BytesIO(data), len(data), depth - 1).content if depth else Content.CLOSED


def _more(held: Content, other: Content) -> Content:
    """What an archive is that was this and in which that was found."""
    if other in {Content.OTHER, Content.CLOSED}:
        return Content.CLOSED if Content.CLOSED in {held, other} else Content.OTHER
    return Content.PACKED
