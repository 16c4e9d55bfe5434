"""Forms that prompt lists are published in, read as they are; and tables that are wrong in the ways real ones are."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memfix.errors import MemfixError
from memfix.inputs.captions import FURTHER_MISSING, UNREAD_COLUMN
from memfix.inputs.columns import WrongCellError, as_list, urls
from memfix.inputs.prompts import KEPT_OPTIONS, NOT_THERE, list_file, read_prompts, stream
from memfix.inputs.references import read_references
from memfix.inputs.tables import lines
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import KEPT, WrongRows
from tests.conftest import picture
from tests.inputs.test_tars import png
from tests.processes import memfix


def write(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


PUBLISHED = {
    "nemo.csv": ";Caption;URL;type;mean_sscd;max_sscd;Index\n0;a cat, asleep;http://x.org/1.jpg;VM;0.8;0.9;7\n"
    "1;a dog;http://x.org/2.jpg;TM;;;8\n",
    "wen.jsonl": '{"caption": "a cat, asleep", "index": 7, "url": "http://x.org/1.jpg"}\n'
    '{"caption": "a dog", "index": 8, "url": "http://x.org/2.jpg"}',
    "membench.csv": ",prompt,urls\n0,\"a cat, asleep\",['http://x.org/1.jpg']\n1,a dog,\"['http://x.org/2.jpg', 'http://x.org/3.jpg']\"\n",
    "laion.tsv": "URL\tTEXT\tWIDTH\r\nhttp://x.org/1.jpg\ta cat, asleep\t3\r\nhttp://x.org/2.jpg\ta dog\t4\r\n",
    "list.json": '["a cat, asleep", "a dog"]',
    "objects.json": '\ufeff[{"Prompt": "a cat, asleep"}, {"Prompt": "a dog"}]',
    "coco.json": '{"images": [{"id": 1, "license": 2}], "annotations": [{"image_id": 1, "caption": "a cat, asleep"}, '
    '{"image_id": 1, "caption": "a dog"}]}',
    "named.json": '{"authors": ["someone"], "prompts": ["a cat, asleep", "a dog"]}',
    "strings.jsonl": '"a cat, asleep"\n"a dog"\n',
    "one.csv": "prompt\na cat, asleep\na dog\n",
    "spaces.csv": 'index, caption\n0, "a cat, asleep"\n1, "a dog"\n,\n',
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_forms(tmp_path: Path, name: str) -> None:
    assert [p.text for p in read_prompts(write(tmp_path, name, PUBLISHED[name]))] == ["a cat, asleep", "a dog"]


def test_urls_and_ground_truth_are_kept(tmp_path: Path) -> None:
    cat, dog = read_prompts(write(tmp_path, "nemo.csv", PUBLISHED["nemo.csv"]))
    assert (cat.urls, cat.ground_truth, dog.ground_truth) == (("http://x.org/1.jpg",), "VM", "TM")
    _, dog = read_prompts(write(tmp_path, "membench.csv", PUBLISHED["membench.csv"]))
    assert dog.urls == ("http://x.org/2.jpg", "http://x.org/3.jpg")


def test_paraphrases_carry_the_images_of_their_row(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "x.png")
    row = {
        "caption10": "c",
        "caption2": " b ",
        "caption": "a",
        "caption3": "",
        "image": "x.png",
        "url": "https://x.org/1",
    }
    prompts = read_prompts(write(tmp_path, "p.jsonl", json.dumps(row)))
    assert [p.text for p in prompts] == ["a", "b", "c"]
    assert {(p.urls, p.references) for p in prompts} == {(("https://x.org/1",), (str(tmp_path / "x.png"),))}


def test_a_url_in_an_image_column_is_not_a_path(tmp_path: Path) -> None:
    (prompt,) = read_prompts(write(tmp_path, "p.csv", "text,image\na,HTTPS://x.org/1.jpg\n"))
    assert (prompt.urls, prompt.references) == (("HTTPS://x.org/1.jpg",), ())


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({
        "TEXT": ["a", None, "b", "a"], "similarity": [0.1, 0.2, 0.3, 0.4], "jpg": [b"\xff\xd8"] * 4,
        "URL": ["http://x.org/1", "http://x.org/2", None, "http://x.org/3"],
        "retrieved_urls": [["http://x.org/4"], [], None, ["http://x.org/1"]], "overfit_type": ["MV", "N", "TV", "MV"],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    tally = Tally()
    a, b = read_prompts(str(tmp_path / "p.parquet"), tally=tally)
    assert (a.text, a.urls, a.ground_truth) == ("a", ("http://x.org/1", "http://x.org/4", "http://x.org/3"), "MV")
    assert (b.text, b.urls, b.source[-2:]) == ("b", (), ":3")
    assert tally.passed_over == {PassedOver.EMPTY: 1, PassedOver.REPEATED: 1, PassedOver.UNREAD: 1}


@pytest.mark.parametrize("content", [b"", b"PAR1 but no more", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_broken_parquet(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MemfixError, match="cannot be read as parquet"):
        read_prompts(write(tmp_path, "p.parquet", content))


def test_parquet_text_that_is_not_text(tmp_path: Path) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).view(pa.string())  # pyarrow does not look
    pq.write_table(pa.table({"text": broken}), tmp_path / "p.parquet")
    wrong = WrongRows(skip=True)
    assert [p.text for p in read_prompts(str(tmp_path / "p.parquet"), wrong=wrong)] == ["a", "c"]
    assert "p.parquet:2 is not UTF-8" in wrong.first[0]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_imagefolder(tmp_path: Path, name: str) -> None:
    picture(0).save(tmp_path / "x.png")
    rows = {"file_name": ["x.png"], "text": ["a cat"]}
    match name:
        case "metadata.jsonl":
            write(tmp_path, name, '{"file_name": "x.png", "text": "a cat"}\n')
        case "metadata.csv":
            write(tmp_path, name, "file_name,text\nx.png,a cat\n")
        case _:
            pq.write_table(pa.table(rows), tmp_path / name)
    (prompt,) = read_prompts(str(tmp_path))
    assert (prompt.text, prompt.references) == ("a cat", (str(tmp_path / "x.png"),))
    (reference,) = read_references(str(tmp_path), [])
    assert (reference.file_name, reference.text) == ("x.png", "a cat")
    (reference,) = read_references(str(tmp_path / name), [])
    assert (reference.file_name, reference.text) == ("x.png", "a cat")


def test_a_folder_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="no list in the folder"):
        list_file(str(tmp_path))
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(MemfixError, match=r"contains no prompt: pictures without a caption \(1\)") as caught:
        read_prompts(str(tmp_path))
    assert "a.txt beside a.png" in caught.value.hint


BROKEN = [
    ("p.csv", "text,url\na,b\nc, d, e\nf,g\n", [3], ["a", "f"]),  # a comma without quotes would cut the prompt
    ("p.csv", 'text\na\n"b" c\nd\n', [3], ["a", "d"]),
    ("p.csv", '"text"\n"a\nb"\n\n"c', [5], ["a b"]),
    ("p.csv", b"text\na\n\xe9t\xe9\nb\n", [3], ["a", "b"]),
    ("p.txt", b"a\n\xff\nb", [2], ["a", "b"]),
    ("p.jsonl", '{"text": "a"}\n{"text": \n[]\n{"text": "\\ud800"}\n{"text": "b"}\n', [2, 3, 4], ["a", "b"]),
    ("p.jsonl", '{"text": "a"}\n{"text": "b", "image": 3}', [2], ["a"]),
    ("p.jsonl", '{"text": "a"}\n' + "[" * 100_000, [2], ["a"]),
    ("p.json", '[{"text": "a"}, 3, {"title": "b"}]', [2, 3], ["a"]),
    ("p.csv", "text;urls\na;['http://x.org' 'http://y.org']\nb;[open\nc;[__import__('os')]\n", [2, 4], ["b"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "numbers", "texts"), BROKEN)
def test_wrong_rows(tmp_path: Path, name: str, content: str | bytes, numbers: list[int], texts: list[str]) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(MemfixError, match=rf"{name}:{numbers[0]}") as caught:
        read_prompts(path)
    assert "--skip-invalid" in caught.value.hint
    wrong = WrongRows(skip=True)
    assert [p.text for p in read_prompts(path, wrong=wrong)] == texts
    assert [row.split(":")[1].split()[0] for row in wrong.first] == [str(n) for n in numbers]
    assert wrong.count == len(numbers)


@pytest.mark.parametrize("name", ["no.png", "\0", "n" * 5000])
def test_a_prompt_stays_without_a_picture_that_is_missing(tmp_path: Path, name: str) -> None:
    picture(0).save(tmp_path / "x.png")
    path = write(tmp_path, "p.jsonl", json.dumps({"text": "b", "image": ["x.png", name]}))
    with pytest.raises(MemfixError, match=r"p\.jsonl:1: there is no reference image") as caught:
        read_prompts(path)
    assert "--skip-invalid" in caught.value.hint
    wrong = WrongRows(skip=True)
    (prompt,) = read_prompts(path, wrong=wrong)
    assert (prompt.text, prompt.references) == ("b", (str(tmp_path / "x.png"),))
    assert (wrong.count, wrong.pictures) == (0, 1) and "no reference image" in wrong.told()[0]


def test_a_screen_needs_no_pictures(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", '{"text": "a", "image": "no.png"}\n{"text": "b", "image": {"bytes": 3}}\n')
    assert [row.text for row in stream(Path(path), WrongRows(), images=False)] == ["a", "b"]


TRANSPOSED = [
    {"caption": ["a", "b"], "url": ["http://x.org/1", "http://x.org/2"], "note": "x", "other": [1, 2, 3]},
    {"caption": {"0": "a", "1": "b"}, "url": {"0": "http://x.org/1", "1": "http://x.org/2"}},
    {"data": [{"caption": "a", "url": "http://x.org/1"}, {"caption": "b", "url": "http://x.org/2"}], "url": ["x"]},
]


@pytest.mark.parametrize("data", TRANSPOSED)
def test_columns_of_a_json_object_belong_together(tmp_path: Path, data: dict) -> None:
    prompts = read_prompts(write(tmp_path, "p.json", json.dumps(data)))
    assert [(p.text, p.urls) for p in prompts] == [("a", ("http://x.org/1",)), ("b", ("http://x.org/2",))]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    (prompt,) = read_prompts(
        write(tmp_path, "p.json", '{"caption": "a", "urls": ["http://x.org/1", "http://x.org/2"]}')
    )
    assert (prompt.text, len(prompt.urls)) == ("a", 2)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("['a cat', \"it's\"]", ["a cat", "it's"]), ('["a cat", "say \\"x\\" \\"y\\""]', ["a cat", 'say "x" "y"']),
        ("""['say "x" "y"']""", ['say "x" "y"']), ("[abstract] art [sketch]", ["[abstract] art [sketch]"]),
        ("[abstract art]", ["[abstract art]"]), ("[1, 2]", ["[1, 2]"]), ("[cat:dog:0.5]", ["[cat:dog:0.5]"]),
    ],
)  # fmt: skip
def test_a_list_in_a_cell_of_text(tmp_path: Path, cell: str, texts: list[str]) -> None:
    quoted = cell.replace('"', '""')
    assert [p.text for p in read_prompts(write(tmp_path, "p.csv", f'n,prompt\n1,"{quoted}"\n'))] == texts


def test_a_list_without_commas_is_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"p\.csv:2 holds a list without commas in column 'prompt'"):
        read_prompts(write(tmp_path, "p.csv", "prompt\n['a' 'b']\n"))


@pytest.mark.parametrize("name", ["paraphrases", "Paraphrase", "rephrased"])
def test_a_column_of_paraphrases(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "p.jsonl", json.dumps({"caption": "a", "caption1": "b", name: ["c", "d"]}))
    assert [p.text for p in read_prompts(path)] == ["a", "b", "c", "d"]
    path = write(tmp_path, "p.csv", f"caption,{name}\na,\"['c', 'd']\"\n")
    assert [p.text for p in read_prompts(path)] == ["a", "c", "d"]


@pytest.mark.parametrize("depth", ["train", "a/b"])
def test_the_table_in_a_folder_of_a_folder(tmp_path: Path, depth: str) -> None:
    inner = tmp_path / depth
    inner.mkdir(parents=True)
    picture(0).save(inner / "x.png")
    write(inner, "metadata.jsonl", '{"file_name": "x.png", "text": "a cat"}\n')
    (prompt,) = read_prompts(str(tmp_path))
    assert (prompt.text, prompt.references) == ("a cat", (str(inner / "x.png"),))
    (reference,) = read_references(str(tmp_path), [])
    assert (reference.file_name, reference.text) == (f"{depth}/x.png", "a cat")
    (tmp_path / "test").mkdir()
    picture(1).save(tmp_path / "test/y.png")
    write(tmp_path / "test", "metadata.csv", "file_name,text\ny.png,a dog\n")
    assert {p.text for p in read_prompts(str(tmp_path))} == {"a cat", "a dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"caption": ["a", "b"], "url": ["x"]}', "columns of different lengths: 2 caption, 1 url"),
        ("{", r"p\.json:1 is not JSON"),
        ('{"style": {"van gogh": {"target": "x"}}}', "contains no list of prompts"),
        ("3", "contains no list of prompts"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "contains no prompt"),
    ],
)
def test_json_that_is_no_list(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(MemfixError, match=message):
        read_prompts(write(tmp_path, "p.json", content))


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"contains no prompt that can be read; .*p\.jsonl:1 is not JSON"):
        read_prompts(write(tmp_path, "p.jsonl", "x\ny\n"), wrong=WrongRows(skip=True))


def test_many_wrong_rows_are_counted_not_listed() -> None:
    wrong = WrongRows(skip=True)
    for i in range(KEPT + 5):
        wrong.add(f"p.csv:{i}", "is wrong", "")
    assert (wrong.count, len(wrong.told()), wrong.told()[-1]) == (
        KEPT + 5,
        KEPT + 1,
        "5 more invalid rows are left out",
    )


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", 'text,image\n\n"a\nb",\nc,\n')
    assert [(row.line, row.text) for row in stream(Path(path), WrongRows())] == [(3, "a b"), (5, "c")]


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv"])
def test_the_limit_ends_the_reading(tmp_path: Path, name: str) -> None:
    good = {"p.txt": b"a\nb\na\nc\n", "p.jsonl": b'{"text": "a"}\n"b"\n"a"\n"c"\n', "p.csv": b"text\na\nb\na\nc\n"}[
        name
    ]
    path = write(tmp_path, name, good + b"\xff\n" * 3)
    assert [p.text for p in read_prompts(path, limit=2)] == ["a", "b"]


def test_lines_are_not_held_in_memory(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "p.txt", b"a\n" * 3))
    taken = lines(path, WrongRows())
    assert next(taken) == (1, "a\n")
    with path.open("ab") as file:
        file.write(b"b" * 2_000_000)
    assert sum(len(text) for _, text in taken) == 2_000_004


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        (None, []), (float("nan"), []), ("", []), (" a ", ["a"]), ("['a', \"b\"]", ["a", "b"]), ('["a", null]', ["a"]),
        (["a", None, ""], ["a"]), ("[]", []), ("[a].png", ["[a].png"]), ("""['a "b" "c"']""", ['a "b" "c"']),
    ],
)  # fmt: skip
def test_cells(cell: object, found: list[str]) -> None:
    assert as_list(cell, "url") == found


@pytest.mark.parametrize("between", [", ", ",", ";", "; ", " | ", " ", "\n"])
def test_several_urls_in_one_cell(between: str) -> None:
    one, two = "http://x.org/a,b;c.jpg?s=1|2", "HTTPS://y.org/w_1,h_2/b.jpg"
    assert urls({"url": f"{one}{between}{two}"}) == [one, two]
    assert urls({"image": f" {one}{between}{two} "}) == [one, two]
    assert urls({"url": [one, two]}) == urls({"urls": f"['{one}', '{two}']"}) == [one, two]
    assert urls({"url": f"{one};"}) == [f"{one};"]


@pytest.mark.parametrize("cell", [3, {"bytes": b""}, b"a", "[1]", "['a' 'b']", "[a]", "[" * 9999 + "]" * 9999])
def test_cells_that_are_no_texts(cell: object) -> None:
    with pytest.raises(WrongCellError, match="in column 'url'"):
        as_list(cell, "url")


@pytest.mark.slow
def test_skip_invalid_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", '{"text": "a"}\noops\n{"text": "b"}\n')
    words = ["detect", path, "--references", "demo", "--dry-run", "--json"]
    stopped = memfix(*words, cwd=tmp_path, code=1, env={"COLUMNS": "400"})
    assert "p.jsonl:2 is not JSON" in stopped.stderr
    done = memfix(*words, "--skip-invalid", cwd=tmp_path, env={"COLUMNS": "400"})
    found = json.loads(done.stdout)
    assert (found["prompts"], found["wrong_rows"]) == (2, 1)
    assert "p.jsonl:2 is not JSON" in done.stderr


ENCODED = base64.b64encode(png(0)).decode()
PICTURES_AS_TEXT = [
    ENCODED, f"data:image/png;base64,{ENCODED}", [ENCODED, ENCODED], {"bytes": ENCODED, "path": None}, repr(png(0)),
    base64.urlsafe_b64encode(png(0)).decode(), f'["{ENCODED}"]', str({"bytes": png(0), "path": "a.png"}),
    json.dumps({"image": {"data": ENCODED}}), {"all": [{"view": ENCODED}]},
]  # fmt: skip


@pytest.mark.parametrize("column", ["image", "image_base64"])
@pytest.mark.parametrize("cell", PICTURES_AS_TEXT, ids=range(len(PICTURES_AS_TEXT)))
def test_pictures_as_text_are_refused_by_the_name_of_their_column(tmp_path: Path, column: str, cell: Any) -> None:
    names = ["p.jsonl", "p.parquet"] if isinstance(cell, str) else ["p.jsonl"]
    for name in names:
        row = {"text": "a cat", column: cell}
        if name == "p.parquet":
            pq.write_table(pa.table({key: [value] for key, value in row.items()}), tmp_path / name)
        else:
            write(tmp_path, name, json.dumps(row))
        for read in (lambda path: read_prompts(path), lambda path: read_references(path, [])):
            with pytest.raises(MemfixError, match=rf"{name}:1 holds a picture as text \(base64\) in column '{column}'"):
                read(str(tmp_path / name))


@pytest.mark.parametrize(
    "text",
    [
        "A" * 80,
        "a" * 300,
        "https://x.org/" + "iVBORw0KGgo" * 9,
        "/work" + "/in" * 30,
        "/9j/" + "in/" * 30 + "1.jpg",
        "data: image",
        "b'a cat'",
    ],
)
def test_long_words_are_no_pictures(tmp_path: Path, text: str) -> None:
    (prompt,) = read_prompts(write(tmp_path, "p.jsonl", json.dumps({"text": text})))
    assert prompt.text == text


def test_a_table_of_pictures_as_text_beside_others_is_told(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    pq.write_table(pa.table({"text": ["a cat"], "b64": [ENCODED]}), tmp_path / "x.parquet")
    tally = Tally()
    assert len(read_references(str(tmp_path), [], tally=tally)) == 1
    assert tally.passed_over == {PassedOver.UNREAD: 1} and tally.warnings()


def test_further_columns_of_images_count_if_they_are_there(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        picture(i).save(tmp_path / f"{name}.png")
    tally = Tally()
    text = "text,image,reference,path,image_name,img\na cat,a.png,b.png,/data/a.png,c.png,gone.png\n"
    (prompt,) = read_prompts(write(tmp_path, "p.csv", text), tally=tally)
    assert [Path(r).name for r in prompt.references] == ["a.png", "b.png", "c.png"]
    assert tally.altered == {NOT_THERE: 1}
    tally = Tally()
    found = read_references(write(tmp_path, "q.csv", text.replace("b.png,", "other.png,")), [], tally=tally)
    assert [r.file_name for r in found] == ["a.png", "c.png"] and tally.altered == {FURTHER_MISSING: 2}


UNREAD_COLUMNS = {
    "prompt": "a cat in ink", "short_caption": "a cat", "alt_text": "Cat photo", "target": "b.png",
    "caption_llava": "A cat.",
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD_COLUMNS)
def test_a_column_that_is_not_read_is_told(tmp_path: Path, name: str) -> None:
    tally = Tally()
    row = {"text": "the text", "id": 3, "negative_prompt": "blur, noise", "model": "sd 1.5", name: UNREAD_COLUMNS[name]}
    assert len(read_prompts(write(tmp_path, "p.jsonl", json.dumps(row)), tally=tally)) == 1
    assert tally.altered == {UNREAD_COLUMN: 1} and f"column '{name}'" in tally.warnings()[0]
    tally = Tally()
    read_prompts(write(tmp_path, "p.jsonl", json.dumps(row | {name: "the text"})), tally=tally)
    assert not tally.altered


def test_options_in_a_table_stay_and_are_told(tmp_path: Path) -> None:
    tally = Tally()
    (prompt,) = read_prompts(write(tmp_path, "p.csv", "prompt\na cat --ar 16:9 --v 5\n"), tally=tally)
    assert prompt.text == "a cat --ar 16:9 --v 5" and tally.altered == {KEPT_OPTIONS: 1}


def test_a_column_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match=r"p\.csv:1 names the column 'text' twice"):
        read_prompts(write(tmp_path, "p.csv", "text,note,note,Text\na cat,,,a dog\n"))


def test_a_further_column_of_texts_in_a_parquet_table_is_told(tmp_path: Path) -> None:
    table = pa.table(
        {"url": ["http://x.org/1.jpg"], "caption": ["a cat"], "re_caption": ["a cat on a mat"], "model": ["a b"]}
    )
    pq.write_table(table, tmp_path / "p.parquet")
    tally = Tally()
    (prompt,) = read_prompts(str(tmp_path / "p.parquet"), tally=tally)
    assert prompt.text == "a cat" and tally.altered == {UNREAD_COLUMN: 1}


TWICE = '{"Text": "a cat", "text": "a dog"}', '{"text": "a cat", "text": "a dog"}'


@pytest.mark.parametrize("row", TWICE)
def test_a_row_that_says_two_things_under_one_name_is_refused(tmp_path: Path, row: str) -> None:
    same = '{"Text": "an owl", "text": "an owl", "Note": 1, "note": 2}'
    (tmp_path / "p.jsonl").write_text(f"{same}\n{row}\n")
    with pytest.raises(MemfixError, match=r"p\.jsonl:2 names the column 'text' twice"):
        read_prompts(str(tmp_path / "p.jsonl"))
    assert [p.text for p in read_prompts(str(tmp_path / "p.jsonl"), wrong=WrongRows(skip=True))] == ["an owl"]
    (tmp_path / "p.json").write_text(f"[{same}, {row}]")
    with pytest.raises(MemfixError, match=r"p\.json names the column 'text' twice"):
        read_prompts(str(tmp_path / "p.json"))
    pq.write_table(pa.table({"Text": ["a cat"], "text": ["a dog"]}), tmp_path / "p.parquet")
    with pytest.raises(MemfixError, match=r"p\.parquet names the column 'text' twice"):
        read_prompts(str(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("an owl\ra fox\r", "p.txt"), ("an owl\ra fox", "p.txt"), ("text,seed\ran owl,1\ra fox,2\r", "p.csv"),
        ("text\tseed\ran owl\t1\ra fox\t2\r", "p.txt"), ('{"text": "an owl"}\r{"text": "a fox"}\r', "p.jsonl"),
    ],
)  # fmt: skip
def test_lines_of_an_old_mac(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert [p.text for p in read_prompts(str(tmp_path / name))] == ["an owl", "a fox"]


def test_a_row_that_ends_early_has_empty_cells(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "p.csv").write_text("image,text\na.png,an owl\na.png\n")
    tally = Tally()
    assert [p.text for p in read_prompts(str(tmp_path / "p.csv"), tally=tally)] == ["an owl"]
    assert tally.passed_over == {PassedOver.UNCAPTIONED: 1}
