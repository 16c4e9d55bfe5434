"""References by number: those of an index first, then those that prompts name besides."""

import json
from pathlib import Path

import numpy as np
import pytest

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.index.build import build
from memfix.index.store import Store
from memfix.measures.descriptor import Pixels
from memfix.records import Reference
from memfix.references.numbered import IndexReferences
from memfix.world import ALONE
from tests.conftest import picture
from tests.index.test_walk import table
from tests.inputs.test_tars import png
from tests.inputs.test_tars import write as write_tar

TEXTS = ["disc", "disc", "ring", ""]


@pytest.fixture
def references(tmp_path: Path) -> IndexReferences:
    """Four in an index; of the two that are given besides, the index has the first one already."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        picture(i).save(folder / f"{i}.png")
    rows = [json.dumps({"file_name": f"{i}.png", "text": text}) for i, text in enumerate(TEXTS) if text]
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    picture(4).save(tmp_path / "other.png")
    store = Store.create(tmp_path / "index", folder, Pixels(), Precision.FLOAT32)
    store = build(store, folder, Pixels(), ALONE, workers=1).store
    known = Reference(file_name="1.png", path=str(Path(store.manifest.folder) / "1.png"), text="disc")
    return IndexReferences(
        store, Pixels(), [known, Reference(file_name="other", path=str(tmp_path / "other.png"), text="ring")]
    )


def test_the_index_counts_first_and_what_it_holds_counts_once(references: IndexReferences) -> None:
    assert len(references) == 5
    assert references.others.tolist() == [4]
    names = ["0.png", "1.png", "2.png", "3.png", "other"]
    assert [references.name(i) for i in range(5)] == names
    assert [references.number(name) for name in names] == [0, 1, 2, 3, 4]
    with pytest.raises(MemfixError, match=r"does not contain 9\.png"):
        references.number("9.png")


def test_captions_come_from_the_table_of_the_folder(references: IndexReferences) -> None:
    assert [(r.file_name, r.text) for r in references.records([4, 2, 3, 0])] == [
        ("other", "ring"), ("2.png", "ring"), ("3.png", ""), ("0.png", "disc"),
    ]  # fmt: skip


def test_frames_have_the_caption_of_their_file_and_are_opened_as_such(tmp_path: Path) -> None:
    (folder := tmp_path / "set").mkdir()
    picture(0).save(folder / "m.tif", save_all=True, append_images=[picture(1)])
    (folder / "m.txt").write_text("an owl\n")
    store = Store.create(tmp_path / "index", folder, Pixels(), Precision.FLOAT32)
    references = IndexReferences(build(store, folder, Pixels(), ALONE, workers=1).store, Pixels(), [])
    assert [(r.file_name, r.text) for r in references.records([0, 1])] == [("m.tif", "an owl"), ("m.tif#2", "an owl")]
    assert references.open([1])[0].tobytes() == picture(1).tobytes()


def test_captions_of_tables_and_tars_are_in_the_index(tmp_path: Path) -> None:
    (folder := tmp_path / "set").mkdir()
    table(folder / "a.parquet", [0, 1])
    write_tar(folder / "b.tar", [("1.png", png(2)), ("1.txt", b"a ring")])
    store = build(Store.create(tmp_path / "set.index", folder, Pixels()), folder, Pixels(), workers=1).store
    found = IndexReferences(store, Pixels(), []).records([2, 0, 1])
    assert [r.text for r in found] == ["a ring", "disc 0", "disc 1"]


def test_pictures_and_vectors_are_those_of_the_numbers(references: IndexReferences) -> None:
    order = [4, 0, 3]
    images = references.open(order)
    assert [image.tobytes() for image in images] == [picture(i).tobytes() for i in order]
    np.testing.assert_allclose(references.vectors(np.array(order)), Pixels()(images).numpy(), atol=1e-6)


def test_neighbours_are_those_of_the_whole_product(references: IndexReferences) -> None:
    vectors = Pixels()([picture(i) for i in range(5)]).numpy()
    found = references.neighbours(vectors, 3)
    product = vectors @ vectors.T
    np.testing.assert_array_equal(found.ids, np.argsort(-product, axis=1)[:, :3])
    assert found.ids[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.scores, -np.sort(-product, axis=1)[:, :3], atol=1e-5)


def test_what_shares_a_caption_or_is_one_picture_is_related(references: IndexReferences) -> None:
    """0 and 1 have one caption, 2 and 4 another; 3 has none and is one picture with 0."""
    pictures = {0: [0, 3], 3: [0, 3]}
    found = references.unrelated(np.arange(5), 4, lambda n: pictures.get(n, [n]))
    related = {0: {0, 1, 3}, 1: {0, 1}, 2: {2, 4}, 3: {0, 1, 3}, 4: {2, 4}}
    for number, row in enumerate(found.ids.tolist()):
        assert {i for i in row if i >= 0} == set(range(5)) - related[number], number
    vectors = references.vectors(np.arange(5))
    for number, (ids, scores) in enumerate(zip(found.ids, found.scores, strict=True)):
        real = ids >= 0
        np.testing.assert_allclose(scores[real], vectors[ids[real]] @ vectors[number], atol=1e-5)
        assert (np.diff(scores[real]) <= 0).all()
