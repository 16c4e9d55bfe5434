"""Reference images: a folder of training pictures, a table that names them, and those that prompts name themselves."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from memfix.demo import DEMO, REFERENCES
from memfix.errors import MemfixError
from memfix.inputs import tars
from memfix.inputs.captions import all_captions, missing, named_images
from memfix.inputs.contents import Content, content_of
from memfix.inputs.folders import parts, passed_over_as, required
from memfix.inputs.frames import NotOwn, frames_behind
from memfix.inputs.opening import open_first
from memfix.inputs.paths import OUTSIDE, as_path, existing, leads_out
from memfix.inputs.tables import Held, Table, count_unread, form, held_in, lines
from memfix.inputs.tally import PassedOver, Tally, listed
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Reference


def read_references(
    source: str | None, prompts: Iterable[Prompt], wrong: WrongRows | None = None, flag: str = "--references",
    taken: Container[str] = (), tally: Tally | None = None, captions_from: str | None = None,
) -> list[Reference]:  # fmt: skip
    """Every reference of a run, each once: those of `source`, then the prompts' own.

    `source` is a folder of images, tars and parquet tables with images (sorted by name; captions from the table of an
    imagefolder, or from beside each image), one of these, a table whose rows name one or several images, or a text file
    with a path a line. Pictures are known by their content, and none is decoded. Of an index, see `index_folder`, none
    is listed: it may hold too many. `wrong` says what becomes of wrong rows of a table, `flag` is what a hint names,
    `taken` holds the names in an index, which the prompts' own must not get, `tally` counts what was seen, and
    `captions_from` says whether names of pictures are captions (see `captions`). Raises MemfixError where `source`
    gives no reference. Without one, there may be none at all.
    """
    found: dict[str, Reference] = {}
    tally, wrong = tally or Tally(), wrong or WrongRows()
    if source is not None and index_folder(source) is None:
        root = REFERENCES if source == DEMO and not Path(source).exists() else as_path(source)
        with tally.wrong(wrong):
            for reference in _listed(root, wrong, flag, tally, captions_from):
                _take(found, reference, tally)
        if not found:
            raise _nothing_in(root, wrong, tally)
    names = {reference.file_name for reference in found.values()}
    for prompt in prompts:
        for path in prompt.references:
            if path not in found:
                name = _free_name(path, lambda name: name in names or name in taken)
                _take(found, Reference(file_name=name, path=path, text=prompt.text), tally)
                names.add(name)
    return list(found.values())


def _take(found: dict[str, Reference], reference: Reference, tally: Tally) -> None:
    """Take up a reference, unless it is there already."""
    if reference.path in found:
        tally.pass_over(PassedOver.AGAIN, reference.file_name)
        return
    found[reference.path] = reference
    tally.use()


def _nothing_in(root: Path, wrong: WrongRows, tally: Tally) -> MemfixError:
    """The error that a source gives no reference, with what is in it instead."""
    reasons = "; ".join(filter(None, [*wrong.first_pictures[:1], *wrong.first[:1], listed(tally.passed_over)]))
    return MemfixError(
        f"{root} contains no image{': ' if reasons else ''}{reasons}.",
        "Without any reference, samples could only be compared with each other: correct the path or the files, or "
        "leave the flag out.",
    )


def index_folder(source: str | None) -> Path | None:
    """The path itself if it is an index that `memfix index` has made, or is making."""
    path = as_path(source) if source is not None else None
    if path is None or not (path / "manifest.json").is_file():
        return None
    return path if (path / "segments").is_dir() or (path / "plan").is_dir() else None


def first_picture(source: str) -> str:
    """Something in a folder that is a picture or holds one, read or not; nothing where there is none, or no folder."""
    folder, tally, wrong = as_path(source), Tally(), WrongRows(skip=True)
    if not folder.is_dir():
        return ""
    for _, path, content in parts(folder, wrong, tally):
        of_table = content is Content.TABLE and _held(path, wrong).pictures
        inside = named_images(path, WrongRows(skip=True)) if of_table else ()
        if content is Content.PICTURE or any(True for _ in inside) or (content is Content.TAR and _any_in(path)):
            return str(path)
    return next(iter(wrong.first_pictures), "") or tally.first.get(PassedOver.FOREIGN, "")


def first_row_with_picture(source: str) -> str:
    """The first row of a table, as 'file:line', whose picture is there; nothing where there is none, or no table."""
    table = as_path(source)
    if not table.is_file() or not form(table):
        return ""
    named = named_images(table, WrongRows(skip=True))
    return next((f"{table}:{line}" for line, name, _ in named if existing(table, name, near=True)), "")


def _any_in(tar: Path) -> bool:
    """Whether a tar holds a picture, or may: it is broken."""
    try:
        return any(True for _ in tars.members(tar, Tally()))
    except MemfixError:
        return True


def _listed(root: Path, wrong: WrongRows, flag: str, tally: Tally, captions_from: str | None) -> Iterator[Reference]:
    """The references of a folder, or of a file by its content."""
    if not root.is_file():
        yield from _in_folder(required(root, flag), wrong, tally, captions_from)
        return
    try:
        known = content_of(root)
    except OSError as error:
        raise MemfixError(f"{root} cannot be read: {error.strerror}.", "Restore it, or correct its rights.") from None
    match known.content:
        case Content.TAR:
            yield from _in_tar(root, root.name, tally)
        case Content.PICTURE:
            yield Reference(file_name=root.name, path=str(root.resolve()))
        case Content.FOREIGN | Content.PACKED | Content.CLOSED:
            raise MemfixError(
                f"{root} is no source of references: {known.format or known.content}.",
                "Unpack an archive; convert pictures to PNG or JPEG.",
            )
        case _:
            if form(root) is Table.PARQUET:
                count_unread(root, held_in(root), tally)
            yield from _in_table(root, root.parent, wrong, tally)


def _in_folder(root: Path, wrong: WrongRows, tally: Tally, captions_from: str | None) -> Iterator[Reference]:
    found = list(parts(root, wrong, tally))
    held = {part.name: _held(part.path, wrong) for part in found if part.content is Content.TABLE}
    tables = {name for name in held if held[name].pictures}
    only_tables = all(part.content is Content.TABLE for part in found) and not tables  # which may name pictures
    pictures = [part.name for part in found if part.content is Content.PICTURE]
    texts = all_captions(root, pictures, wrong, tally, captions_from) if pictures else {}
    for name, path, content in found:
        of = held.get(name, Held())
        count_unread(path, of, tally)
        if content is Content.TAR:
            yield from _in_broken_tar(path, name, wrong, tally)
        elif content is Content.PICTURE:
            yield Reference(file_name=name, path=str(path.resolve()), text=texts.get(name, ""))
        elif only_tables or name in tables:
            yield from _in_table(path, root, wrong, tally)
        elif not of.unread:
            tally.pass_over(passed_over_as(name), str(path))


def _held(table: Path, wrong: WrongRows) -> Held:
    """What a parquet table of a folder has in it; one that is broken may have had pictures."""
    try:
        return held_in(table)
    except MemfixError as error:
        wrong.add_picture(str(table), *_why(error, table))
        return Held()


def _in_broken_tar(tar: Path, label: str, wrong: WrongRows, tally: Tally) -> Iterator[Reference]:
    """What can be read of one tar among many."""
    try:
        yield from _in_tar(tar, label, tally)
    except MemfixError as error:
        wrong.add_picture(str(tar), *_why(error, tar))


def _in_tar(tar: Path, label: str, tally: Tally) -> Iterator[Reference]:
    names = set[str]()
    for number, (name, address, texts) in enumerate(tars.members(tar, tally), 1):
        name = f"{label}/{name}" if name not in names else f"{label}/{number}-{name}"
        names.add(name.removeprefix(f"{label}/"))
        yield Reference(file_name=name, path=address, text=next(iter(texts), ""))


def _in_table(table: Path, root: Path, wrong: WrongRows, tally: Tally) -> Iterator[Reference]:
    root, names = root.resolve(), set[str]()
    named = named_images(table, wrong, tally) if form(table) else _lines(table, wrong)
    for line, name, text in named:
        path = existing(table, name, near=True)
        if path is None:
            missing(wrong, table, line, name)
            continue
        if leads_out(table, name, path):
            tally.alter(OUTSIDE, f"{path} ({table}:{line})")
        below = Path(path).is_relative_to(root)
        file_name = Path(path).relative_to(root).as_posix() if below else _free_name(path, names.__contains__)
        names.add(file_name)
        yield Reference(file_name=file_name, path=path, text=text)


def _lines(listed: Path, wrong: WrongRows) -> Iterator[tuple[int, str, str]]:
    """A picture a line, as `named_images` tells those of a table."""
    return ((number, text.strip(), "") for number, text in lines(listed, wrong) if text.strip())


def _free_name(path: str, taken: Callable[[str], bool]) -> str:
    """The shortest end of a path that names no other reference: a/1.jpg and b/1.jpg are two pictures."""
    parts = Path(path).parts
    ends = ("/".join(parts[-n:]) for n in range(1, len(parts) + 1))
    return next((end for end in ends if not taken(end)), path)


def opened(references: Iterable[Reference], wrong: WrongRows | None) -> Iterator[tuple[Reference, Image.Image]]:
    """Each reference with its picture, of several frames the first one. What cannot be read goes to `wrong`; without
    it, the first is an error."""
    return ((reference, image) for reference, image, _ in _opened(references, wrong))


def opened_with_frames(references: Sequence[Reference], wrong: WrongRows) -> Iterator[tuple[Reference, Image.Image]]:
    """The same, and behind a reference each further frame of its file that is a picture of its own, as one more
    reference `NAME#2`; `wrong` hears what became of all frames."""
    names = {reference.file_name for reference in references}
    for reference, image, further in _opened(references, wrong):
        yield reference, image
        for address, found in frames_behind(reference.path, image) if further else ():
            name = f"{reference.file_name}#{address.rpartition('#')[2]}"
            if isinstance(found, NotOwn) or name in names or Path(address).is_file():  # a file may be called so
                wrong.add_frame(reference.path, same=found is NotOwn.SAME)
                continue
            wrong.own_frames += 1
            yield reference.model_copy(update={"file_name": name, "path": address}), found


def _opened(references: Iterable[Reference], wrong: WrongRows | None) -> Iterator[tuple[Reference, Image.Image, int]]:
    """Each reference that can be read, its picture, and how many further frames its file has."""
    for reference in references:
        try:
            image, further = open_first(reference.path)
        except MemfixError as error:
            if wrong is None:
                raise
            wrong.add_picture(reference.path, *_why(error, reference.path))
            continue
        yield reference, image, further


def _why(error: MemfixError, path: str | Path) -> tuple[str, str]:
    """Problem and hint of an error about a file."""
    return error.message.removeprefix(f"{path} ").removesuffix("."), error.hint
