"""Quotes in CSV and TSV: text where they are text, and never the end of the rows below them."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs import tables
from memfix.inputs.prompts import read_prompts
from memfix.inputs.separated import MOST_LINES
from memfix.inputs.wrong_rows import WrongRows

U = [f"http://x.org/{i}.jpg" for i in range(9)]


def read(folder: Path, name: str, content: str) -> tuple[list[tuple[int, str, str]], WrongRows]:
    """(line, text, url) of each row, and what was wrong."""
    path = folder / name
    path.write_bytes(content.encode())
    wrong = WrongRows(skip=True)
    return [(n, c.get("text", ""), c.get("url", "")) for n, c in tables.rows(path, wrong)], wrong


TSV = [
    ('"Best" cat', '"Best" cat'),
    ('"open quote', '"open quote'),
    ('a 5" nail', 'a 5" nail'),
    ('"the ""best"" cat"', 'the "best" cat'),
    ('"one" and "two"', '"one" and "two"'),
    ('"in quotes, whole"', "in quotes, whole"),
    ('"with a\ttab"', "with a\ttab"),
]


@pytest.mark.parametrize(("cell", "text"), TSV)
def test_tsv_quotes_are_text(tmp_path: Path, cell: str, text: str) -> None:
    found, wrong = read(tmp_path, "l.tsv", f"TEXT\tURL\r\n{cell}\t{U[1]}\r\na dog\t{U[2]}\r\n")
    assert found == [(2, text, U[1]), (3, "a dog", U[2])] and wrong.count == 0


def test_tsv_without_names_of_columns(tmp_path: Path) -> None:
    """CC3M: a caption and a URL a line."""
    found, wrong = read(tmp_path, "cc3m.tsv", f'a "cat"\t{U[1]}\na dog\t{U[2]}\n')
    assert found == [(1, 'a "cat"', U[1]), (2, "a dog", U[2])] and wrong.count == 0


def test_tsv_half_a_cell_is_reported(tmp_path: Path) -> None:
    found, wrong = read(tmp_path, "l.tsv", f'text\turl\n"a cat\nasleep"\t{U[1]}\na\tb\tc\na dog\t{U[2]}\n')
    assert [n for n, _, _ in found] == [3, 5] and wrong.count == 2
    assert "l.tsv:2 opens a quote" in wrong.first[0] and "l.tsv:4 has more cells" in wrong.first[1]


CSV = [
    # an open quote: closed by the next one that comes, or by none
    (f'"a cat,{U[1]}\na dog,{U[2]}\n"a bird",{U[3]}\n', ["a dog", "a bird"], [2]),
    (f'"a cat,{U[1]}\na dog,{U[2]}\na bird",{U[3]}\n', ["a dog", 'a bird"'], [2]),
    (f'"a cat,{U[1]}\na bird",{U[3]}\n', ['a bird"'], [2]),
    (f'"a cat,{U[1]}\na dog\na bird,{U[3]}\na fish",{U[4]}\n', ["a dog", "a bird", 'a fish"'], [2]),
    (f'a cat,"{U[1]}\na dog,{U[2]}\n', ["a dog"], [2]),
    ('"a cat,oil\na dog,ink\na bird",chalk\n', ["a dog", 'a bird"'], [2]),
    ('"a cat,oil\na bird",chalk\na dog,ink\n', ['a bird"', "a dog"], [2]),
    (f'a dog,{U[2]}\n"Best" cat,{U[1]}\na bird,{U[3]}\n', ["a dog", "a bird"], [3]),
    # cells that go over several lines
    (f'"a cat\nasleep",{U[1]}\na dog,{U[2]}\n', ["a cat\nasleep", "a dog"], []),
    (f'a dog,{U[2]}\n"a cat,\nasleep",{U[1]}\n', ["a dog", "a cat,\nasleep"], []),
    (f'a dog,{U[2]}\n"a cat\n\n3, 4 or 5 years old,\nasleep, ""purring""",{U[1]}\n',
     ["a dog", 'a cat\n\n3, 4 or 5 years old,\nasleep, "purring"'], []),
]  # fmt: skip


@pytest.mark.parametrize(("content", "texts", "lines"), CSV)
def test_csv_no_row_is_taken_in_by_another(tmp_path: Path, content: str, texts: list[str], lines: list[int]) -> None:
    found, wrong = read(tmp_path, "l.csv", "text,url\n" + content)
    assert [text for _, text, _ in found] == texts
    assert [int(row.split(":")[1].split()[0]) for row in wrong.first] == lines
    assert wrong.count == len(lines)


ONE_COLUMN = [
    ('"a cat\na dog\na bird"\na fish\n', ["a dog", 'a bird"', "a fish"], [2]),
    ('"a cat\n\na 5"\n', ['a 5"'], [2]),
    ('"a cat, asleep"\na dog\n', ["a cat, asleep", "a dog"], []),
]


@pytest.mark.parametrize(("content", "texts", "lines"), ONE_COLUMN)
def test_in_one_column_no_line_shows_what_it_belongs_to(
    tmp_path: Path, content: str, texts: list[str], lines: list[int]
) -> None:
    found, wrong = read(tmp_path, "l.csv", "text\n" + content)
    assert [text for _, text, _ in found] == texts
    assert [int(row.split(":")[1].split()[0]) for row in wrong.first] == lines


def test_in_one_column_of_quotes_a_cell_may_go_over_several_lines(tmp_path: Path) -> None:
    found, wrong = read(tmp_path, "l.csv", '"text"\n"a cat\nasleep"\n"a dog\n"a bird"\n')
    assert [text for _, text, _ in found] == ["a cat\nasleep", "a bird"] and wrong.count == 1


def test_the_lines_that_a_quote_went_over_are_named(tmp_path: Path) -> None:
    _, wrong = read(tmp_path, "l.csv", f'text,url\n"a cat,{U[1]}\na dog,{U[2]}\n"a bird",{U[3]}\n')
    assert wrong.first[0].endswith("(its quote was followed to line 4; read on from line 3)")


def test_a_quote_that_is_never_closed_costs_its_row_only(tmp_path: Path) -> None:
    rows = "".join(f"a dog {i},{U[1]}\n" for i in range(2 * MOST_LINES))
    found, wrong = read(tmp_path, "l.csv", f'text,url\n"a cat,{U[0]}\n{rows}')
    assert (len(found), wrong.count) == (2 * MOST_LINES, 1)
    single, wrong = read(tmp_path, "p.csv", 'text\n"a cat\n' + "a dog\n" * 2 * MOST_LINES)
    assert (len(single), wrong.count) == (2 * MOST_LINES, 1)


def test_names_of_columns_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('"text" x,url\na,b\n')
    with pytest.raises(MemfixError, match=r"l\.csv:1 is not a row of a table"):
        read_prompts(str(tmp_path / "l.csv"), wrong=WrongRows(skip=True))


@pytest.mark.parametrize(
    "above", ["# of 2024\n", "#made by a tool, with commas\n# twice\n", "sep=;\n", "SEP=;\n# x\n", ""]
)
def test_what_stands_above_the_names_of_columns_is_none(tmp_path: Path, above: str) -> None:
    (tmp_path / "p.csv").write_text(f"{above}id;text\n1;an owl, asleep\n")
    assert [p.text for p in read_prompts(str(tmp_path / "p.csv"))] == ["an owl, asleep"]
    (tmp_path / "p.csv").write_text("#;text\n1;an owl\n")
    assert [p.text for p in read_prompts(str(tmp_path / "p.csv"))] == ["an owl"]
