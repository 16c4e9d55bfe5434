"""Prompts, wherever they stand: lines of text, any table in use, a training set with captions, or the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from memfix.demo import LISTS, list_path
from memfix.errors import ExitCode, MemfixError
from memfix.files import digest, sha256
from memfix.inputs import captions, columns, tables, tars
from memfix.inputs.contents import SUFFIXES, TAR, Content, content_of
from memfix.inputs.encoded import require_no_encoded
from memfix.inputs.folders import parts
from memfix.inputs.further import Further, further_pictures
from memfix.inputs.line_options import holds_options
from memfix.inputs.no_prompts import CONFLICT, NO_VALUES
from memfix.inputs.paths import OUTSIDE, as_path, existing, leads_out, names_something
from memfix.inputs.prompt_rows import PromptRow, with_pictures_of, without_place
from memfix.inputs.references import index_folder
from memfix.inputs.standard_input import DASH, STDIN
from memfix.inputs.tally import PassedOver, Tally, listed
from memfix.inputs.text_lists import odd_text, prompt_lines
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Role

HINT = f"One of these columns must hold the text: {', '.join(columns.TEXT)}; and one of these, if any, the images: " + (
    f"{', '.join((*columns.IMAGE[:4], *columns.URL[:2]))}."
)
COMMAND_LINE = "command line"
ID_DIGITS = 16  # so that no two texts of a list of a million share an id
NOT_THERE = "prompts whose picture is not there"
AS_TABLE = "lists under the name of a text file were read as tables"
KEPT_OPTIONS = "texts of a table that hold options of another tool, which stay"
ODD_CAPTION = "captions that hold what may be a comment, options or markup were taken whole, as a training takes them"
LIST_SUFFIXES = {*tables.SUFFIXES, *tables.NO_LISTS, *SUFFIXES, TAR, ".txt", ".text", ".list", ".lst", ".gz"}


def read_prompts(
    source: str, role: Role = Role.PROMPT, limit: int | None = None, wrong: WrongRows | None = None,
    tally: Tally | None = None, captions_from: str | None = None,
) -> list[Prompt]:  # fmt: skip
    """Read prompts; a text that comes again is read once, with the references and URLs of all its rows.

    `source` is whatever `rows_of` reads. With `limit`, reading ends at the first text beyond it. Raises MemfixError,
    naming file and line, for a missing, empty or malformed list; `wrong` says what becomes of single wrong rows,
    `tally` counts what was seen, and `captions_from` says whether names of pictures are captions (see `captions`).
    """
    wrong, tally = wrong or WrongRows(), tally or Tally()
    merged: dict[str, PromptRow] = {}
    with tally.wrong(wrong):
        for row in rows_of(source, wrong, tally, captions_from=captions_from):
            known = merged.get(row.text)
            if known is None and len(merged) == limit:
                break
            if known is None:
                tally.use()
            else:
                tally.pass_over(PassedOver.REPEATED, row.source)
            merged[row.text] = with_pictures_of(known, row) if known else row
    if not merged:
        counts = listed(tally.passed_over)
        left_out = f" that can be read; {wrong.first[0]}" if wrong.first else f": {counts}" if counts else ""
        raise MemfixError(
            f"{label(source)} contains no prompt{left_out}.",
            "Write one prompt per line, or give pictures with captions (a.txt beside a.png, or metadata.jsonl). If "
            "names of pictures were the captions of a training, give --captions-from.",
        )
    return [_prompt(row, role) for row in merged.values()]


def _prompt(row: PromptRow, role: Role) -> Prompt:
    """A row as a prompt; what it does not say is not given, since a record remembers what it was given."""
    more = {"references": row.references, "urls": row.urls, "ground_truth": row.ground_truth}
    said = {name: value for name, value in more.items() if value}
    return Prompt(id=id_of(row.text, role), text=row.text, role=role, source=row.source, **said)


def id_of(text: str, role: Role = Role.PROMPT) -> str:
    """The id of a prompt, which it has in every run, wherever in a list it stands: of its text alone."""
    prefix = "p" if role is Role.PROMPT else "c"
    return prefix + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:ID_DIGITS]


def rows_of(
    source: str, wrong: WrongRows, tally: Tally | None = None, images: bool = True, captions_from: str | None = None
) -> Iterator[PromptRow]:
    """Every text of a source in order, repeated ones too; without `images` nothing is read of a row but its texts.

    `source` is a bundled list by its name, a file (see `stream`), `-` for standard input, a folder of pictures with
    captions, or a prompt itself. Raises MemfixError, with what to do, for anything else.
    """
    tally = tally or Tally()
    if is_a_prompt(source):
        return iter([PromptRow(1, columns.clean(source), source=COMMAND_LINE)])
    path = as_path(source)
    if path.is_dir():
        return _in_folder(path, wrong, tally, images, captions_from)
    return stream(list_file(source), wrong, images, tally)


def is_a_prompt(source: str) -> bool:
    """Whether a word of the command line is a prompt: nothing is there under it, and it does not look like a path."""
    first, *more = source.split() or [""]
    looks_like_a_path = (
        not more or source.startswith((".", "~", "file:")) or "/" in first or "\\" in first
        or PurePosixPath(more[-1]).suffix.lower() in LIST_SUFFIXES
    )  # fmt: skip
    return not looks_like_a_path and not names_something(as_path(source))


def label(source: str) -> str:
    """What a source is called where it is told of."""
    if source == DASH:
        return str(STDIN)
    if is_a_prompt(source):
        return COMMAND_LINE
    return str(list_path(source) if source in LISTS and not Path(source).exists() else as_path(source))


def identity(source: str) -> str:
    """A hash of a list: of the bytes of a file, else of all its texts."""
    path = Path(label(source))
    if path.is_file() and path != STDIN and not is_a_prompt(source):
        return sha256([path])
    texts = (row.text for row in rows_of(source, WrongRows(skip=True), images=False))
    return digest(*texts)


def list_file(source: str) -> Path:
    """The file of a list: a bundled one by its name, standard input, a file, or the table of an imagefolder."""
    if source == DASH:
        return STDIN
    path = list_path(source) if source in LISTS and not Path(source).exists() else as_path(source)
    if path.is_dir():
        return _list_of(path)
    if not path.is_file():
        raise MemfixError(
            f"There is no prompt list {path}.",
            "Give a text file with one prompt per line, or one prompt of several words in quotes. A single word can be "
            f"piped in: echo WORD | memfix detect {DASH}",
            ExitCode.USAGE,
        )
    return path


def _list_of(folder: Path) -> Path:
    """The table of an imagefolder, its own or the one in a folder of it."""
    found = tables.metadata(folder) or tables.metadata_below(folder)
    if len(found) > 1:
        names = ", ".join(str(table) for table in found[:3])
        raise MemfixError(f"There are {len(found)} lists in the folder {folder}: {names}.", "Give one of them.")
    if not found:
        raise MemfixError(
            f"There is no list in the folder {folder}.", f"Put one of these there: {', '.join(tables.METADATA)}."
        )
    return found[0]


def stream(path: Path, wrong: WrongRows, images: bool = True, tally: Tally | None = None) -> Iterator[PromptRow]:
    """Every text of a file in order, repeated ones too; a row of several paraphrases gives one each.

    The file is lines of text, a table, or a tar of pictures with captions. Without `images` nothing is read of a row
    but its texts.
    """
    tally = tally or Tally()
    if path != STDIN and content_of(path).content is Content.TAR:
        yield from _in_tar(path, tally)
        return
    form = tables.form(path)
    if form is None:
        for number, text in prompt_lines(path, tables.first_lines(path), tables.lines(path, wrong), wrong, tally):
            yield from without_place(PromptRow(number, text, source=f"{path}:{number}"), tally)
        return
    if form is tables.Table.SEPARATED and path.suffix.lower() not in tables.SUFFIXES:
        tally.alter(AS_TABLE, str(path))
    if images and form is tables.Table.PARQUET:
        tables.count_unread(path, tables.held_in(path), tally)
    for number, cells in tables.rows(path, wrong):
        place = f"{path}:{number}"
        try:
            texts = _texts(cells)
            names, perhaps, urls = _pictures(path, cells) if images else ([], [], ())
            more = further_pictures(path, cells) if images else Further([], [])
        except columns.WrongCellError as error:
            wrong.add(place, str(error), HINT)
            continue
        if images and (name := columns.unread_text(cells) or more.unread):
            tally.alter(captions.UNREAD_COLUMN, f"column '{name}' ({place})")
        if any(holds_options(text) for text in texts):
            tally.alter(KEPT_OPTIONS, place)
        beside = [*perhaps, *more.pictures, *more.missing]
        files = [*_files(path, number, names, wrong, tally), *_perhaps(path, beside, place, tally)]
        references = tuple(dict.fromkeys(files))
        if not texts:
            tally.pass_over(PassedOver.UNCAPTIONED if references else PassedOver.EMPTY, place)
        for text in texts:
            row = PromptRow(number, text, references, urls, columns.ground_truth(cells), place)
            yield from without_place(row, tally)


def _texts(cells: columns.Cells) -> list[str]:
    """The texts of a row. Raises WrongCellError where one is what programs write for none."""
    texts = columns.texts(cells)
    if nothing := next((text for text in texts if text.lower() in NO_VALUES), None):
        raise columns.WrongCellError(f"says nothing in place of its prompt ({nothing})")
    if any(map(CONFLICT.match, texts)):
        raise columns.WrongCellError("is a mark of a merge conflict")
    return texts


def _pictures(path: Path, cells: columns.Cells) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Images that a row names, those that need not be there, and URLs. Tables under the name of a text file are
    published without their pictures. Raises WrongCellError where one cannot be read."""
    require_no_encoded(cells)
    names, urls = columns.images(cells), tuple(columns.urls(cells))
    published = path.suffix.lower() not in tables.SUFFIXES
    return (
        [] if published else names,
        [*columns.perhaps(cells), *(names if published else [])],
        urls,
    )


def _files(path: Path, number: int, names: Sequence[str], wrong: WrongRows, tally: Tally) -> Iterator[str]:
    """Those images of a row that are there."""
    for name in names:
        file = existing(path, name)
        if file is None:
            captions.missing(wrong, path, number, name)
            continue
        if leads_out(path, name, file):
            tally.alter(OUTSIDE, f"{file} ({path}:{number})")
        yield file


def _perhaps(path: Path, names: Sequence[str], place: str, tally: Tally) -> Iterator[str]:
    """Those of these images that are there; the others are counted."""
    for name in names:
        file = existing(path, name, near=True)
        if file is None:
            tally.alter(NOT_THERE, f"{name} ({place})")
            continue
        if leads_out(path, name, file):
            tally.alter(OUTSIDE, f"{file} ({place})")
        yield file


def _in_tar(path: Path, tally: Tally) -> Iterator[PromptRow]:
    for number, (name, address, texts) in enumerate(tars.members(path, tally), 1):
        if not texts:
            tally.pass_over(PassedOver.UNCAPTIONED, f"{path}:{name}")
        for text in texts:
            yield _as_trained(PromptRow(number, text, (address,), source=f"{path}:{name}"), tally)


def _in_folder(
    folder: Path, wrong: WrongRows, tally: Tally, images: bool, captions_from: str | None
) -> Iterator[PromptRow]:
    """The tables of imagefolders at any depth, then what is beside pictures, in tars, and in parquet tables."""
    if index_folder(str(folder)):
        raise MemfixError(
            f"{folder} is an index, which has no captions.", "Give the folder that it was made from, or a prompt list."
        )
    told, listed = set[str](), {*tables.metadata_below(folder)}
    for table in sorted(listed):
        for row in stream(table, wrong, images, tally):
            told.update(row.references)
            yield row
    for name, path, content in parts(folder, wrong, tally):
        if content is Content.PICTURE:
            if str(path.resolve()) not in told:
                texts = captions.beside(path, wrong, tally, captions_from)
                yield from _beside(path, name, texts, tally)
        elif content is Content.TAR:
            yield from _in_tar(path, tally)
        elif path not in listed and tables.has_texts(path):
            yield from stream(path, wrong, images, tally)
        else:
            held = tables.Held() if path in listed else tables.held_in(path)
            tables.count_unread(path, held, tally)
            inside = captions.named_images(path, WrongRows(skip=True)) if held.pictures and images else ()
            tally.pass_over(PassedOver.UNCAPTIONED, str(path), sum(1 for _ in inside))
            if not held.unread and not held.pictures:
                tally.pass_over(PassedOver.CAPTIONS, str(path))


def _beside(picture: Path, name: str, texts: Sequence[str], tally: Tally) -> Iterator[PromptRow]:
    """A picture of a folder with its captions."""
    if not texts:
        tally.pass_over(PassedOver.UNCAPTIONED, name)
    for text in texts:
        yield _as_trained(PromptRow(1, text, (str(picture.resolve()),), source=str(picture)), tally)


def _as_trained(row: PromptRow, tally: Tally) -> PromptRow:
    """The caption of a picture as it stands, which is what was trained on; what is odd in it is told."""
    if odd_text(row.text):
        tally.alter(ODD_CAPTION, row.source)
    return row
