"""Where the rows are in a JSON document: a list, columns, COCO's images and annotations, or an object by picture.

Knows nothing of files; `path` only names one in an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from memfix.errors import MemfixError
from memfix.inputs import columns
from memfix.inputs.contents import SUFFIXES

FIRST_ITEMS = 20
"""Items of a list that show what it is a list of."""

COCO_URLS = ("coco_url", "flickr_url", "url")
OWN_TEXTS = ("tags", "p")  # of kohya and of DiffusionDB, where a row is a picture's
KOHYA = {"caption", "tags", "train_resolution"}


def list_in(path: Path, data: Any) -> list[Any]:
    """The list itself, or the rows in an object.

    These are COCO's; else all lists of objects that have a text, or if there are none a URL or an image; else columns
    of one length, by name; else the object itself, if it holds one text; else what stands by picture; else the only
    list there is, if there is no object beside it. Raises MemfixError for anything else.
    """
    if isinstance(data, list):
        return data
    cells = {columns.normal(k): v for k, v in data.items()} if isinstance(data, dict) else {}
    lists = {name: cell for name, cell in cells.items() if isinstance(cell, list)}
    if (captions := _coco(path, lists)) is not None:
        return captions
    for wanted in (_has_text, _has_url, _is_known):
        fitting = [
            items
            for items in lists.values()
            if any(isinstance(item, dict) and wanted(_row(item)) for item in islice(items, FIRST_ITEMS))
        ]
        if fitting:
            return [*chain.from_iterable(fitting), *_pictures_beside(fitting, lists)]
    if any(isinstance(cells.get(name), str) for name in columns.TEXT):
        return [data]
    held = {name: _column(cell) for name, cell in cells.items() if columns.known(name)}
    if columns.TEXT_OR_URL & {name for name, column in held.items() if column is not None}:
        return _transposed(path, {name: column for name, column in held.items() if column is not None})
    if rows := _by_picture(data if isinstance(data, dict) else {}):
        return rows
    if len(lists) == 1 and not any(isinstance(cell, dict) for cell in cells.values()):
        return next(iter(lists.values()))
    raise MemfixError(f"{path} contains no list of prompts.", 'Write ["…", …], [{"text": "…"}, …] or {"prompts": […]}.')


def row_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """A row by normal names of columns, with its text where that is deeper in it."""
    cells = _row(item)
    sentences = cells.get("sentences")
    if isinstance(sentences, list) and all(isinstance(s, dict) and "raw" in s for s in sentences):  # Karpathy's splits
        name = "/".join(str(cells[part]) for part in ("filepath", "filename") if cells.get(part))
        kept = {n: cell for n, cell in cells.items() if n not in columns.IMAGE}
        return {**kept, columns.TEXT[0]: [s["raw"] for s in sentences], columns.PERHAPS: name}
    return dict(columns.unfolded(cells))


def _row(item: Mapping[Any, Any]) -> dict[str, Any]:
    return {columns.normal(name): cell for name, cell in item.items()}


def _has_text(cells: columns.Cells) -> bool:
    return any(name in columns.unfolded(cells) for name in columns.TEXT) or "sentences" in cells


def _has_url(cells: columns.Cells) -> bool:
    return any(name in cells for name in columns.URL) and not cells.keys() & {"name"}  # COCO's licences have both


def _is_known(cells: columns.Cells) -> bool:
    return any(columns.known(name) for name in cells)


def _pictures_beside(taken: list[list[Any]], lists: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The rows of other lists that name a picture, which have no text."""
    for items in lists.values():
        if not any(items is other for other in taken):
            for item in items:
                if isinstance(item, dict) and _row(item).keys() & {*columns.IMAGE}:
                    yield {columns.TEXT[0]: None, **item}


def _coco(path: Path, lists: Mapping[str, list[Any]]) -> list[dict[str, Any]] | None:
    """The captions of COCO, each with the picture and the URLs of its image, then the images without one.

    None if this is something else. Raises MemfixError where two images have one id.
    """
    images, annotations = lists.get("images"), lists.get("annotations")
    if images is None or annotations is None or not all(isinstance(i, dict) for i in (*images, *annotations)):
        return None
    if not any("caption" in a and "image_id" in a for a in islice(annotations, FIRST_ITEMS)):
        return None
    by_id = _by_id(path, images)
    rows, told = [], set[str]()
    for annotation in annotations:
        own = str(annotation.get("image_id"))
        told.add(own)
        image = by_id.get(own, {"file_name": f"of the image {own}"} if by_id else {})
        rows.append(_coco_row(image, annotation.get("caption")))
    return rows + [_coco_row(image, None) for image in images if str(image.get("id")) not in told]


def _by_id(path: Path, images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The images of COCO by their ids, which may be numbers in one list and texts in the other."""
    found: dict[str, dict[str, Any]] = {}
    for image in (image for image in images if "id" in image):
        first = found.setdefault(str(image["id"]), image)
        if first.get("file_name") != image.get("file_name"):
            names = f"{first.get('file_name')} and {image.get('file_name')}"
            raise MemfixError(f"{path} has two images of the id {image['id']}: {names}.", "Give each an id of its own.")
    return found


def _coco_row(image: Mapping[str, Any], caption: Any) -> dict[str, Any]:
    url = next((image[name] for name in COCO_URLS if image.get(name)), None)
    found = {columns.TEXT[0]: caption, columns.PERHAPS: image.get("file_name")}
    return found | ({columns.URL[0]: url} if url else {})


def _by_picture(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an object from picture to caption, to captions or to what else is known; nothing if it is none.

    An object from anything else to rows with a text, as pandas writes an index, is a list of these.
    """
    rows = []
    for key, value in data.items():
        is_picture = PurePosixPath(key.replace("\\", "/")).suffix.lower() in SUFFIXES
        named = is_picture or "/" in key or "\\" in key  # kohya leaves suffixes out, and folders if asked to
        if isinstance(value, dict):
            cells = _row(value)
            own = next((name for name in (*columns.TEXT, *OWN_TEXTS) if name in cells), None)
            if own is None or (own in OWN_TEXTS and not named):
                return []
            text = _with_tags(cells) if own == "caption" and (named or cells.keys() <= KOHYA) else cells[own]
            cells = {name: cell for name, cell in cells.items() if name != own} | {columns.TEXT[0]: text}
        elif is_picture and _is_text(value):
            cells = {columns.TEXT[0]: value}
        else:
            return []
        place = {columns.PERHAPS if named else columns.ROW_NAME: key}
        rows.append(cells if cells.keys() & {*columns.IMAGE} else cells | place)
    return rows


def _with_tags(cells: Mapping[str, Any]) -> Any:
    """A caption as sd-scripts trains on it: with the tags behind it."""
    caption, tags = cells["caption"], cells.get("tags")
    return f"{caption}, {tags}" if isinstance(caption, str) and caption and isinstance(tags, str) and tags else caption


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _column(cell: Any) -> list[Any] | None:
    """The cells of a column: a list, or an object from row to cell, as pandas writes it; None if it is neither."""
    cells = list(cell.values()) if isinstance(cell, dict) else cell
    is_column = isinstance(cells, list) and not any(isinstance(item, dict) for item in cells)
    return cells if is_column else None


def _transposed(path: Path, held: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Rows of columns. Raises MemfixError where these cannot belong together."""
    if len({len(column) for column in held.values()}) > 1:
        lengths = ", ".join(f"{len(column)} {name}" for name, column in held.items())
        raise MemfixError(f"{path} has columns of different lengths: {lengths}.", 'Write [{"text": "…"}, …].')
    return [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)]
