"""Prompt lists of every supported form, good and bad."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.prompts import read_prompts
from memfix.records import Role
from tests.conftest import picture


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_lines(tmp_path: Path) -> None:
    prompts = read_prompts(write(tmp_path, "p.txt", "\ufeffa cat\n\n  a <b>dog</b> \r\na cat\na bird"))
    assert [p.text for p in prompts] == ["a cat", "a <b>dog</b>", "a bird"]
    assert [p.source.rsplit(":")[-1] for p in prompts] == ["1", "3", "5"]
    assert [p.id for p in prompts] == ["p0001", "p0002", "p0003"]


def test_limit_and_role(tmp_path: Path) -> None:
    path = write(tmp_path, "p.txt", "a\nb\nc")
    assert [p.text for p in read_prompts(path, limit=2)] == ["a", "b"]
    assert read_prompts(path, Role.CONTROL)[0].id == "c0001"


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
