"""A long list worked off by several processes into one JSONL file: shares, resume, merge, the highest lines.

Rank r of W takes prompts r, r + W, … into a file of its own; the rank that ends last puts them together. Holds one
batch of prompts at a time. Knows nothing of models: who scores a batch is given.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from pydantic import Field

from memfix.errors import ExitCode, MemfixError
from memfix.files import held, write_atomic
from memfix.inputs.prompts import PromptRow
from memfix.records import Record
from memfix.runs import to_line

SETTINGS, RESULT = "screen.json", "screens.jsonl"


class Screened(Record):
    """A line of `screens.jsonl`."""

    number: int = Field(description="place in the prompt list, from 1; a text that comes again is scored again")
    source: str = Field(description="file:line")
    text: str
    scores: dict[str, float]


class Share(NamedTuple):
    """Which prompts are this process's."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Share:
        """RANK of WORLD_SIZE, as torchrun and accelerate set them."""
        try:
            share = cls(int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1")))
        except ValueError:
            share = cls(-1)
        if not 0 <= share.rank < share.world:
            raise MemfixError(
                f"RANK {environ.get('RANK')} of WORLD_SIZE {environ.get('WORLD_SIZE')} is not a valid rank.",
                "Set RANK to a number from 0 to WORLD_SIZE - 1, or unset both.",
                ExitCode.USAGE,
            )
        return share

    @property
    def file_name(self) -> str:
        """Where this share's lines go; a process alone writes the result itself."""
        return RESULT if self.world == 1 else f"screens-{self.rank}-of-{self.world}.jsonl"

    def marker(self, folder: Path) -> Path:
        """A file that is there once the share is finished."""
        return folder / f".{self.file_name}.done"


class Prompt(NamedTuple):
    """A text of the list that is to be scored; `number` counts from 1."""

    number: int
    source: str
    text: str


@contextmanager
def open_folder(folder: Path, share: Share, settings: dict[str, Any]) -> Iterator[None]:
    """Keep a share of a folder to this process; refuse one begun with other settings, naming those that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, f".{share.file_name}.lock"):
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
        raise MemfixError(f"{file.parent} was started with other settings. {listed}.", "Give another folder to -o.")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a folder was begun with."""
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


def batches(rows: Iterator[PromptRow], name: str, share: Share, size: int) -> Iterator[list[Prompt]]:
    """This share of a list, in batches that are the same however far an earlier run came."""
    mine = islice(enumerate(rows, 1), share.rank, None, share.world)
    while batch := [Prompt(number, f"{name}:{row.line}", row.text) for number, row in islice(mine, size)]:
        yield batch


def screen_share(
    batched: Iterator[list[Prompt]], folder: Path, share: Share, score: Callable[[list[Prompt]], list[Screened]]
) -> Iterator[int]:
    """Append the lines of batches that are not there yet; yields how many lines there are, first those found.

    A batch that was cut off is done again as a whole: a resumed file has the bytes of one that was never interrupted.
    """
    file = folder / share.file_name
    share.marker(folder).unlink(missing_ok=True)  # of an earlier run, whose file may be gone
    file.touch()  # a rank may have no prompt at all
    found = count_lines(file)
    yield found
    before = 0
    for batch in batched:
        if before + len(batch) > found:
            cut(file, before)
            lines = score(batch)
            with file.open("ab") as out:
                out.write("".join(map(to_line, lines)).encode())
            found = before + len(batch)
            yield found
        before += len(batch)
    write_atomic(share.marker(folder), "")


def count_lines(file: Path) -> int:
    """Complete lines of a file, 0 where there is none."""
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        return sum(line.endswith(b"\n") for line in lines)


def cut(file: Path, lines: int) -> None:
    """Keep the first lines of a file only."""
    if file.exists():
        with file.open("r+b") as out:
            for _ in range(lines):
                out.readline()
            out.truncate(out.tell())


def merge(folder: Path) -> bool:
    """Put the shares of all ranks together in the order of the list; False while a rank is still at work."""
    world = int(read_settings(folder)["ranks"])
    shares = [Share(rank, world) for rank in range(world)]
    with FileLock(folder / ".merge.lock"):
        if world > 1 and (folder / RESULT).exists():
            return True
        if not all(share.marker(folder).exists() for share in shares):
            return False
        if world == 1:
            return True
        part = folder / f".{RESULT}.part"
        with ExitStack() as stack, part.open("wb") as out:
            files = [stack.enter_context((folder / share.file_name).open("rb")) for share in shares]
            for turn in zip_longest(*files, fillvalue=b""):
                out.writelines(turn)
        part.replace(folder / RESULT)
    return True


def highest(file: Path, screen: str, count: int) -> list[Screened]:
    """The lines with the highest scores, the highest first; holds no more than these in memory."""

    def lines() -> Iterator[Screened]:
        with file.open("rb") as text:
            for number, line in enumerate(text, 1):
                try:
                    yield Screened.model_validate_json(line)
                except ValueError as error:
                    raise MemfixError(
                        f"{file}:{number} is damaged: {str(error).splitlines()[0]}", "Delete the file and run again."
                    ) from None

    return heapq.nlargest(count, lines(), key=lambda line: line.scores[screen])
