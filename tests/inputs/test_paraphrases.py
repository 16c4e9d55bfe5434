"""Which prompt each of the user's own wordings is one of."""

import json
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.paraphrases import by_prompt, read_paraphrases
from memfix.inputs.wrong_rows import WrongRows

PROMPTS = {"p1": "The No Limits Podcast", "p2": "a red fox by Ann", "p3": "fox"}


def test_lines_go_to_the_prompt_with_which_they_share_most(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Listen to the NO LIMITS podcast!\n\nAnn drew a fox\nfox\nnothing alike\n")
    rows = read_paraphrases(str(tmp_path / "own.txt"), WrongRows())
    found = by_prompt(rows, PROMPTS)
    assert found["p1"] == ["Listen to the NO LIMITS podcast!", "nothing alike"]  # none is left out
    assert found["p2"] == ["Ann drew a fox"]
    assert found["p3"] == []  # the prompt itself is no paraphrase of it


def test_a_row_that_names_a_prompt_belongs_to_it(tmp_path: Path) -> None:
    row = {"caption": "a red fox by Ann", "index": 3, "caption1": "fox", "caption2": "The No Limits Podcast, drawn"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"caption": "my fox"}) + "\n")
    found = by_prompt(read_paraphrases(str(tmp_path / "own.jsonl"), WrongRows()), PROMPTS)
    assert found == {"p1": [], "p2": ["fox", "The No Limits Podcast, drawn"], "p3": ["my fox"]}


def test_texts_without_a_word_belong_to_some_prompt_too() -> None:
    assert by_prompt([["!!!"], ["fox"]], {"p1": "???", "p2": "a fox"}) == {"p1": ["!!!"], "p2": ["fox"]}


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="no file of paraphrases"):
        read_paraphrases(str(tmp_path / "none.txt"), WrongRows())
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(MemfixError, match="contains no text"):
        read_paraphrases(str(tmp_path / "empty.txt"), WrongRows())
