"""Reference images: a folder of training pictures, and those that prompts name themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from memfix.demo import DEMO, REFERENCES
from memfix.errors import MemfixError
from memfix.records import Prompt, Reference

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def read_references(folder: str | None, prompts: Iterable[Prompt]) -> list[Reference]:
    """Every reference of a run, each once: the folder's, sorted by name, then the prompts' own.

    Raises MemfixError when there is none.
    """
    found: dict[str, Reference] = {}
    if folder is not None:
        root = REFERENCES if folder == DEMO and not Path(folder).exists() else Path(folder)
        if not root.is_dir():
            raise MemfixError(f"There is no folder of references {root}.", "Give a folder of images to --references.")
        texts = _captions(root)
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                name = path.relative_to(root).as_posix()
                found[str(path.resolve())] = Reference(
                    file_name=name, path=str(path.resolve()), text=texts.get(name, "")
                )
        if not found:
            raise MemfixError(f"{root} holds no image.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    for prompt in prompts:
        for name in prompt.references:
            found.setdefault(name, Reference(file_name=Path(name).name, path=name, text=prompt.text))
    if not found:
        raise MemfixError(
            "There is no reference image to compare with.",
            "Give --references DIR, or name an image beside each prompt (column file_name).",
        )
    return list(found.values())


def _captions(root: Path) -> dict[str, str]:
    path = root / "metadata.jsonl"
    if not path.is_file():
        return {}
    captions = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            captions[str(row["file_name"])] = str(row.get("text", ""))
        except (ValueError, KeyError, TypeError):
            raise MemfixError(
                f"{path}:{number} is not an imagefolder line.", 'Write {"file_name": …, "text": …}.'
            ) from None
    return captions


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture as RGB, transparent parts on white. Raises MemfixError, naming the file."""
    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                page = Image.new("RGBA", image.size, "white")
                page.alpha_composite(image.convert("RGBA"))
                return page.convert("RGB")
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MemfixError(
            f"{path} cannot be read as a picture: {type(error).__name__}.", "Replace the file, or take it out."
        ) from None
