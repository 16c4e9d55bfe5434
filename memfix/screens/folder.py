"""The folder of a list that several processes screen: what it was begun with, a file per rank, one result.

Rank r of W takes prompts r, r + W, … into a file of its own; the rank that ends last puts them together. Knows nothing
of models.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from memfix.errors import MemfixError
from memfix.files import atomic_file, held, held_in_turn, require_no_file, write_atomic
from memfix.screens.runner import Screened, read_scores
from memfix.world import World

SETTINGS, RESULT = "screen.json", "screens.jsonl"


@contextmanager
def open_folder(folder: Path, world: World, settings: dict[str, Any]) -> Iterator[None]:
    """Keep a rank's file to this process; refuse a folder begun with other settings, naming those that differ."""
    require_no_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, f".{world.file_name(RESULT)}.lock"):
        file = folder / SETTINGS
        if file.exists():
            _refuse_changes(file, settings)
        elif any(not p.name.startswith(".") for p in folder.iterdir()):
            raise MemfixError(f"{folder} is not empty and holds no scores of a screen.", "Give another folder to -o.")
        else:
            write_atomic(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        yield


def _refuse_changes(file: Path, settings: dict[str, Any]) -> None:
    old = read_settings(file.parent)
    new = json.loads(json.dumps(settings))
    differing = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if differing:
        listed = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing)
        raise MemfixError(f"{file.parent} was begun with other settings. {listed}.", "Give another folder to -o.")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a folder was begun with."""
    require_no_file(folder)
    file = folder / SETTINGS
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MemfixError(f"{folder} holds no scores of a screen.", "Start with 'memfix screen PROMPTS'.") from None
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise MemfixError(f"{file} is damaged.", "Give another folder to -o.")
    return settings


def fill(folder: Path, world: World, run: Callable[[Path], Iterator[int]]) -> Iterator[int]:
    """Have `run` fill the file of this rank, and mark it as whole behind that; yields what `run` does."""
    file, marker = folder / world.file_name(RESULT), _marker(folder, world)
    marker.unlink(missing_ok=True)  # of an earlier run, whose file may be gone
    file.touch()  # a rank may have no prompt at all
    yield from run(file)
    write_atomic(marker, "")


def _marker(folder: Path, world: World) -> Path:
    """A file that is there once that of a rank is whole."""
    return folder / f".{world.file_name(RESULT)}.done"


def merge_ranks(folder: Path) -> bool:
    """Put the files of all ranks together in the order of the list; False while a rank is still at work."""
    world = World(0, int(read_settings(folder)["ranks"]))
    with held_in_turn(folder, ".merge.lock"):
        if not world.alone and (folder / RESULT).exists():
            return True
        if not all(_marker(folder, rank).exists() for rank in world.ranks()):
            return False
        if not world.alone:
            with ExitStack() as stack:
                files = [stack.enter_context((folder / r.file_name(RESULT)).open("rb")) for r in world.ranks()]
                out = stack.enter_context(atomic_file(folder / RESULT))
                for turn in zip_longest(*files, fillvalue=b""):
                    out.writelines(turn)
    return True


def highest(file: Path, screen: str, count: int) -> list[Screened]:
    """The lines with the highest scores, the highest first; holds no more than these in memory."""
    return heapq.nlargest(count, read_scores(file), key=lambda line: line.scores[screen])
