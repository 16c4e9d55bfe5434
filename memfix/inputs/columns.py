"""The column names and cell forms in use for prompts, images and URLs. Knows nothing of files."""

from __future__ import annotations

import ast
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import pairwise
from typing import Any

TEXT = ("text", "prompt", "caption", "texts", "prompts", "captions")
IMAGE = (
    "file_name", "image", "image_path", "reference", "images", "references", "image_file", "img_file", "img_path",
    "file_path", "filepath", "filename", "path", "img",
)  # fmt: skip
FILE_NAMES = re.compile(r"(?:\w+_)?file_names?")
"""Columns of imagefolders with several images a row: input_file_name, file_names."""

URL = ("url", "urls", "image_url", "image_urls", "img_url", "retrieved_urls")
PERHAPS = "image if it is there"
"""Where this package puts images that a list names although people publish it without them: COCO, Flickr8k, kohya."""
ROW_NAME = "name of the row"
"""Where this package puts what a row of an object stands under: kohya's name of a picture, or anything else."""
IMAGE_NAME, COMMENT = "image_name", "comment"  # Flickr30k: the names of a picture and of its text
NUMBERS = ("comment_number", "id", "index", "seed")
BESIDE_TEXT = {
    IMAGE_NAME, *NUMBERS, "negative_prompt", "negative prompt", "name", "category", "label", "split", "steps", "width",
    "height", "cfg_scale", "cfg scale", "guidance_scale", "sampler", "score",
}  # fmt: skip
"""Names of columns that, beside a text, tell that a line names columns; nothing is read of these."""

OTHER_TEXT = re.compile(r"(?!neg)\w*(?:caption|prompt|alt_?text)(?:_\w+)?")
"""Names of columns with other texts than the one that is read."""

PARAPHRASES = ("paraphrases", "paraphrase", "rephrased")
TEXT_OR_URL = {*TEXT, *URL}
GROUND_TRUTH = ("overfit_type", "type")
HASH = ("sha256", "md5")
SAID = {*TEXT, *URL, *PARAPHRASES, *GROUND_TRUTH, *HASH}
"""Columns in which nothing is looked for but what they are called."""

PARAPHRASE_COLUMN = re.compile(r"(?:text|prompt|caption|paraphrase)[ _-]?(\d{1,6})")
RENAME = "Rename one of them."
PICTURE_ENDING = r"\.(?:png|jpe?g|jfif|webp|avif|jp2|bmp|gif|tiff?)(?:#\d+)?"
PICTURE_FILE = re.compile(rf"\S+{PICTURE_ENDING}", re.IGNORECASE)
"""The name of a picture, and the number of its caption as Flickr8k writes it: 1.jpg#0."""
ANOTHER_URL = re.compile(r"[\s,;|]+(?=[a-z][a-z0-9+.-]{1,9}://)", re.IGNORECASE)
"""What parts two URLs in one cell: a comma in a URL does not, unless another scheme follows it."""

Cells = Mapping[str, Any]


class WrongCellError(Exception):
    """A cell that holds something else than its column promises; the message goes on from 'file:line'."""


def normal(name: Any) -> str:
    """A column name as this module compares it."""
    return str(name).strip().lower()


def object_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises WrongCellError if it says two things under one name, as `normal` sees it."""
    found = dict(pairs)
    if twice := named_twice([normal(name) for name, _ in pairs]):
        first, *others = (cell for name, cell in pairs if normal(name) == twice)
        if any(other != first for other in others):
            raise WrongCellError(f"names the column '{twice}' twice")
    return found


def named_twice(names: Sequence[str]) -> str:
    """The first of these normal names that is there twice, and is read, or that of a picture; or nothing."""
    if len({*names}) == len(names):
        return ""
    return next((n for n in names if names.count(n) > 1 and (known(n) or PICTURE_FILE.fullmatch(n))), "")


def known(name: str) -> bool:
    """Whether a column, by its normal name, is one that this module reads."""
    return (
        name in {*TEXT, *IMAGE, *URL, *GROUND_TRUTH, *HASH, *PARAPHRASES, IMAGE_NAME}
        or PARAPHRASE_COLUMN.fullmatch(name) is not None
        or FILE_NAMES.fullmatch(name) is not None
    )


def unnamed(first: Sequence[str]) -> list[str]:
    """Names for the columns of a table whose first row names none: a text and a URL (CC3M) or a picture (Flickr8k).

    Of any other table nothing.
    """
    kinds = [
        URL[0] if is_url(cell.strip()) else PERHAPS if PICTURE_FILE.fullmatch(cell.strip()) else TEXT[0]
        for cell in first
    ]
    return kinds if len(kinds) == 2 and kinds.count(TEXT[0]) == 1 else []


def renamed(names: Sequence[str]) -> list[str]:
    """Names of columns as this module knows them, where a list has names of its own (Flickr30k)."""
    if {IMAGE_NAME, COMMENT} <= {*names}:
        return [{IMAGE_NAME: PERHAPS, COMMENT: TEXT[0]}.get(name, name) for name in names]
    return list(names)


def texts(cells: Cells, required: bool = True) -> list[str]:
    """The prompt of a row, then its paraphrases by number, then those in a list; none if the cells of text are empty.

    Raises WrongCellError if there must be one, and no column holds a text.
    """
    numbered = sorted((int(m[1]), name) for name in cells if (m := PARAPHRASE_COLUMN.fullmatch(name)))
    found = next((found for name in TEXT if (found := _texts(cells, name))), [])
    for name in (*(name for _, name in numbered), *PARAPHRASES):
        found = [*found, *_texts(cells, name)]
    if required and not found and not _is_empty(cells):
        raise WrongCellError("has no prompt text")
    return found


def _is_empty(cells: Cells) -> bool:
    """Whether a row has a column of text, and says nothing in it."""
    held = [cells[name] for name in TEXT if name in cells]
    return bool(held) and all(
        cell is None or cell != cell or (isinstance(cell, str | list) and not any(map(str.strip, map(str, cell))))
        for cell in held
    )


def _texts(cells: Cells, name: str) -> list[str]:
    """The texts in a cell: one, or a list, also one written as Python or JSON text; other brackets are text."""
    cell = cells.get(name)
    if isinstance(cell, str) and (text := cell.strip()).startswith("[") and text.endswith("]"):
        try:
            written = _literal(text)
        except _GluedError:
            raise WrongCellError(f"holds a list without commas in column '{name}'") from None
        if isinstance(written, list) and all(isinstance(item, str) for item in written):
            cell = written
    return [clean(t) for t in (cell if isinstance(cell, list) else [cell]) if isinstance(t, str) and t.strip()]


def clean(text: str) -> str:
    """A prompt on one line. Raises WrongCellError for half characters, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WrongCellError("holds half of a character (a lone surrogate)") from None
    return " ".join(text.split())


def images(cells: Cells) -> list[str]:
    """Paths of a row's images as written: those of the first column that holds any, and of all names of files."""
    first = next((paths for name in IMAGE if (paths := _local(cells, name))), [])
    more = (path for name in cells if FILE_NAMES.fullmatch(name) for path in _local(cells, name))
    return list(dict.fromkeys((*first, *more)))


def perhaps(cells: Cells) -> list[str]:
    """Paths of images that lists are published without."""
    return _local(cells, PERHAPS)


def further(cells: Cells) -> list[str]:
    """Paths in the columns of images behind the first one that holds any."""
    first = images(cells)
    return list(dict.fromkeys(p for name in (*IMAGE, IMAGE_NAME) for p in _if_any(cells, name) if p not in first))


def _if_any(cells: Cells, name: str) -> list[str]:
    """Paths in a cell that may as well hold something else."""
    try:
        return _local(cells, name)
    except WrongCellError:
        return []


def unread_text(cells: Cells) -> str:
    """The first column that seems to hold another text and is not read; or nothing."""
    first = next((name for name in TEXT if name in cells and _texts(cells, name)), "")
    said = {*texts(cells, required=False)}
    for name, cell in cells.items():
        if isinstance(cell, str) and name != first and cell.strip():
            is_text = name in TEXT or (not known(name) and OTHER_TEXT.fullmatch(name) and " " in cell.strip())
            if is_text and clean(cell) not in said:
                return name
    return ""


def written(cell: str) -> Any:
    """The list or the object that a text is in JSON or in Python; None if it is none."""
    text = cell.strip()
    if text[:1] + text[-1:] not in {"[]", "{}"}:
        return None
    try:
        found = _literal(text)
    except _GluedError:
        return None
    return found if isinstance(found, list | tuple | dict) else None


def unfolded(cells: Cells, depth: int = 2) -> Cells:
    """A row whose text is in a cell of a cell, as in {"meta": {"prompt": …}}, with that text; others as they are."""
    if depth == 0 or any(name in cells for name in TEXT):
        return cells
    for inner in cells.values():
        if isinstance(inner, Mapping):
            found = unfolded({normal(name): cell for name, cell in inner.items()}, depth - 1)
            if texts := {name: found[name] for name in TEXT if name in found}:
                return {**cells, **texts}
    return cells


def urls(cells: Cells) -> list[str]:
    """URLs of a row's images: every URL column, and what an image column holds of them."""
    found = [u for name in URL if name in cells for cell in as_list(cells[name], name) for u in split_urls(cell)]
    images = (cell for name in IMAGE if name in cells for cell in as_list(cells[name], name) if is_url(cell))
    return list(dict.fromkeys([*found, *(u for cell in images for u in split_urls(cell))]))


def split_urls(cell: str) -> list[str]:
    """The URLs in a cell, which commas, semicolons, bars or spaces may part."""
    found = ANOTHER_URL.split(cell)
    return [url.rstrip(" ,;|") for url in found] if len(found) > 1 else found


def ground_truth(cells: Cells) -> str:
    """What the list itself says of the prompt (MV, TV, RV, N; VM, TM), or nothing."""
    return next((c.strip() for name in GROUND_TRUTH if isinstance(c := cells.get(name), str)), "")


def is_url(text: str) -> bool:
    """Whether a cell names something to be fetched."""
    return text.lower().startswith(("http://", "https://"))


def as_list(cell: Any, name: str) -> list[str]:
    """The texts in a cell: one, or a list, also one written as Python or JSON text; an empty cell holds none.

    Raises WrongCellError, naming the column, for anything else.
    """
    if cell is None or (isinstance(cell, float) and cell != cell):  # NaN is how tables of numbers say 'empty'
        return []
    if isinstance(cell, str):
        text = cell.strip()
        bracketed = (text.startswith("[") and text.endswith("]")) or _is_path_cell(text)
        cell = _parse(text, name) if bracketed else [text]
    if isinstance(cell, Mapping):
        cell = [cell]
    if isinstance(cell, Sequence):
        cell = [item.get("path") if _has_a_path_alone(item) else item for item in cell]
    if not isinstance(cell, Sequence) or not all(item is None or isinstance(item, str) for item in cell):
        raise WrongCellError(f"holds neither text nor a list of texts in column '{name}'")
    return [item.strip() for item in cell if item and item.strip()]


def _is_path_cell(text: str) -> bool:
    """Whether a text is {bytes, path} as the datasets library writes it into CSV."""
    return text.startswith("{") and text.endswith("}") and "path" in text and "bytes" in text


def _has_a_path_alone(item: Any) -> bool:
    """Whether an item is a {bytes, path} that names a picture and does not hold it."""
    return isinstance(item, Mapping) and "path" in item and item.get("bytes") is None


def _local(cells: Cells, name: str) -> list[str]:
    return [p for p in as_list(cells[name], name) if not is_url(p)] if name in cells else []


def _parse(text: str, name: str) -> Any:
    try:
        found = _literal(text)
    except _GluedError:
        raise WrongCellError(f"holds a list without commas in column '{name}'") from None
    if found is None:
        raise WrongCellError(f"holds a list that cannot be read in column '{name}'")
    return found


class _GluedError(Exception):
    """Strings in a row without commas, as numpy prints them: Python would make one of them."""


def _literal(text: str) -> Any:
    """What a text says in JSON, else in Python; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(text)
        kinds = [t.type for t in tokenize.generate_tokens(StringIO(text).readline) if t.type != tokenize.NL]
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    if (tokenize.STRING, tokenize.STRING) in pairwise(kinds):
        raise _GluedError
    return found
