"""A user's own wordings of memorized prompts, as others publish them, and which prompt each is a wording of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from memfix.errors import ExitCode, MemfixError
from memfix.inputs.prompts import stream
from memfix.inputs.wrong_rows import WrongRows


def read_paraphrases(source: str, wrong: WrongRows) -> list[list[str]]:
    """The texts of each row of a file, in any form that a prompt list may have; a line of text is a row of one.

    Raises MemfixError if there is no such file, or no text in it.
    """
    path = Path(source)
    if not path.is_file():
        raise MemfixError(
            f"There is no file of paraphrases {path}.",
            "Give a text file or a table to --paraphrases.",
            ExitCode.USAGE,
        )
    rows = groupby(stream(path, wrong, images=False), lambda row: row.line)
    found = [[row.text for row in own] for _, own in rows]
    if not found:
        raise MemfixError(f"{path} contains no text.", "Write one paraphrase per line.")
    return found


def by_prompt(rows: Sequence[Sequence[str]], prompts: Mapping[str, str]) -> dict[str, list[str]]:
    """Prompt id → its wordings, given prompt id → text; each text goes to one prompt, and none is left out.

    A row that names a prompt belongs to that one. Any other belongs to the prompt with which it shares the most words,
    for the words that they have together.
    """
    ids = {_plain(text): i for i, text in prompts.items()}
    words = {i: set(_plain(text).split()) for i, text in prompts.items()}
    found: dict[str, list[str]] = {i: [] for i in prompts}
    for row in rows:
        named = next((ids[_plain(text)] for text in row if _plain(text) in ids), None)
        own = set(_plain(row[0]).split())
        i = named or max(words, key=lambda i: len(own & words[i]) / max(1, len(own | words[i])))
        found[i] += [text for text in row if text != prompts[i] and text not in found[i]]
    return found


def _plain(text: str) -> str:
    """As two wordings are compared: without case and without marks at the ends of words."""
    return " ".join(word.strip(".,;:!?\"'()[]") for word in text.casefold().split())
