"""Where prompts are in JSON documents, in the layouts that their projects publish."""

import json
from pathlib import Path
from typing import Any

import pytest

from memfix.errors import MemfixError
from memfix.inputs.captions import UNREAD_COLUMN
from memfix.inputs.json_lists import list_in, row_of
from memfix.inputs.links import read_links
from memfix.inputs.prompts import NOT_THERE, read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture


def write(folder: Path, data: Any, name: str = "p.json") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return str(folder / name)


COCO = {
    "info": {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "version": "1.0", "year": 2017},
    "licenses": [{"url": "http://creativecommons.org/1", "id": 1, "name": "Attribution"}],
    "images": [
        {"license": 1, "file_name": f"{i:012d}.jpg", "coco_url": f"http://images.cocodataset.org/val2017/{i:012d}.jpg",
         "height": 4, "width": 6, "date_captured": "2013-11-14 17:02:52", "flickr_url": f"http://farm.org/{i}_z.jpg",
         "id": i}
        for i in (1, 2)
    ],
    "annotations": [
        {"image_id": 2, "id": 11, "caption": "an owl on a gate"}, {"image_id": 1, "id": 12, "caption": "a red barge"},
        {"image_id": 2, "id": 13, "caption": "a gate with an owl"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("order", [list(COCO), ["images", "licenses", "info", "annotations"]])
def test_coco_joins_captions_and_images(tmp_path: Path, order: list[str]) -> None:
    data = {name: COCO[name] for name in order}
    path, tally = write(tmp_path / "annotations", data), Tally()
    first, second, third = read_prompts(path, tally=tally)
    assert [p.text for p in (first, second, third)] == ["an owl on a gate", "a red barge", "a gate with an owl"]
    assert first.urls == ("http://images.cocodataset.org/val2017/000000000002.jpg",)
    assert first.references == () and tally.altered[NOT_THERE] == 3
    assert {(link.url[-5:], link.text) for link in read_links(path)} == {
        ("2.jpg", "an owl on a gate"), ("1.jpg", "a red barge"), ("2.jpg", "a gate with an owl"),
    }  # fmt: skip
    (tmp_path / "val2017").mkdir()
    picture(2).save(tmp_path / "val2017/000000000002.jpg")
    first, second, _ = read_prompts(path)
    assert first.references == (str(tmp_path / "val2017/000000000002.jpg"),) and second.references == ()


def test_coco_without_captions_is_refused(tmp_path: Path) -> None:
    data = {**COCO, "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}]}
    with pytest.raises(MemfixError, match=r"p\.json:1 has no prompt text"):
        read_prompts(write(tmp_path, data))


BY_PICTURE = {
    "kohya": {"train/1.png": {"caption": "an owl"}, "train/2.png": {"tags": "cat, red", "train_resolution": [1, 2]}},
    "kohya on Windows": {"train\\1.png": {"caption": "an owl"}, "train\\2.png": {"caption": "cat, red"}},
    "kohya without endings": {"train/1": {"caption": "an owl"}, "train/2": {"tags": "cat, red"}},
    "diffusiondb": {"train/1.png": {"p": "an owl", "se": 1, "c": 7.0, "st": 50, "sa": "k_lms"},
                    "train/2.png": {"p": "cat, red", "se": 2}},
    "texts": {"train/1.png": "an owl", "train/2.png": "cat, red"},
    "lists": {"train/1.png": ["an owl"], "train/2.png": ["cat, red"]},
    "index": {"0": {"caption": "an owl", "file_name": "train/1.png"}, "1": {"caption": "cat, red"}},
}  # fmt: skip


@pytest.mark.parametrize("form", BY_PICTURE)
def test_objects_by_picture(tmp_path: Path, form: str) -> None:
    (tmp_path / "train").mkdir()
    picture(0).save(tmp_path / "train/1.png")
    owl, cat = read_prompts(write(tmp_path, BY_PICTURE[form]))
    assert (owl.text, cat.text) == ("an owl", "cat, red")
    assert [Path(r).name for r in owl.references] == ["1.png"] and cat.references == ()


def test_other_objects_are_no_lists(tmp_path: Path) -> None:
    for data in (
        {"a.png": 3},
        {"a.png": {"width": 3}},
        {"0": "an owl"},
        {"a": {"tags": "x"}},
        {"a": {"b": {"c": "d"}}},
    ):
        with pytest.raises(MemfixError, match="no list of prompts"):
            list_in(tmp_path / "p.json", data)


def test_a_text_inside_a_cell(tmp_path: Path) -> None:
    items = [
        {"id": 1, "url": "https://x.org/1.jpeg", "meta": {"prompt": "an owl", "negativePrompt": "blur"}},
        {"id": 2, "url": "https://x.org/2.jpeg", "meta": None},
        {"id": 3, "url": "https://x.org/3.jpeg", "meta": {"generation": {"Prompt": "a cat"}}},
    ]
    path = write(tmp_path, {"items": items, "metadata": {"nextCursor": "1"}})
    with pytest.raises(MemfixError, match=r"p\.json:2 has no prompt text"):
        read_prompts(path)
    owl, cat = read_prompts(path, wrong=WrongRows(skip=True))
    assert (owl.text, owl.urls, cat.text) == ("an owl", ("https://x.org/1.jpeg",), "a cat")
    lines = "".join(json.dumps(item) + "\n" for item in items[::2])
    (tmp_path / "p.jsonl").write_text(lines)
    (tmp_path / "lines.json").write_text(lines)  # an object a line, whatever it is called
    for name in ("p.jsonl", "lines.json"):
        assert [p.text for p in read_prompts(str(tmp_path / name))] == ["an owl", "a cat"]


def test_karpathys_splits(tmp_path: Path) -> None:
    sentences = [{"tokens": ["an", "owl"], "raw": "An owl.", "imgid": 0}, {"raw": "A bird."}]
    item = {"filepath": "val2014", "filename": "1.jpg", "imgid": 0, "split": "test", "sentences": sentences}
    assert row_of(item)["text"] == ["An owl.", "A bird."]
    (tmp_path / "val2014").mkdir()
    picture(0).save(tmp_path / "val2014/1.jpg")
    owl, bird = read_prompts(write(tmp_path, {"images": [item], "dataset": "coco"}))
    assert owl.references == bird.references == (str(tmp_path / "val2014/1.jpg"),)


def test_every_list_of_texts_counts() -> None:
    splits = {
        "train": [{"prompt": "a dog"}],
        "licences": [{"name": "x", "url": "http://x.org"}],
        "test": [{"prompt": "a cat"}],
    }
    assert list_in(Path("p.json"), splits) == [{"prompt": "a dog"}, {"prompt": "a cat"}]


def test_a_caption_of_kohya_has_its_tags_behind_it(tmp_path: Path) -> None:
    """As sd-scripts trains on it."""
    data = {"in/a.png": {"caption": "a cat", "tags": "cat, mat"}, "in/b": {"tags": "dog"}, "in/c": {"caption": "a hen"}}
    tally = Tally()
    found = read_prompts(write(tmp_path, data), tally=tally)
    assert [p.text for p in found] == ["a cat, cat, mat", "dog", "a hen"] and tally.altered == {NOT_THERE: 3}


def test_names_of_classes_are_no_prompts(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="contains no list of prompts"):
        read_prompts(write(tmp_path, {"classes": ["cat", "dog"], "labels": {"a": 0, "b": 1}}))


def coco(images: list[Any], annotations: list[Any]) -> dict[str, Any]:
    named = [{"id": number, "file_name": name} for number, name in images]
    return {"images": named, "annotations": [{"image_id": n, "caption": text} for n, text in annotations]}


def test_images_of_coco_without_a_caption_are_references(tmp_path: Path) -> None:
    for i, name in enumerate(["a.png", "b.png"]):
        picture(i).save(tmp_path / name)
    path = write(tmp_path, coco([(1, "a.png"), (2, "b.png")], [(1, "an owl")]))
    assert [(r.file_name, r.text) for r in read_references(path, [])] == [("a.png", "an owl"), ("b.png", "")]
    tally = Tally()
    (owl,) = read_prompts(path, tally=tally)
    assert owl.references == (str(tmp_path / "a.png"),) and tally.passed_over == {PassedOver.UNCAPTIONED: 1}


def test_ids_of_coco_are_one_picture_each(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    path = write(tmp_path, coco([("5", "a.png")], [(5, "an owl")]))
    assert read_prompts(path)[0].references == (str(tmp_path / "a.png"),)
    for read in (read_prompts, lambda path: read_references(path, [])):
        with pytest.raises(MemfixError, match=r"two images of the id 5: a\.png and b\.png"):
            read(write(tmp_path, coco([(5, "a.png"), ("5", "b.png")], [(5, "an owl")])))
    path, tally = write(tmp_path, coco([(1, "a.png")], [(7, "an owl")])), Tally()
    assert read_prompts(path, tally=tally)[0].references == () and tally.altered == {NOT_THERE: 1}


def test_pictures_in_a_list_beside_that_of_texts_are_references(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    path = write(tmp_path, {"prompts": [{"prompt": "an owl"}], "files": [{"file_name": "a.png"}]})
    assert [r.file_name for r in read_references(path, [], WrongRows(skip=True))] == ["a.png"]
    tally = Tally()
    assert [p.text for p in read_prompts(path, tally=tally)] == ["an owl"]
    assert tally.passed_over == {PassedOver.UNCAPTIONED: 1}


def test_a_picture_that_has_two_captions_under_one_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"a.png": "an owl", "a.png": "a cat"}')
    with pytest.raises(MemfixError, match=r"names the column 'a\.png' twice"):
        read_prompts(str(tmp_path / "p.json"))


def test_a_row_with_a_picture_and_without_a_text_is_a_picture_without_a_caption(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "p.csv").write_text("text,image\nan owl,\n,a.png\n,\n")
    tally = Tally()
    assert len(read_prompts(str(tmp_path / "p.csv"), tally=tally)) == 1
    assert tally.passed_over == {PassedOver.UNCAPTIONED: 1}


def test_keys_of_kohya_without_ending_and_folder_are_pictures(tmp_path: Path) -> None:
    """As sd-scripts writes meta_cap.json unless it is asked for whole paths; what is no picture is told."""
    for number, name in enumerate(["b.png", "c.png", "3.png"]):
        picture(number).save(tmp_path / name)
    data = {
        "b": {"caption": "a cat", "tags": "grass", "train_resolution": [8, 8]}, "c.png": {"caption": "a dog"},
        "3": {"caption": "an owl"}, "gone": {"caption": "a fox"}, "4": {"caption": "a hen"},
    }  # fmt: skip
    tally = Tally()
    prompts = read_prompts(write(tmp_path, data), tally=tally)
    assert {p.text: [Path(r).name for r in p.references] for p in prompts} == {
        "a cat, grass": ["b.png"], "a dog": ["c.png"], "an owl": ["3.png"], "a fox": [], "a hen": [],
    }  # fmt: skip
    assert tally.altered == {UNREAD_COLUMN: 1} and "p.json:4" in tally.warnings()[0]
    del data["gone"], data["4"]
    assert [r.file_name for r in read_references(write(tmp_path, data), [])] == ["b.png", "c.png", "3.png"]
