"""Prompt lists of every supported form, good and bad."""

from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.index.build import build
from memfix.index.store import Store
from memfix.inputs.prompts import id_of, identity, is_a_prompt, read_prompts, rows_of
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures.descriptor import Pixels
from memfix.records import Role
from tests.conftest import picture
from tests.inputs.test_embedded import write as write_table
from tests.inputs.test_tars import png
from tests.inputs.test_tars import write as write_tar


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_lines(tmp_path: Path) -> None:
    prompts = read_prompts(write(tmp_path, "p.txt", "\ufeffa cat\n\n  a <b>dog</b> \r\na cat\na bird"))
    assert [p.text for p in prompts] == ["a cat", "a <b>dog</b>", "a bird"]
    assert [p.source.rsplit(":")[-1] for p in prompts] == ["1", "3", "5"]
    assert [p.id for p in prompts] == [id_of(p.text) for p in prompts]


def test_limit_and_role(tmp_path: Path) -> None:
    path = write(tmp_path, "p.txt", "a\nb\nc")
    assert [p.text for p in read_prompts(path, limit=2)] == ["a", "b"]
    assert read_prompts(path, Role.CONTROL)[0].id == id_of("a", Role.CONTROL)


def test_tables(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "x.png")
    picture(1).save(tmp_path / "y.png")
    for name, text in [
        ("p.csv", 'Caption,file_name\n"a cat, asleep",x.png\n"a cat, asleep",y.png\n'),
        ("p.tsv", "id\ttext\timage\n0\ta cat, asleep\tx.png\n1\ta cat, asleep\ty.png\n"),
        ("p2.csv", "n;Caption;file_name\n1;a cat, asleep;x.png\n2;a cat, asleep;y.png\n"),
        (
            "p.jsonl",
            '{"prompt": "a cat, asleep", "file_name": "x.png"}\n\n{"text": "a cat, asleep", "image": "y.png"}\n',
        ),
    ]:
        (prompt,) = read_prompts(write(tmp_path, name, text))
        assert prompt.text == "a cat, asleep"
        assert [Path(r).name for r in prompt.references] == ["x.png", "y.png"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", " \n\n", "contains no prompt"),
        ("p.csv", "title,url\na,b\n", r"p\.csv:2 has no prompt text"),
        ("p.jsonl", '{"text": "a"}\n{"text": \n', r"p\.jsonl:2 is not JSON"),
        ("p.jsonl", "[1]\n", r"p\.jsonl:1 is not a JSON object"),
        ("p.jsonl", '{"text": 3}\n', r"p\.jsonl:1 has no prompt text"),
        ("p.csv", "text,file_name\na,gone.png\n", r"p\.csv:2: there is no reference image"),
    ],
)
def test_bad_lists(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        read_prompts(write(tmp_path, name, text))
    assert caught.value.hint


def test_missing_and_binary(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="no prompt list"):
        read_prompts(str(tmp_path / "none.txt"))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MemfixError, match="not UTF-8"):
        read_prompts(str(tmp_path / "b.txt"))


def test_a_training_set_is_a_list_of_prompts(tmp_path: Path) -> None:
    """Kohya's folders, an imagefolder, a tar and a hub table at once: each caption with its own picture."""
    for name in ("10_mug/0.png", "10_mug/1", "10_mug/bare.png", "split/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0).save(tmp_path / name, "PNG")
    write(tmp_path, "10_mug/0.txt", "a mug on a table\nnot trained on\n")
    write(tmp_path, "10_mug/1.caption", "a mug in a hand")
    write(tmp_path, "split/metadata.csv", "file_name,text,caption1\n2.png,a plate,a white plate\n")
    write_tar(tmp_path / "x.tar", [("a b v1.0.jpg", png(3)), ("a b v1.0.txt", b"a fork"), ("c.jpg", png(4))])
    write_table(tmp_path / "data.parquet", [{"bytes": png(5), "path": "5.png"}])
    tally = Tally()
    prompts = read_prompts(str(tmp_path), tally=tally)
    found = {p.text: [Path(r).name.partition("#")[0] for r in p.references] for p in prompts}
    assert found == {
        "a plate": ["2.png"], "a white plate": ["2.png"], "a mug on a table": ["0.png"], "a mug in a hand": ["1"],
        "mug": ["bare.png"], "disc 0": ["data.parquet"], "a fork": ["x.tar"],
    }  # fmt: skip
    assert (tally.used, tally.passed_over[PassedOver.UNCAPTIONED]) == (7, 1)
    assert {p.source.removeprefix(f"{tmp_path}/") for p in prompts} == {
        "split/metadata.csv:2", "10_mug/0.png", "10_mug/1", "10_mug/bare.png", "data.parquet:1", "x.tar:a b v1.0.jpg",
    }  # fmt: skip
    assert [p.text for p in read_prompts(str(tmp_path / "x.tar"))] == ["a fork"]
    assert len(read_references(None, prompts)) == 6
    rows = rows_of(str(tmp_path), WrongRows(), images=False)
    assert {row.text for row in rows} == found.keys()
    assert identity(str(tmp_path)) == identity(str(tmp_path)) != identity(str(tmp_path / "x.tar"))


def test_one_prompt_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("an owl on a gate", "half of 1/2 a pie.", "v2.0 of an owl"):
        (prompt,) = read_prompts(text)
        assert (prompt.text, prompt.source) == (text, "command line")
    (tmp_path / "an owl").write_text("a cat\n")  # what is there is read
    assert [p.text for p in read_prompts("an owl")] == ["a cat"]
    for text in ("owl", "my prompts.txt", "./an owl on", "lists/my prompts", "a picture.png", "~/an owl", "in\\an owl"):
        assert not is_a_prompt(text)
        with pytest.raises(MemfixError, match="There is no prompt list") as caught:
            read_prompts(text)
        assert "in quotes" in caught.value.hint


@pytest.mark.parametrize(
    ("piped", "texts"),
    [
        ("an owl\n# not this\na cat\n", ["an owl", "a cat"]), ("prompt,seed\nan owl,1\n", ["an owl"]),
        ('{"text": "an owl", "image": "x.png"}\n', ["an owl"]), ('["an owl"]', ["an owl"]),
    ],
)  # fmt: skip
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piped: str, texts: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    picture(0).save(tmp_path / "x.png")
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(piped.encode())))
    prompts = read_prompts("-")
    assert [p.text for p in prompts] == texts and prompts[0].source.startswith("/dev/stdin:")
    assert [p.text for p in read_prompts("-")] == texts  # what was piped in is kept
    if "image" in piped:
        assert prompts[0].references == (str(tmp_path / "x.png"),)


def test_rows_without_a_text_and_styles(tmp_path: Path) -> None:
    text = '\ufeffname,prompt,negative_prompt\nNone,,\n-- INK --,,\nink,"ink of {prompt}, fine",blur\nempty,{prompt},\n'
    tally = Tally()
    (ink,) = read_prompts(write(tmp_path, "styles.csv", text), tally=tally)
    assert ink.text == "ink of , fine"
    assert tally.passed_over == {PassedOver.EMPTY: 3} and sum(tally.altered.values()) == 2


def test_an_index_has_no_prompts(reference_folder: Path, tmp_path: Path) -> None:
    build(Store.create(tmp_path / "index", reference_folder, Pixels()), reference_folder, Pixels())
    with pytest.raises(MemfixError, match="is an index, which has no captions"):
        read_prompts(str(tmp_path / "index"))


def test_a_prompt_has_the_same_id_in_every_list(tmp_path: Path) -> None:
    one = read_prompts(write(tmp_path, "a.txt", "a cat\na dog"))
    other = read_prompts(write(tmp_path, "b.txt", "a bird\na dog\na cat"))
    assert {p.text: p.id for p in one} == {p.text: p.id for p in other if p.text != "a bird"}
    assert read_prompts(write(tmp_path, "c.txt", "a cat"), Role.CONTROL)[0].id != one[0].id
