"""Text files of prompts: comments, options and tables of other tools are understood, or refused by line."""

import json
import time
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.line_options import without_options
from memfix.inputs.no_prompts import WrongLineError
from memfix.inputs.prompt_rows import WAS_TAKEN_OUT
from memfix.inputs.prompts import AS_TABLE, NOT_THERE, read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.text_lists import CUT_OPTIONS, MARKS_TAKEN_OFF, Form, form_of
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture


def write(folder: Path, text: str, name: str = "p.txt") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


OPTIONS = [
    ("a girl, solo --w 1024 --d 42 --s 28 --l 5 --ss euler_a --n lowres, bad anatomy", "a girl, solo"),
    ("TOK, a portrait --w 1024 --d 42 --s 30 --l 4.0 --fs 2.2 --n blurry", "TOK, a portrait"),
    ("a cat on a chair --w 1024 --h 1024 --d 42 --cn images/canny_a.png --am 0.8", "a cat on a chair"),
    ("a grey owl, ink --n blurry, bad hands --w 512 --h 768 --d 1 --l 7.5 --s 28", "a grey owl, ink"),
    ("a grey owl --n bad", "a grey owl"),
    ('--prompt "a grey owl" --negative_prompt "blur" --steps 20', "a grey owl"),
    ("--prompt 'a grey owl' --steps 20", "a grey owl"),
    ("--prompt a grey owl --cfg_scale 7", "a grey owl"),
    ('--steps 20 --prompt "an \\"old\\" owl"', 'an "old" owl'),
    ("a grey owl -s50 -W512 -H512 -C7.5 -A k_lms", "a grey owl"),
    ("a grey owl -n4 -S1234", "a grey owl"),
    ("a grey owl --ar 16:9 --v 5.2 --no text", "a grey owl"),
    ("a grey owl --tile", "a grey owl"),
]


@pytest.mark.parametrize(("line", "text"), OPTIONS)
def test_options_of_other_tools_are_cut_off_and_counted(tmp_path: Path, line: str, text: str) -> None:
    tally = Tally()
    assert [p.text for p in read_prompts(write(tmp_path, f"{line}\na cat\n"), tally=tally)] == [text, "a cat"]
    assert tally.altered == {CUT_OPTIONS: 1} and tally.used == 2
    assert "p.txt:1" in tally.warnings()[0]


@pytest.mark.parametrize(
    "text",
    [
        "a cat -- a portrait", "Mona --the remix", "mid-century chair", "T-800 and C-3PO", "a 3 - 4 score", "10-4",
        "[abstract] art", "{red} car", "a red|blue car", "3 cats on a sofa", "1. FC, a scarf",
        '"Hello"', "night__880_x, by m__", "a cat; ink",
        "(owl:1.3), ink", "a b\tc", "the owl - 1", "IMG_12.jpg of an owl",
        "portrait, DSC_1.JPG, owl", "see http://x.org now",
    ],
)  # fmt: skip
def test_ordinary_texts_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert without_options(text) == text
    assert [p.text for p in read_prompts(write(tmp_path, f"a dog\n{text}\na cat\n"))] == ["a dog", text, "a cat"]


REFUSED = [
    ("#1 Dad mug", "begins with '#'"), ("#an owl", "begins with '#'"), ("1.jpg", "names a picture"),
    ("in/1.jpg#0\tan owl", "names a picture"), ("http://x.org/1.jpg", "is a URL"), ('{"text": "owl"}', "JSON object"),
    ("an owl --hires 2", "--hires"), ("an owl --w 512 --hires 2", "--hires that memfix does not know"),
    ("a\rb", "ends lines elsewhere ('\\r')"), ("a\u2028b", "ends lines elsewhere"),
    ("{red|blue} car", "a wildcard of another tool ({red|blue})"), ("__animal__ in ink", "a wildcard"),
    ("prompt: an owl", "the name of a column in front (prompt:)"), ('"seed": 3,', "the name of a column in front"),
    ("/imagine prompt: an owl", "the name of a column in front"), ("an owl ; in ink", "may be a comment behind it (;)"),
    ("an owl # in ink", "a comment"), ("Owls:", "ends in ':'"), ("an owl \\", "ends in '\\'"),
    ('"0": "an owl",', 'in front ("0":)'), ('{"text": "owl"},', "JSON object"), ("1.jpg, an owl", "names a picture"),
    ("• an owl", "an item of a list"),
    ("http://x.org/1.jpg an owl", "begins with a URL"),
    ("- an owl", "an item of a list"), ("* an owl", "an item of a list"),
    ('! {A}="owl"', "a macro"), ("an owl -S12", "option of another tool, -S12"), ("--steps 20", "and no prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "problem"), REFUSED)
def test_what_is_not_clear_is_refused_by_line(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, f"a dog\n{line}\na cat\n")
    with pytest.raises(MemfixError, match=r"p\.txt:2 ") as caught:
        read_prompts(path)
    assert problem in caught.value.message and caught.value.hint
    wrong, tally = WrongRows(skip=True), Tally()
    assert [p.text for p in read_prompts(path, wrong=wrong, tally=tally)] == ["a dog", "a cat"]
    assert (wrong.count, tally.passed_over) == (1, {PassedOver.WRONG: 1})


MARKED = {
    "1. an owl\n2. a cat\n3. a dog\n": ["an owl", "a cat", "a dog"],
    "# mine\n\n 1) an owl\n2) 3 cats\n": ["an owl", "3 cats"],
    "(7) an owl\n(8) a cat\n": ["an owl", "a cat"],
    "1: an owl\n2: a cat\n1: a dog\n2: a cow\n": ["an owl", "a cat", "a dog", "a cow"],
    '1 - "an owl"\n2 - "a cat"\n': ["an owl", "a cat"],
    '"an owl",\n"a cat, in ink",\n"a dog"\n': ["an owl", "a cat, in ink", "a dog"],
    "'an owl',\n'a cat, in ink',\n": ["an owl", "a cat, in ink"],
    'a dog\n"a ""red"" cat"\na cow\n': ["a dog", 'a "red" cat', "a cow"],
    # these are prompts
    "1 owl\n2 owls\n3 owls\n": ["1 owl", "2 owls", "3 owls"],
    "'Owl' in ink\n'Cat' in ink\n": ["'Owl' in ink", "'Cat' in ink"],
    "4. July, fireworks\na cat\n": ["4. July, fireworks", "a cat"],
    "2. Bundesliga\n1. FC, a scarf\n2. Liga\n": ["2. Bundesliga", "1. FC, a scarf", "2. Liga"],
    '"Hello"\na cat\n': ['"Hello"', "a cat"],
}


@pytest.mark.parametrize("content", MARKED)
def test_numbers_and_quotes_of_a_list_are_no_part_of_its_prompts(tmp_path: Path, content: str) -> None:
    tally, path = Tally(), write(tmp_path, content)
    assert [p.text for p in read_prompts(path, tally=tally)] == MARKED[content]
    lines = {line.strip() for line in content.splitlines()}
    assert tally.altered[MARKS_TAKEN_OFF] == sum(text not in lines for text in MARKED[content])


def test_names_of_pictures_in_front_of_most_lines_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    path = write(tmp_path, "1.jpg an owl\n2.jpg a cat\na dog\n")
    with pytest.raises(MemfixError, match=r"p\.txt:1 begins with the name of a picture"):
        read_prompts(path)
    assert [p.text for p in read_prompts(path, wrong=WrongRows(skip=True))] == ["a dog"]


def test_a_line_without_the_number_that_others_have_is_refused(tmp_path: Path) -> None:
    content = "Owls:\n1. an owl\n2. an old\nowl\n3. a cat\n4. a dog\n"
    wrong = WrongRows(skip=True)
    texts = [p.text for p in read_prompts(write(tmp_path, content), wrong=wrong)]
    assert texts == ["an owl", "an old", "a cat", "a dog"]
    assert [problem.partition("p.txt:")[2][:15] for problem in wrong.first] == ["1 has no number", "4 has no number"]


def test_names_of_columns_are_none_if_the_lines_below_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "prompt, image\nan owl, in ink\na cat, by the sea\n")
    with pytest.raises(MemfixError, match=r"p\.txt:1 names columns, but most lines below are no rows"):
        read_prompts(path)
    found = read_prompts(path, wrong=WrongRows(skip=True))
    assert [p.text for p in found] == ["an owl, in ink", "a cat, by the sea"]
    tally = Tally()
    (owl,) = read_prompts(write(tmp_path, 'prompt, image\n"an owl, in ink",in/1.png\n'), tally=tally)
    assert owl.text == "an owl, in ink" and tally.altered[AS_TABLE] == 1


def test_what_a_web_ui_loads_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    tally = Tally()
    texts = [p.text for p in read_prompts(write(tmp_path, "an owl <lora:ink:0.8>\n<LyCO:x>\n"), tally=tally)]
    assert texts == ["an owl"] and tally.altered == {WAS_TAKEN_OUT: 2} and tally.passed_over == {PassedOver.EMPTY: 1}


def test_a_negative_prompt_of_several_lines_gives_no_prompt(tmp_path: Path) -> None:
    content = "an owl\nNegative prompt: blur,\nworse\nSteps: 20, Sampler: Euler\n\na cat\nNegative prompt: x\n\na dog\n"
    path = write(tmp_path, content)
    with pytest.raises(MemfixError, match=r"p\.txt:3 stands below a negative prompt"):
        read_prompts(path)
    found = read_prompts(path, wrong=WrongRows(skip=True))
    assert [p.text for p in found] == ["an owl", "a cat", "a dog"]


def test_comments_are_counted(tmp_path: Path) -> None:
    text = "prompt\n# first\n#\nan owl\n\n// an old owl\n//second\nan owl\n## end\n---\n; x\n"
    text += "Negative prompt: blur\nSteps: 2, x\n"
    tally = Tally()
    (owl,) = read_prompts(write(tmp_path, text), tally=tally)
    assert (owl.text, owl.source.rpartition(":")[2]) == ("an owl", "4")
    assert tally.passed_over == {PassedOver.COMMENT: 10, PassedOver.REPEATED: 1}
    assert tally.record("p.txt").model_dump(exclude={"passed_over", "altered"}) == {
        "source": "p.txt", "seen": 12, "used": 1,
    }  # fmt: skip


TABLES = {
    "token": "1.jpg#0\tan owl .\n1.jpg#1\ta bird .\n2.jpg#0\ta cat .\n",
    "head": 'image,caption\n1.jpg,an owl .\n1.jpg,"a bird ."\n2.jpg,a cat .\n',
    "flickr30k": "image_name| comment_number| comment\n1.jpg| 0| an owl .\n1.jpg| 1| a bird .\n2.jpg| 0| a cat .\n",
    "bars": "1.jpg|an owl .\n1.jpg|a bird .\n2.jpg|a cat .\n",
    "commas": '1.jpg,an owl .\n1.jpg,"a bird ."\n2.jpg,a cat .\n',
    "lines": '{"file_name": "1.jpg", "text": "an owl ."}\n{"file_name": "1.jpg", "text": "a bird ."}\n'
    '{"file_name": "2.jpg", "text": "a cat ."}\n',
    "json": '[\n {"image": "1.jpg", "caption": ["an owl .", "a bird ."]},\n {"image": "2.jpg", "text": "a cat ."}\n]',
}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("pictures", ["beside", "images", "none"])
def test_tables_under_the_name_of_a_text_file(tmp_path: Path, form: str, pictures: str) -> None:
    """With their pictures where these are; the names of pictures never become prompts."""
    folder = {"beside": tmp_path, "images": tmp_path / "Images", "none": None}[pictures]
    for i in (1, 2) if folder else ():
        folder.mkdir(exist_ok=True)
        picture(i).save(folder / f"{i}.jpg")
    tally = Tally()
    prompts = read_prompts(write(tmp_path, TABLES[form]), tally=tally)
    assert [p.text for p in prompts] == ["an owl .", "a bird .", "a cat ."]
    names = [[Path(r).name for r in p.references] for p in prompts]
    assert names == ([[], [], []] if folder is None else [["1.jpg"], ["1.jpg"], ["2.jpg"]])
    assert bool(tally.altered[NOT_THERE]) is (folder is None)


def test_such_a_table_gives_references_too(tmp_path: Path) -> None:
    for i in (1, 2):
        picture(i).save(tmp_path / f"{i}.jpg")
    found = read_references(write(tmp_path, TABLES["token"]), [])
    assert [(r.file_name, r.text) for r in found] == [("1.jpg", "an owl ."), ("2.jpg", "a cat .")]


def test_a_table_that_nothing_is_known_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"p\.txt:2 has no prompt text"):
        read_prompts(write(tmp_path, "0001\tan owl\n0002\ta cat\n"))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("prompts:\n- an owl\n", "p.yaml", "no list that memfix reads"), ("# Owls\n", "p.md", "no list that memfix"),
        ("<!DOCTYPE html><p>an owl", "p.txt", "web page"), ("PK\x03\x04", "p.txt", "compressed"),
        ("an\0owl", "p.txt", "no text"), ("%PDF-1.7", "p", "but a PDF"), ("GIF89a", "p.txt", "but a picture"),
    ],
)  # fmt: skip
def test_files_that_are_no_lists(tmp_path: Path, content: str, name: str, message: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        read_prompts(write(tmp_path, content, name))
    assert caught.value.hint


def test_forms() -> None:
    assert form_of([]) is form_of(["a cat, a dog", "a bird"]) is Form.LINES
    assert form_of(["text, painting, art"]) is form_of(["a\tb", "c"]) is form_of(["a\tb"]) is Form.LINES
    assert form_of(["a\tb", "c\td"]) is form_of(["prompt;seed", "a;1"]) is Form.SEPARATED
    assert form_of([json.dumps({"text": "a"})]) is Form.JSON_LINES and form_of(["["]) is Form.JSON


def test_an_option_without_a_prompt_is_wrong() -> None:
    with pytest.raises(WrongLineError, match="no prompt") as caught:
        without_options("--ar 16:9")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ['"' + "a" * 200_000, "'" * 200_000, '"' + '""' * 100_000, "{" + "|" * 200_000, "__a" * 60_000]
)
def test_a_long_line_takes_no_longer_than_its_length(tmp_path: Path, text: str) -> None:
    started = time.monotonic()
    read_prompts(write(tmp_path, f"a cat\n{text}\na dog\n"), wrong=WrongRows(skip=True))
    assert time.monotonic() - started < 5
