"""What folders say of their pictures: tables of imagefolders, texts beside pictures, and the names of folders."""

import os
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.captions import FIRST_LINE, OF_FOLDER, OF_NAME, beside, captions
from memfix.inputs.paths import OUTSIDE
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture


def folder_of(root: Path, pictures: list[str], texts: dict[str, str]) -> str:
    """A folder of pictures and of texts, by their names in it."""
    for number, name in enumerate(pictures):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / name)
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    return str(root)


def read(source: str) -> tuple[dict[str, list[str]], Tally]:
    """Names of pictures by prompt, and what was counted."""
    tally = Tally()
    prompts = read_prompts(source, tally=tally)
    return {p.text: [Path(r).name for r in p.references] for p in prompts}, tally


def test_of_several_lines_the_first_is_the_caption_and_that_is_told(tmp_path: Path) -> None:
    texts = {"a.txt": "\ufeff\n a red cat \r\na blue dog\n", "b.txt": "an owl\n\n"}
    found, tally = read(folder_of(tmp_path, ["a.png", "b.png"], texts))
    assert found == {"a red cat": ["a.png"], "an owl": ["b.png"]}
    assert tally.altered == {FIRST_LINE: 1} and "a.txt" in tally.warnings()[0]
    assert captions(tmp_path, ["a.png"]) == {"a.png": "a red cat"}


@pytest.mark.parametrize("empty", ["", " \n\t\n", "\ufeff"])
def test_an_empty_file_hides_no_caption(tmp_path: Path, empty: str) -> None:
    found, _ = read(folder_of(tmp_path, ["a.png"], {"a.txt": empty, "a.caption": "a cat"}))
    assert found == {"a cat": ["a.png"]}


def test_captions_that_differ_are_all_tried(tmp_path: Path) -> None:
    texts = {"a.txt": "cat, grass", "a.caption": "a cat on grass", "a.json": '{"caption": "a cat on grass", "id": 3}'}
    found, _ = read(folder_of(tmp_path, ["a.png"], texts))
    assert found == {"cat, grass": ["a.png"], "a cat on grass": ["a.png"]}


def test_json_beside_a_picture_may_be_about_something_else(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["a.png", "b.png"], {"a.json": '{"boxes": [', "b.json": '{"prompt": "a cat"}'})
    (tmp_path / "a.caption").write_text("a dog")
    assert read(folder)[0] == {"a dog": ["a.png"], "a cat": ["b.png"]}


def test_the_name_of_a_folder_of_kohya_is_the_caption_where_there_is_none(tmp_path: Path) -> None:
    pictures = ["10_sks dog/a.png", "10_sks dog/b.png", "dogs/c.png"]
    found, tally = read(folder_of(tmp_path, pictures, {"10_sks dog/b.txt": "a dog"}))
    assert found == {"sks dog": ["a.png"], "a dog": ["b.png"]}
    assert tally.altered == {OF_FOLDER: 1} and tally.passed_over[PassedOver.UNCAPTIONED] == 1


@pytest.mark.parametrize(
    ("captions_from", "wanted"),
    [
        (None, {"told": "b_2.png", "sks dog": "1_2.png"}),
        ("names", {"a red house": "a red house_0001.png", "told": "b_2.png", "1": "1_2.png"}),
        (
            "whole-names",
            {"a red house_0001": "a red house_0001.png", "told": "b_2.png", "1_2": "1_2.png", "_3": "_3.png"},
        ),
    ],
)  # fmt: skip
def test_names_of_pictures_are_captions_where_that_is_asked_for(
    tmp_path: Path, captions_from: str | None, wanted: dict[str, str]
) -> None:
    """As EveryDream and OneTrainer take them, where a picture has no caption otherwise."""
    names = ["a red house_0001.png", "b_2.png", "_3.png", "10_sks dog/1_2.png"]
    source = folder_of(tmp_path / "train", names, {"b_2.txt": "told"})
    tally = Tally()
    prompts = read_prompts(source, tally=tally, captions_from=captions_from)
    assert {p.text: Path(p.references[0]).name for p in prompts} == wanted
    assert tally.altered[OF_NAME] == (len(wanted) - 1 if captions_from else 0)
    references = read_references(source, [], captions_from=captions_from)
    assert {r.text: Path(r.path).name for r in references if r.text} == wanted
    if captions_from is None:
        for name in ("b_2.txt", "10_sks dog/1_2.png"):
            (tmp_path / "train" / name).unlink()
        with pytest.raises(MemfixError) as caught:
            read_prompts(source)
        assert "--captions-from" in caught.value.hint


def test_all_tables_of_an_imagefolder_count(tmp_path: Path) -> None:
    texts = {
        "metadata.csv": "file_name,text\na.png,a cat\n",
        "metadata.jsonl": '{"file_name": "b.png", "text": "a dog"}\n{"file_name": "a.png"}\n',
    }
    folder = folder_of(tmp_path, ["a.png", "b.png"], texts)
    with pytest.raises(MemfixError, match=r"metadata\.jsonl:2 has no prompt text"):
        read_prompts(folder)
    assert captions(tmp_path, ["a.png", "b.png"]) == {"a.png": "a cat", "b.png": "a dog"}
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "a dog"}\n')
    assert read(folder)[0] == {"a cat": ["a.png"], "a dog": ["b.png"]}


@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_picture_outside_of_a_folder_is_refused_or_told(tmp_path: Path, is_absolute: bool) -> None:
    picture(9).save(tmp_path / "private.png")
    name = str(tmp_path / "private.png") if is_absolute else "../private.png"
    text = f'{{"file_name": "{name}", "text": "a cat"}}\n{{"file_name": "a.png", "text": "a dog"}}\n'
    folder = folder_of(tmp_path / "set", ["a.png"], {"metadata.jsonl": text})
    with pytest.raises(MemfixError, match=r"metadata\.jsonl:1: the image .*private\.png is outside of the folder"):
        read_references(folder, [])
    wrong, tally = WrongRows(skip=True), Tally()
    assert [r.file_name for r in read_references(folder, [], wrong, tally=tally)] == ["a.png"]
    assert tally.passed_over[PassedOver.BROKEN] == 1
    tally = Tally()  # the table itself may name any picture, but says so
    assert len(read_references(f"{folder}/metadata.jsonl", [], tally=tally)) == 2
    assert tally.altered == {OUTSIDE: 1} and "private.png" in tally.warnings()[0]
    found, tally = read(folder)
    assert found == {"a cat": ["private.png"], "a dog": ["a.png"]} and tally.altered == {OUTSIDE: 1}


def test_a_link_in_a_folder_is_not_outside_of_it(tmp_path: Path) -> None:
    picture(9).save(tmp_path / "far.png")
    folder = folder_of(tmp_path / "set", ["a.png"], {"metadata.csv": "file_name,text\nlink.png,a cat\n"})
    (tmp_path / "set/link.png").symlink_to(tmp_path / "far.png")
    assert len(read_references(folder, [])) == 2
    assert not read(folder)[1].altered


@pytest.mark.parametrize(
    "name", ["a.TXT", "a.png.txt", "a.png.caption", "a.JSON", "a.cap", "a.caption.txt", "a.png.CAP"]
)
def test_other_names_of_captions(tmp_path: Path, name: str) -> None:
    text = '{"text": "a cat"}' if name.endswith("JSON") else "a cat"
    assert read(folder_of(tmp_path, ["a.png"], {name: text}))[0] == {"a cat": ["a.png"]}


def test_an_imagefolder_may_have_several_images_in_a_row(tmp_path: Path) -> None:
    text = '{"input_file_name": "a.png", "file_names": ["b.png", "c.png"], "text": "a cat"}\n'
    folder = folder_of(tmp_path, ["a.png", "b.png", "c.png"], {"metadata.jsonl": text})
    assert {*read(folder)[0]["a cat"]} == {"a.png", "b.png", "c.png"}
    assert {r.text for r in read_references(folder, [])} == {"a cat"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_caption_that_may_not_be_read_is_wrong(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["a.png"], {"a.txt": "a cat"})
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(MemfixError, match=r"a\.txt cannot be read"):
        read_prompts(folder)


@pytest.mark.parametrize("folder", ["plain", "10_cat"])
def test_a_pointer_of_git_lfs_beside_a_picture_is_refused_or_a_missing_caption(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "a.png"
    file.with_suffix(".txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(MemfixError, match=r"a\.txt is a pointer of Git LFS") as told:
        beside(file, WrongRows())
    assert "git lfs pull" in told.value.hint
    wrong = WrongRows(skip=True)
    assert beside(file, wrong, captions_from="names") == [] and wrong.count == 1
    file.with_suffix(".caption").write_text("a cat\n")
    assert beside(file, WrongRows(skip=True)) == ["a cat"]
