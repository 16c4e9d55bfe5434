"""Reference images: a folder of training pictures, a table that names them, and those that prompts name themselves."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from memfix.demo import DEMO, REFERENCES
from memfix.errors import MemfixError
from memfix.inputs import columns, tables, tars
from memfix.inputs.tables import existing
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Reference

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}

TAR = ".tar"


def read_references(source: str | None, prompts: Iterable[Prompt], wrong: WrongRows | None = None) -> list[Reference]:
    """Every reference of a run, each once: those of `source`, then the prompts' own.

    `source` is a folder of images and tars (sorted by name; captions from the table of an imagefolder), one webdataset
    tar, or a table whose rows name one or several images; no picture is opened. `wrong` says what becomes of wrong rows
    of a table. Raises MemfixError when there is no reference.
    """
    found: dict[str, Reference] = {}
    if source is not None:
        root = REFERENCES if source == DEMO and not Path(source).exists() else Path(source)
        wrong = wrong or WrongRows()
        if root.suffix.lower() == TAR and root.is_file():
            listed = _in_tar(root, root.name)
        else:
            listed = _in_table(root, wrong) if root.is_file() else _in_folder(root, wrong)
        for reference in listed:
            found.setdefault(reference.path, reference)
    names = {reference.file_name for reference in found.values()}
    for prompt in prompts:
        for path in prompt.references:
            if path not in found:
                found[path] = Reference(file_name=_free_name(path, names), path=path, text=prompt.text)
                names.add(found[path].file_name)
    if not found:
        raise MemfixError(
            "There is no reference image to compare with.",
            "Give --references DIR, or name an image beside each prompt (column file_name).",
        )
    return list(found.values())


def _in_folder(root: Path, wrong: WrongRows) -> Iterator[Reference]:
    if not root.is_dir():
        raise MemfixError(f"There is no folder of references {root}.", "Give a folder of images to --references.")
    table = tables.metadata(root)
    captions = {name: text for _, name, text in _named_images(table, wrong)} if table else {}
    known = {*SUFFIXES, TAR}
    images = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in known and path.is_file()]
    if not images:
        raise MemfixError(f"{root} holds no image.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    for path in images:
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() == TAR:
            yield from _in_tar(path, name)
        else:
            yield Reference(file_name=name, path=str(path.resolve()), text=captions.get(name, ""))


def _in_tar(tar: Path, label: str) -> Iterator[Reference]:
    names = set[str]()
    for number, (name, address, text) in enumerate(tars.members(tar, SUFFIXES), 1):
        name = f"{label}/{name}" if name not in names else f"{label}/{number}-{name}"
        names.add(name.removeprefix(f"{label}/"))
        yield Reference(file_name=name, path=address, text=text)


def _in_table(table: Path, wrong: WrongRows) -> Iterator[Reference]:
    root, names = table.parent.resolve(), set[str]()
    for line, name, text in _named_images(table, wrong):
        path = existing(table, name)
        if path is None:
            wrong.add(f"{table}:{line}:", f"there is no reference image {name}", "Correct or drop the path.")
            continue
        inside = Path(path).is_relative_to(root)
        file_name = Path(path).relative_to(root).as_posix() if inside else _free_name(path, names)
        names.add(file_name)
        yield Reference(file_name=file_name, path=path, text=text)


def _named_images(table: Path, wrong: WrongRows) -> Iterator[tuple[int, str, str]]:
    """Line, image as written, and caption, for every image that a table names."""
    for line, cells in tables.rows(table, wrong):
        try:
            names, text = columns.images(cells), next(iter(columns.texts(cells, required=False)), "")
        except columns.WrongCellError as error:
            wrong.add(f"{table}:{line}", str(error), f"See the columns {', '.join(columns.IMAGE[:4])}.")
            continue
        if not names:
            urls = " but URLs; 'memfix fetch' makes files of them" if columns.urls(cells) else ""
            wrong.add(f"{table}:{line}", f"names no image file{urls}", f"Name it in a column {columns.IMAGE[0]}.")
        for name in names:
            yield line, name, text


def _free_name(path: str, taken: Container[str]) -> str:
    """The shortest end of a path that names no other reference: a/1.jpg and b/1.jpg are two pictures."""
    parts = Path(path).parts
    ends = ("/".join(parts[-n:]) for n in range(1, len(parts) + 1))
    return next((end for end in ends if end not in taken), path)


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture, a file or in a tar, as RGB, transparent parts on white. Raises MemfixError, naming the file."""
    try:
        inside = tars.read(str(path))
        with Image.open(path if inside is None else BytesIO(inside)) as image:
            if image.has_transparency_data:
                page = Image.new("RGBA", image.size, "white")
                page.alpha_composite(image.convert("RGBA"))
                return page.convert("RGB")
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MemfixError(
            f"{path} cannot be read as a picture: {type(error).__name__}.", "Replace the file, or take it out."
        ) from None
