"""Reference images: a folder of training pictures, a table that names them, and those that prompts name themselves."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from io import BytesIO
from pathlib import Path, PurePath

from PIL import Image

from memfix.demo import DEMO, REFERENCES
from memfix.errors import MemfixError
from memfix.files import Found, files_below
from memfix.inputs import inside, tars
from memfix.inputs.captions import all_captions, missing, named_images
from memfix.inputs.decoding import BROKEN, as_rgb
from memfix.inputs.tables import existing
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Reference

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}

TAR, PARQUET = ".tar", ".parquet"


def read_references(
    source: str | None, prompts: Iterable[Prompt], wrong: WrongRows | None = None, flag: str = "--references",
    taken: Container[str] = (),
) -> list[Reference]:  # fmt: skip
    """Every reference of a run, each once: those of `source`, then the prompts' own.

    `source` is a folder of images and tars (sorted by name; captions from the table of an imagefolder), one webdataset
    tar, or a table whose rows name one or several images; parquet may hold them, also several such files in a folder
    without images. No picture is opened. Of an index, see `index_folder`, none is listed: it may hold too many. `wrong`
    says what becomes of wrong rows of a table, `flag` is what a hint names, `taken` holds the names in an index, which
    the prompts' own must not get. There may be none at all.
    """
    found: dict[str, Reference] = {}
    if source is not None and index_folder(source) is None:
        root = REFERENCES if source == DEMO and not Path(source).exists() else Path(source)
        wrong = wrong or WrongRows()
        if root.suffix.lower() == TAR and root.is_file():
            listed = _in_tar(root, root.name)
        else:
            listed = _in_table(root, root.parent, wrong) if root.is_file() else _in_folder(root, wrong, flag)
        for reference in listed:
            found.setdefault(reference.path, reference)
    names = {reference.file_name for reference in found.values()}
    for prompt in prompts:
        for path in prompt.references:
            if path not in found:
                name = _free_name(path, lambda name: name in names or name in taken)
                found[path] = Reference(file_name=name, path=path, text=prompt.text)
                names.add(name)
    return list(found.values())


def index_folder(source: str | None) -> Path | None:
    """The path itself if it is an index that `memfix index` has made, or is making."""
    path = Path(source) if source is not None else None
    if path is None or not (path / "manifest.json").is_file():
        return None
    return path if (path / "segments").is_dir() or (path / "plan").is_dir() else None


def _in_folder(root: Path, wrong: WrongRows, flag: str) -> Iterator[Reference]:
    if not root.is_dir():
        raise MemfixError(f"There is no folder of images at {root}.", f"Give a folder of images to {flag}.")
    files = list(_files(root, wrong))
    images = [path for path in files if path.suffix.lower() in {*SUFFIXES, TAR}]
    if not images and (parquet := [path for path in files if path.suffix.lower() == PARQUET]):
        for table in parquet:
            yield from _in_table(table, root, wrong)
        return
    if not images:
        raise MemfixError(f"{root} contains no image.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    named = [(path.relative_to(root).as_posix(), path) for path in images]
    texts = all_captions(root, (name for name, path in named if path.suffix.lower() != TAR), wrong)
    for name, path in named:
        if path.suffix.lower() == TAR:
            yield from _in_broken_tar(path, name, wrong)
        else:
            yield Reference(file_name=name, path=str(path.resolve()), text=texts.get(name, ""))


def _files(root: Path, wrong: WrongRows) -> Iterator[Path]:
    """Pictures, and what may hold some, in a folder; what cannot be entered or opened may have been one."""
    for found in files_below(root):
        path = root / found.path
        if is_missing(found):
            wrong.add_picture(str(path), f"cannot be read: {found.problem}", "Restore what is there, or remove it.")
        elif path.suffix.lower() in {*SUFFIXES, TAR, PARQUET} and path.is_file():
            yield path


def is_missing(found: Found) -> bool:
    """Whether what cannot be read may have been pictures; hidden links to nowhere are locks of editors."""
    if not found.problem:
        return False
    path = PurePath(found.path)
    return path.suffix.lower() in {*SUFFIXES, TAR} or not path.name.startswith(".#")


def _in_broken_tar(tar: Path, label: str, wrong: WrongRows) -> Iterator[Reference]:
    """What can be read of one tar among many."""
    try:
        yield from _in_tar(tar, label)
    except MemfixError as error:
        wrong.add_picture(str(tar), *_why(error, tar))


def _in_tar(tar: Path, label: str) -> Iterator[Reference]:
    names = set[str]()
    for number, (name, address, text) in enumerate(tars.members(tar, SUFFIXES), 1):
        name = f"{label}/{name}" if name not in names else f"{label}/{number}-{name}"
        names.add(name.removeprefix(f"{label}/"))
        yield Reference(file_name=name, path=address, text=text)


def _in_table(table: Path, root: Path, wrong: WrongRows) -> Iterator[Reference]:
    root, names = root.resolve(), set[str]()
    for line, name, text in named_images(table, wrong):
        path = existing(table, name)
        if path is None:
            missing(wrong, table, line, name)
            continue
        below = Path(path).is_relative_to(root)
        file_name = Path(path).relative_to(root).as_posix() if below else _free_name(path, names.__contains__)
        names.add(file_name)
        yield Reference(file_name=file_name, path=path, text=text)


def _free_name(path: str, taken: Callable[[str], bool]) -> str:
    """The shortest end of a path that names no other reference: a/1.jpg and b/1.jpg are two pictures."""
    parts = Path(path).parts
    ends = ("/".join(parts[-n:]) for n in range(1, len(parts) + 1))
    return next((end for end in ends if not taken(end)), path)


def opened(references: Iterable[Reference], wrong: WrongRows | None) -> Iterator[tuple[Reference, Image.Image]]:
    """Each reference with its picture. What cannot be read goes to `wrong`; without it, that is an error."""
    for reference in references:
        try:
            image = open_image(reference.path)
        except MemfixError as error:
            if wrong is None:
                raise
            wrong.add_picture(reference.path, *_why(error, reference.path))
            continue
        yield reference, image


def _why(error: MemfixError, path: str | Path) -> tuple[str, str]:
    """Problem and hint of an error about a file."""
    return error.message.removeprefix(f"{path} ").removesuffix("."), error.hint


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture, a file or in one, as training sees it: see `as_rgb`. Raises MemfixError, naming the file."""
    try:
        held = inside.read(str(path))
        with Image.open(path if held is None else BytesIO(held)) as image:
            return as_rgb(image)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise MemfixError(
            f"{path} cannot be read as a picture: {type(error).__name__}.", "Replace the file, or remove it."
        ) from None
