"""What other programs write into text files is no prompt: understood, refused by line, or told where it may be one."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.contents import Content, content_of
from memfix.inputs.no_prompts import NO_VALUES
from memfix.inputs.prompt_rows import WAS_TAKEN_OUT
from memfix.inputs.prompts import ODD_CAPTION, read_prompts
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.text_lists import CUT_OPTIONS, MARKS_TAKEN_OFF, PERHAPS_NONE, PERHAPS_OPTIONS
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture

TWO = ["an owl", "a fox"]


def write(folder: Path, text: str, name: str = "list.txt") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    "content",
    [
        "Prompt,Negative Prompt,Steps\nan owl,blurry,20\na fox,ugly,30\n",
        "Prompt;Seed;Steps\nan owl;1;20\na fox;2;20\n",
        "caption\tscore\nan owl\t0.3\na fox\t0.1\n",
        "| prompt | seed |\n|---|---|\n| an owl | 1 |\n| a fox | 2 |\n",
        '["an owl",\n"a fox"]\n',
        '["an owl", "a fox",\n"an owl"]\n',
        '{"prompts": [\n"an owl",\n"a fox"]}\n',
        "<!-- two animals -->\nan owl\n<!-- and -->\na fox\n",
        "/* two animals */\nan owl\na fox\n",
        "```text\nan owl\na fox\n```\n",
        "1.an owl\n2.a fox\n",
        "1- an owl\n2- a fox\n",
        "1)an owl\n2)a fox\n",
        "an owl —ar 16:9\na fox –steps 20\n",
        "an owl --neg blurry\na fox --negative ugly\n",
    ],
)
def test_forms_that_are_understood(tmp_path: Path, content: str) -> None:
    assert [p.text for p in read_prompts(write(tmp_path, content))] == TWO


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("text, logo, ink", "seems to name columns"),
        ("<!-- two", "a comment"),
        ("-- two", "a comment"),
        ("% two", "a comment"),
        ("/* two", "a comment"),
        ("*/", "a comment"),
        ("{# two #}", "a comment"),
        ('"""', "a comment, or a mark of code"),
        ("```python", "a mark of code"),
        ("[prompts]", "a section"),
        ("p1 = an owl", "a variable"),
        ("prompt_2: an owl", "a variable"),
        ("captions[3] = an owl", "a variable"),
        ("| an owl | 3 |", "Markdown"),
        ("<prompt>an owl</prompt>", "markup"),
        ("<li>an owl", "markup"),
        ("</ul>", "markup"),
        ("positive: an owl", "name of a column"),
        ("Negative: blurry", "name of a column"),
        ("Positive prompt: an owl", "name of a column"),
        ("an owl ### a bird", "a comment behind it"),
        ("an owl <!-- a bird -->", "a comment behind it"),
        ('"an owl",42', "a row of cells"),
        ('"an owl";"a bird"', "a row of cells"),
        ("{'prompt': 'an owl'}", "one of Python"),
        ('["an owl", "a bird"]', "one of Python"),
        ("a) an owl", "a list"),
        ("[ ] an owl", "a list"),
        ("[x] an owl", "a list"),
        ("> an owl", "a list"),
        ("[INFO] an owl", "a log"),
        ("WARNING: an owl", "a log"),
        ("2026-01-02 10:11:12 an owl", "a log"),
        ("<<<<<<< HEAD", "a merge conflict"),
        (">>>>>>> main", "a merge conflict"),
        ("||||||| base", "a merge conflict"),
        ("404: Not Found", "what a server says"),
        ("Entry not found", "what a server says"),
        ("00:00:01,000 --> 00:00:02,000", "subtitles"),
        ("WEBVTT", "subtitles"),
        ("an owl, 1.png", "names a picture"),
        ("an owl|1.png", "names a picture"),
        ("an owl -> 1.png", "names a picture"),
        ("1.png: an owl", "names a picture"),
        ("1.png=an owl", "names a picture"),
        ("('an owl', 0.3)", "one of Python"),
        ("('an owl',)", "one of Python"),
        ("b'an owl'", "Python"),
        ("www.example.com/owl", "a URL"),
        ("example.com/owl.html", "a URL"),
        ("data:image/png;base64,AAAA", "a URL"),
        ("file:///x/y", "a URL"),
        ("/data/img/003", "a path"),
        ("{{prompt}}", "a wildcard"),
        ("an owl, ${prompt}", "a wildcard"),
        ("%s", "a wildcard"),
        ("--- Set 1 ---", "a heading"),
        ("(* owls *)", "a comment"),
        ("@echo off", "a comment"),
        ("' owls", "a comment"),
        *((word, "says nothing") for word in ("nan", "None", "NULL", "N/A")),
    ],
)
def test_forms_that_are_refused_by_line(tmp_path: Path, line: str, problem: str) -> None:
    source = write(tmp_path, f"{line}\nan owl by a lake\na fox\n")
    with pytest.raises(MemfixError, match=rf"list\.txt:1 .*{problem}") as caught:
        read_prompts(source)
    assert caught.value.hint
    wrong = WrongRows(skip=True)
    assert [p.text for p in read_prompts(source, wrong=wrong)] == ["an owl by a lake", "a fox"] and wrong.count == 1


def test_front_matter_is_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"list\.txt:2 stands in the front matter"):
        read_prompts(write(tmp_path, "---\ntitle: animals\n---\nan owl\n"))
    assert len(read_prompts(write(tmp_path, "---\nan owl\n---\na fox\n"))) == 2  # rows that part others


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sentence\nan owl\n", PERHAPS_NONE),
        ("REM sleep\nan owl\n", PERHAPS_NONE),
        ("1 an owl\na fox\n", PERHAPS_NONE),
        ("1 owl\n2 foxes\n", PERHAPS_NONE),
        ("title: an owl\na fox\n", PERHAPS_NONE),
        ("E = mc2\nan owl\n", PERHAPS_NONE),
        ("an owl<br/>\na fox\n", PERHAPS_NONE),
        ("0,an owl\na fox\na hen\n", PERHAPS_NONE),
        ("an owl;0\na fox\na hen\n", PERHAPS_NONE),
        ("an owl, 1950\na fox, 1951\n", PERHAPS_NONE),
        ("[Set A]\nan owl\n", PERHAPS_NONE),
        ("an {animal}\nan owl\n", PERHAPS_NONE),
        ("an owl in {{ink}}\nan owl\n", PERHAPS_NONE),
        ("an owl --foo bar\na fox\n", PERHAPS_OPTIONS),
    ],
)
def test_what_may_be_a_prompt_stays_and_is_told(tmp_path: Path, content: str, told: str) -> None:
    tally = Tally()
    assert [p.text for p in read_prompts(write(tmp_path, content), tally=tally)] == content.splitlines()
    assert told in tally.altered and "list.txt:1" in tally.warnings()[0]


@pytest.mark.parametrize(
    "line",
    [
        "1 cat and 2 dogs", "<sks> dog", "<cat-toy> in a box", '"Starry Night", by a child', "rem, blue hair",
        "Title card, 1950s", "a cat > a dog", "100% wool", "None of them smile", "owl – ink", "[ink] owl", "INFO kiosk",
        "2 dogs — one is red", "1,000 owls", "a poster, 1950", "(masterpiece), owl", "(owl:1.2)", "404 owls in the sky",
        "and/or", "1.5 metres of snow", "A. Lincoln, oil", "3d render of an owl", "an <b>owl</b>",
    ],
)  # fmt: skip
def test_honest_prompts_are_left_in_peace(tmp_path: Path, line: str) -> None:
    tally = Tally()
    assert [p.text for p in read_prompts(write(tmp_path, f"an owl\n{line}\na fox\n"), tally=tally)][1] == line
    assert not tally.altered and not tally.passed_over


@pytest.mark.parametrize("nothing", sorted(NO_VALUES))
def test_cells_that_say_nothing_are_refused_by_line(tmp_path: Path, nothing: str) -> None:
    source = write(tmp_path, f"prompt,seed\nan owl,1\n{nothing.upper()},2\na fox,3\n", "list.csv")
    with pytest.raises(MemfixError, match=r"list\.csv:3 says nothing in place of its prompt"):
        read_prompts(source)
    tally = Tally()
    assert [p.text for p in read_prompts(source, wrong=WrongRows(skip=True), tally=tally)] == TWO
    assert tally.passed_over == {PassedOver.WRONG: 1}


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("{prompt}, anime, ink", "anime, ink"), ("anime, {prompt}, ink", "anime, ink"), ("anime, {prompt}", "anime"),
        ("cinematic {prompt} . film grain", "cinematic . film grain"), ("{prompt} . film grain", "film grain"),
        ("ink, <lora:a:1>", "ink"),
    ],
)  # fmt: skip
def test_a_style_leaves_no_marks_of_what_was_taken_out(tmp_path: Path, style: str, text: str) -> None:
    tally = Tally()
    source = write(tmp_path, f'name,prompt,negative_prompt\na,"{style}",blur\n', "styles.csv")
    assert [p.text for p in read_prompts(source, tally=tally)] == [text] and tally.altered == {WAS_TAKEN_OUT: 1}


@pytest.mark.parametrize(
    "caption", ["# note", "// note", "Negative prompt: bad", "an owl --n blurry --w 512", "{a|b}", '{"caption": "a"}',
                "https://example.org/a", "<p>an owl</p>"],
)  # fmt: skip
def test_odd_captions_are_taken_whole_and_told(tmp_path: Path, caption: str) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption)
    tally = Tally()
    assert [p.text for p in read_prompts(str(tmp_path), tally=tally)] == [caption]
    assert tally.altered == {ODD_CAPTION: 1} and "a.png" in tally.warnings()[0]


def test_marks_and_options_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    read_prompts(write(tmp_path, "1.an owl —ar 3:2\n2.a fox\n"), tally=tally)
    assert tally.altered == {MARKS_TAKEN_OFF: 2, CUT_OPTIONS: 1}


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.jsonl", "list.json", "list"])
def test_a_pointer_of_git_lfs_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """A clone without Git LFS has such a file in place of each that is kept there."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n"
    with pytest.raises(MemfixError, match=rf"{name} is a pointer of Git LFS") as caught:
        read_prompts(write(tmp_path, pointer, name), wrong=WrongRows(skip=True))
    assert "git lfs pull" in caught.value.hint
    assert content_of(tmp_path / "list" if name == "list" else Path(write(tmp_path, pointer, "a"))) == (
        Content.CLOSED, "",
    )  # fmt: skip


@pytest.mark.parametrize("line", ["<html>", "<!DOCTYPE html>", "<script>"])
def test_marks_of_a_web_page_are_refused_by_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(MemfixError, match=r"list\.txt:2 begins with markup"):
        read_prompts(write(tmp_path, f"an owl\n{line}\na fox\n"))


def test_subtitles_are_no_list(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"it ends in '\.srt'"):
        read_prompts(write(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\nan owl\n", "list.srt"))


@pytest.mark.parametrize(
    "content", ["0,an owl\n1,a fox\n2,a hen\n", "an owl;0\na fox;1\n", "an owl|0.5\na fox|1\n", "0|an owl\n1|a fox\n"]
)
def test_rows_of_cells_without_their_names_are_refused_by_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(MemfixError, match=r"list\.txt:1 is a row of cells without their names"):
        read_prompts(write(tmp_path, content))


def test_marks_of_a_merge_conflict_in_a_table_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"list\.csv:2 is a mark of a merge conflict"):
        read_prompts(write(tmp_path, "prompt\n<<<<<<< HEAD\nan owl\n=======\na fox\n>>>>>>> main\n", "list.csv"))


def test_a_place_for_a_text_alone_is_an_empty_row(tmp_path: Path) -> None:
    tally = Tally()
    found = read_prompts(write(tmp_path, "prompt,seed\n{{prompt}},1\nan owl,2\n", "list.csv"), tally=tally)
    assert [p.text for p in found] == ["an owl"] and tally.passed_over == {PassedOver.EMPTY: 1}
