"""Files and folders that are whole or absent, folders that one process holds, hashes of contents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from stat import S_ISDIR
from typing import BinaryIO, NamedTuple

from filelock import FileLock, Timeout

from memfix.errors import MemfixError

CHUNK = 1 << 20
ANOTHER_FOLDER = "Wait until it ends, or give another folder to -o."
TEMPORARY = ".tmp"
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust tell of an error of the system: safetensors, filelock."""

NOT_WHOLE = re.compile(r"\d+ requested and \d+ written")
"""How NumPy tells of one, and not which."""

SIDE_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}
SIDE_FOLDERS = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Give an error of the system the name of a file: what fails in an open file does not know it."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:  # libraries wrap an error of the system in their own; any other is raised as it is
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = error.filename or str(path)
            raise
        if told := OS_ERROR.search(str(error)):
            raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error
        if NOT_WHOLE.search(str(error)):
            raise OSError(errno.EIO, "Not written to its end", str(path)) from error
        raise


def sha256(files: Iterable[Path]) -> str:
    """One hash over the contents of files, in order of their names; of a single file, what `sha256sum` prints."""
    total = hashlib.sha256()
    for path in sorted(files):
        with errors_of(path), path.open("rb") as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    return total.hexdigest()


def digest(*parts: str) -> str:
    """Eight hex digits that name a combination of inputs."""
    return digest_of_many(parts)


def digest_of_many(parts: Iterable[str]) -> str:
    """The same of parts that are too many to be held at once."""
    total = hashlib.sha256()
    for number, part in enumerate(parts):
        total.update(f"\0{part}".encode() if number else part.encode())
    return total.hexdigest()[:8]


def sha256_of(folder: Path, files: Iterable[Path]) -> str:
    """One hash over files of a folder, by name and content: that of two that change places is another one."""
    lines = (f"{sha256([path])} {path.relative_to(folder).as_posix()}\n" for path in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sort_metadata(file: Path) -> None:
    """Put the metadata of a safetensors file in order, in place: else equal weights have unequal files."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            opened.seek(8)
            opened.write(text.ljust(length))


class Found(NamedTuple):
    """A path below a folder, and why nothing can be read there, if so: a link to nowhere, a folder kept from us."""

    path: str
    problem: str = ""


def is_hidden(path: str) -> bool:
    """Whether a path below a folder is hidden, or is what systems and editors leave beside the files of people."""
    parts = PurePosixPath(path).parts
    return (
        any(part.startswith(".") and part not in {".", ".."} for part in parts)
        or any(part in SIDE_FOLDERS for part in parts)
        or bool(parts and parts[-1].lower() in SIDE_FILES)
    )


def files_below(folder: Path, again: bool = False) -> Iterator[Found]:
    """Every file below a folder, ordered by the parts of its name as it is printed. Links are followed.

    A folder is not entered from inside itself. A link to another part of `folder`, whose files are found there anyway
    and are not hidden there, is entered only to have them `again` under its name. Memory is that of the largest single
    folder.
    """
    root = folder.resolve()
    yield from _walk(str(root), "", None if again else root, ())


def _walk(root: str, path: str, once: Path | None, above: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    try:
        here = os.stat(f"{root}/{path}")  # noqa: PTH116  # a Path for each of a billion names is slow
        own = (here.st_dev, here.st_ino)
        if own in above:
            return
        with os.scandir(f"{root}/{path}") as entries:
            kept = (entry for entry in entries if once is None or not _is_found_anyway(once, path, entry))
            listed = sorted((printable(entry.name), entry.name, *_looked_at(entry)) for entry in kept)
    except OSError as error:
        yield Found(path.rstrip("/") or ".", _why(error))
        return
    for _, name, is_folder, problem in listed:
        if is_folder:
            yield from _walk(root, f"{path}{name}/", once, (*above, own))
        else:
            yield Found(f"{path}{name}", problem)


def _is_found_anyway(root: Path, path: str, entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to a folder in `root` whose files are no less hidden under the name of the link."""
    if not entry.is_symlink() or not Path(entry.path).is_dir():
        return False
    target = Path(entry.path).resolve()
    if not target.is_relative_to(root):
        return False
    return is_hidden(f"{path}{entry.name}") or not is_hidden(target.relative_to(root).as_posix())


def _looked_at(entry: os.DirEntry[str]) -> tuple[bool, str]:
    """Whether an entry is a folder, or a link to one, and why nothing can be read there."""
    if not entry.is_symlink():
        return entry.is_dir(), ""
    try:
        return S_ISDIR(Path(entry.path).stat().st_mode), ""
    except OSError as error:
        return False, _why(error)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def printable(name: str) -> str:
    """A name that can be printed and written, also where the file system holds bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def require_no_file(folder: Path) -> None:
    """Raise MemfixError where a folder to write to is a file, or lies in one."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise MemfixError(f"{path} is a file, not a folder.", "Give a folder to --out.")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name once the block has ended well and the bytes are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with errors_of(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text so that no reader, and no crash, ever sees half of it."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes its name, and the place of a folder that bears it, once the block has ended
    well and its files are on disk.

    One process at a time: what another one has left half done is removed.
    """
    beside = _beside(path)
    beside.mkdir(parents=True)
    try:
        with errors_of(path):
            yield beside
        mode = beside.stat().st_mode & 0o666  # as the umask says; safetensors writes files that only their owner reads
        for file in beside.rglob("*"):
            if file.is_file():
                file.chmod(mode)
                _to_disk(file)
        if path.exists():
            remove_folder(path)
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Take its name away first, so that half of a folder never bears the name of a whole one."""
    shutil.rmtree(path.rename(_beside(path.with_name(f"{path.name}.old"))))


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def tidy(folder: Path, apart: str) -> None:
    """Remove what interruptions left half done in a folder that is held, but for the part of it that others hold."""
    found = [left for left in folder.glob(f"**/.*{TEMPORARY}") if left.relative_to(folder).parts[0] != apart]
    for left in found:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def require_no_links(folder: Path) -> None:
    """Raise MemfixError where a folder holds a link: what is written or read there would lie somewhere else."""
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(here, name)).is_symlink():
                hint = "Put what it leads to in its place."
                raise MemfixError(f"{path} is a link, and may lead out of the run.", hint)


def _beside(path: Path) -> Path:
    """A hidden name that nothing bears any more; what an interruption left there is removed."""
    beside = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(beside, ignore_errors=True)
    return beside


def _to_disk(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def held(folder: Path, name: str = ".lock", hint: str = ANOTHER_FOLDER) -> Iterator[None]:
    """Keep every other process out of a folder, or out of the part of it that `name` stands for.

    Raises MemfixError, with the hint, where another process is in it.
    """
    lock = FileLock(folder / name, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MemfixError(f"{folder} is in use by another memfix process.", hint) from None
    except NotImplementedError:  # which filelock raises where the file system has no flock
        raise MemfixError(f"The file system of {folder} has no locks.", "Give a folder on another one to -o.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held_in_turn(folder: Path, name: str = ".lock") -> Iterator[None]:
    """As `held`, but wait until the folder is free: for what takes moments."""
    with FileLock(folder / name):
        yield
