"""What reaches the terminal: long texts are cut, and no text hides anything or turns another around."""

import io
import json
import unicodedata

import pytest
from rich.console import Console

from memfix.console import THEME, UNSEEN, Talk, are, count_of, counted, emit, escape, shortened, visible


def talk(width: int) -> tuple[Talk, io.StringIO]:
    found, file = Talk(), io.StringIO()
    found.err = found.out = Console(file=file, width=width, theme=THEME, highlight=False)
    return found, file


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_long_prompt_takes_a_few_lines_of_a_table(width: int) -> None:
    voice, file = talk(width)
    prompt = " ".join(f"word{i}" for i in range(300))
    rows = [[prompt, "2/16", "0 % to 84 %", "0.125", "a-very-long-name-of-a-picture.png", "undecided"],
            ["short", "2/16", "0 % to 84 %", "0.125", "b.png", "memorized"]]  # fmt: skip
    voice.table("Verdicts", ["prompt", "copies", "share", "ssim", "reference", "verdict"], rows, text=(0, 4), cut=True)
    printed = file.getvalue()
    assert len(printed.splitlines()) <= 16
    assert "…" in printed and "word0" in printed and "0 % to 84 %" in printed and "short" in printed


def test_only_what_is_too_long_is_cut() -> None:
    assert shortened("a cat", 5) == "a cat"
    assert shortened("a big cat", 6) == "a big…"
    assert shortened("猫猫猫猫", 6) == "猫猫…"  # each takes two columns
    voice, file = talk(80)
    voice.table("list", ["name", "summary"], [["x", "word " * 60]], text=(1,))
    assert file.getvalue().count("word") == 60


def test_characters_that_hide_or_turn_are_shown() -> None:
    assert visible("a\u202egnp.exe") == "a\\u202egnp.exe"
    assert escape("a\u202e[b]\x1b[31m") == "a\\u202e\\[b]\N{REPLACEMENT CHARACTER}[31m"
    assert visible("tag\U000e0041") == "tag\\U000e0041"
    kept = "کتاب‌ها 👨‍👩‍👧 naïve ﷽"  # a non-joiner, joiners
    assert visible(kept) == kept
    every = {chr(code) for code in UNSEEN if unicodedata.category(chr(code)) != "Cn"}
    assert {unicodedata.category(c) for c in every} == {"Cf", "Zl", "Zp"}
    assert {c for c in map(chr, range(0x110000)) if unicodedata.bidirectional(c) in
            {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}} <= every  # fmt: skip


def test_counting() -> None:
    assert [count_of(1, 1, "prompt"), count_of(1, 4, "prompt")] == ["1 of 1 prompt", "1 of 4 prompts"]
    assert [counted(n, "URL") for n in (0, 1, 2, "no")] == ["0 URLs", "1 URL", "2 URLs", "no URLs"]
    assert [are(1), are(2), are(1, past=True), are(0, past=True)] == ["is", "are", "was", "were"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_on_stdout_is_whole_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    data, written = {"text": "“富士” → 🙂"}, io.BytesIO()
    out = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    emit(data)
    out.flush()
    assert json.loads(written.getvalue().decode(encoding)) == data
    assert (b"\\u" in written.getvalue()) is (encoding != "utf-8")


@pytest.mark.parametrize("width", [50, 80, 200])
def test_no_name_and_no_number_is_broken(width: int) -> None:
    voice, file = talk(width)
    rows = [["snail poster by Pavel Drozd", "1/4", "1 % to 81 %", "snail-poster-by-pavel-drozd.png", "memorized"]]
    voice.table("Verdicts", ["prompt", "copies", "share", "reference", "verdict"], rows, text=(0, 3))
    printed = file.getvalue()
    assert all(cell in printed for cell in rows[0][1:])
    assert all(column in printed for column in ("copies", "share", "reference", "verdict"))
    assert all(len(line.rstrip()) <= width for line in printed.splitlines())


def test_results_are_on_stdout_unless_json_is(capsys: pytest.CaptureFixture[str]) -> None:
    for data in (False, True):
        voice = Talk(data=data)
        voice.table("list", ["name"], [["siss"]])
        voice.tell("2 of 3")
        voice.say("Next: go on")
        said = capsys.readouterr()
        assert ("siss" in said.out, "2 of 3" in said.out, said.out == "") == (not data, not data, data)
        assert ("siss" in said.err) is data and "Next" in said.err


def test_a_remark_hides_no_bad_verdict_and_promises_no_good_one() -> None:
    file = io.StringIO()
    found = Talk()
    found.out = Console(file=file, width=80, theme=THEME, highlight=False, force_terminal=True, color_system="standard")
    words = ["memorized (verbatim)", "memorized", "mitigated (reworded)", "mitigated", "clean (by estimate)"]
    found.table("Verdicts", ["prompt", "verdict"], [["x", word] for word in words])
    lines = {word: line for line in file.getvalue().splitlines() for word in words if f"{word}\x1b" in line}
    assert set(lines) == {"memorized (verbatim)", "memorized", "mitigated"}  # the others end without a colour
    assert all("\x1b[1;31m" in lines[word] for word in ("memorized (verbatim)", "memorized"))
    assert "\x1b[1;32m" in lines["mitigated"]
