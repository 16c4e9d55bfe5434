"""URLs of every kind of list, with their texts and hashes."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.links import Link, read_links
from memfix.inputs.wrong_rows import WrongRows

A, B = "https://example.org/a.png", "https://example.org/b.png"
SHA, MD5 = "ab" * 32, "cd" * 16


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("l.txt", f"{A}\n\n{B} a cat\n", [Link(A), Link(B, "a cat")]),
        ("l.csv", f"caption;URL\na cat;{A}\na dog;{B}\n", [Link(A, "a cat"), Link(B, "a dog")]),
        ("l.csv", f"url\n{A}\n{A}\n", [Link(A)]),
        ("l.csv", f"url,text,sha256,md5\n{A},x,{SHA.upper()},{MD5}\n", [Link(A, "x", frozenset({SHA, MD5}))]),
        ("l.csv", f"urls,text\n\"['{A}', '{B}']\",x\n", [Link(A, "x"), Link(B, "x")]),
        (
            "l.csv",
            f"url;sha256\n{A}, {B};{SHA} {SHA}\n",
            [Link(A, "", frozenset({SHA})), Link(B, "", frozenset({SHA}))],
        ),
        ("l.txt", f"{A}, {B} a cat\n", [Link(A, "a cat"), Link(B, "a cat")]),
        ("l.json", f'{{"caption": ["x", "y"], "url": ["{A}", "{B}"]}}', [Link(A, "x"), Link(B, "y")]),
        ("l.json", f'{{"url": ["{A}", "{B}"]}}', [Link(A), Link(B)]),
        ("l.tsv", f"text\timage\nx\t{A}\n", [Link(A, "x")]),
        ("l.jsonl", f'{{"caption": "x", "caption1": "y", "url": "{A}"}}\n', [Link(A, "x"), Link(A, "y")]),
        ("l.json", f'["{A}", "{B}"]', [Link(A), Link(B)]),
        ("l.jsonl", f'{{"url": "ftp://x/a", "text": "x"}}\n{{"url": "{A}"}}\n', [Link("ftp://x/a", "x"), Link(A)]),
    ],
)
def test_forms(tmp_path: Path, name: str, content: str, expected: list[Link]) -> None:
    (tmp_path / name).write_text(content)
    assert read_links(str(tmp_path / name)) == expected


def test_hashes_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"url": [A, B], "caption": ["x", "y"], "md5": [MD5, None]}), tmp_path / "l.parquet")
    assert read_links(str(tmp_path / "l.parquet")) == [Link(A, "x", frozenset({MD5})), Link(B, "y")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"url,sha256\n{A},{MD5}\n", "l.csv:2 holds something else than a hash in column 'sha256'"),
        (f"urls,md5\n\"['{A}', '{B}']\",{MD5}\n", "l.csv:2 gives 1 md5 for 2 URLs"),
        ("text\na cat\n", "l.csv names no URL"),
    ],
)
def test_wrong_lists(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(MemfixError, match=message):
        read_links(str(tmp_path / "l.csv"))


def test_wrong_rows_and_limit(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text(
        f'{{"url": "{A}\\ud800"}}\n{{"text": "no URL"}}\n{{"url": "{A}"}}\n{{"url": "{B}"}}\n'
    )
    wrong = WrongRows(skip=True)
    assert read_links(str(tmp_path / "l.jsonl"), wrong, limit=1) == [Link(A)]
    assert wrong.count == 1
    (tmp_path / "l.txt").write_text("a cat\n")
    with pytest.raises(MemfixError, match=r"l\.txt:1 does not begin with a URL"):
        read_links(str(tmp_path / "l.txt"))
