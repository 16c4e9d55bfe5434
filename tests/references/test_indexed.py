"""An index as reference set against the same references held in memory."""

import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.index.build import build, describe, prepare
from memfix.index.store import Store
from memfix.inputs.references import read_references
from memfix.inputs.tally import Tally
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import get_measure
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Descriptor, Pixels
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import detail
from memfix.measures.structure import Structure
from memfix.records import Prompt, Sample, Score
from memfix.references.background import background
from memfix.references.groups import sizes
from memfix.references.in_memory import HeldReferences
from memfix.references.indexed import IndexedReferences
from memfix.references.judge import Judge
from memfix.references.reference_set import ReferenceSet, fingerprint, open_references
from memfix.world import ALONE
from tests.conftest import picture
from tests.counting import Counting

N = 40


class Other(Pixels):
    """Another network of the same name and size, as far as anything but its identity says."""

    identity = "other weights"


class Named(Pixels):
    """A descriptor of another name."""

    name = "named"


def embedding(descriptor: Descriptor) -> Embedding:
    return Embedding(descriptor, 0.9, 0.1, "a test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in folders and a tar; captions of every second one, some of them shared."""
    root, rows = tmp_path / "pictures", []
    (root / "in").mkdir(parents=True)
    for i in range(N):
        name = f"in/{i}.png" if i % 3 else f"{i}.png"
        picture(i).save(root / name)
        if i % 2:
            rows.append(json.dumps({"file_name": name, "text": f"disc {i // 4}"}))
    (root / "metadata.jsonl").write_text("\n".join(rows))
    with tarfile.open(root / "more.tar", "w") as tar:
        for i in range(4):
            picture(1000 + i).save(tmp_path / f"t{i}.png")
            tar.add(tmp_path / f"t{i}.png", f"t{i}.png")
    return root


def indexed(folder: Path, descriptor: Descriptor | None = None, precision: Precision = Precision.FLOAT32) -> Path:
    out = folder.with_suffix(".index")
    descriptor = descriptor or Pixels()
    build(Store.create(out, folder, descriptor, precision, segment_size=7), folder, descriptor)
    return out


def generated() -> tuple[list[Sample], list[Image.Image]]:
    """Copies of references, plain and softened, and pictures of nothing in the set."""
    images = [picture(i).resize((48, 48)) for i in (0, 5, 17, 39, 1002)]
    images += [picture(i).point(lambda v: v * 0.9) for i in (3, 12)] + [picture(i) for i in range(500, 520)]
    samples = [
        Sample(file_name=f"{i}.png", text="t", prompt_id="p", seed=i, steps=1, guidance=1) for i in range(len(images))
    ]
    return samples, images


def judged(references: ReferenceSet) -> Judge:
    return Judge(references, CopyRule.default(references.measure))


def both(folder: Path, measure: Measure, **more: object) -> tuple[HeldReferences, IndexedReferences]:
    index = open_references(read_references(str(indexed(folder)), []), measure, index=folder.with_suffix(".index"))
    assert isinstance(index, IndexedReferences)
    return HeldReferences(read_references(str(folder), []), measure), index


def assert_close(found: Sequence[Score], wanted: Sequence[Score]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.measures == pytest.approx(b.measures, abs=2e-5)
        assert a.model_copy(update={"measures": {}}) == b.model_copy(update={"measures": {}})


def test_own_descriptor_scores_as_in_memory(folder: Path) -> None:
    samples, images = generated()
    held, index = both(folder, embedding(Pixels()))
    assert len(held) == len(index) == N + 4
    wanted = judged(held).score(samples, images)
    assert_close(judged(index).score(samples, images), wanted)
    assert_close(
        [s for i in range(0, 27, 4) for s in judged(index).score(samples[i : i + 4], images[i : i + 4])], wanted
    )
    assert wanted[4].reference == "more.tar/t2.png" and wanted[4].copy_
    assert [judged(index).is_distinct(s) for s in wanted] == [judged(held).is_distinct(s) for s in wanted]
    assert judged(index).score([], []) == []


def test_frames_behind_the_first_are_found_as_in_memory(folder: Path) -> None:
    """An index of first frames alone called copies of the others distinct, and their prompts clean."""
    first, *others = (picture(i) for i in (2000, 1500, 1501))
    first.save(folder / "in" / "pages.tif", save_all=True, append_images=others)
    (folder / "in" / "pages.txt").write_text("three pages")
    held_with, index = both(folder, embedding(Pixels()))
    held = HeldReferences(read_references(str(folder), []), embedding(Pixels()), WrongRows(skip=True))
    assert len(held) == len(index) == len(held_with) + 2
    samples, _ = generated()
    wanted, found = (judged(r).score(samples[:2], [o.resize((48, 48)) for o in others]) for r in (held, index))
    assert [s.reference for s in wanted] == ["in/pages.tif#2", "in/pages.tif#3"] and all(s.copy_ for s in wanted)
    assert [s.reference for s in found] == ["in/pages.tif#2", "in/pages.tif#3"]
    assert [s.measures for s in found] == [pytest.approx(s.measures, abs=2e-5) for s in wanted]
    assert all(s.copy_ for s in found)
    records = index.recorded(judged(index).rule, [s.reference for s in found])
    assert {r.text for r in records} == {"three pages"}
    assert [r.path for r in records][:2] == [str(folder / f"in/pages.tif#{n}") for n in (2, 3)]


def test_references_have_the_detail_of_their_pictures(folder: Path) -> None:
    held, index = both(folder, embedding(Pixels()))
    assert held.detail(99) == pytest.approx(detail(held.some(99)), abs=1e-6)
    assert sorted(index.detail(99)) == pytest.approx(sorted(held.detail(99)), abs=1e-6) and len(index.detail(5)) == 5


@pytest.mark.parametrize("measure", ["ssim", "tiled_l2"])
@pytest.mark.slow
def test_other_measures_decide_among_candidates(folder: Path, monkeypatch: pytest.MonkeyPatch, measure: str) -> None:
    samples, images = generated()
    held, index = both(folder, get_measure(measure))
    wanted = judged(held).score(samples, images)
    copies = [i for i, s in enumerate(wanted) if s.copy_]
    found = judged(index).score(samples, images)
    assert len(copies) >= 7 and [i for i, s in enumerate(found) if s.copy_] == copies
    assert_close([found[i] for i in copies], [wanted[i] for i in copies])
    # with every reference as candidate nothing is left to the descriptor
    monkeypatch.setattr("memfix.references.indexed.CANDIDATES", N + 10)
    _, index = both(folder, get_measure(measure))
    assert_close(judged(index).score(samples, images), wanted)
    assert background(index).values == pytest.approx(background(held).values, abs=1e-5)


def test_a_witness_looks_among_candidates_of_the_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memfix.references.indexed.CANDIDATES", N + 10)
    samples, images = generated()
    indexed(folder)
    measure = embedding(Pixels())
    index = open_references(
        read_references(str(folder.with_suffix(".index")), []), measure, folder.with_suffix(".index"),
        witnesses=[Structure()],
    )  # fmt: skip
    held = HeldReferences(read_references(str(folder), []), measure, witnesses=[Structure()])
    rules = [CopyRule.default(Structure())]
    found, wanted = (Judge(r, CopyRule.default(measure), witnesses=rules).score(samples, images) for r in (index, held))
    for a, b in zip(found, wanted, strict=True):
        assert a.witnesses["structure"].value >= b.witnesses["structure"].value - 1e-4  # it looks at more of them
        assert a.measures == pytest.approx(b.measures, abs=2e-5)
    assert found[0].witnesses["structure"].value == pytest.approx(1, abs=0.1)
    for references in (index, held):
        assert len(background(references, witness=Structure(), most=10).values) > 2


def test_an_embedding_that_the_index_does_not_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memfix.references.indexed.CANDIDATES", N + 10)
    samples, images = generated()
    held, index = both(folder, embedding(Named()))
    assert_close(judged(index).score(samples, images), judged(held).score(samples, images))
    assert background(index).values == pytest.approx(background(held).values, abs=1e-5)


def many(folder: Path, count: int = 30) -> None:
    """One picture again and again: as JPEG of many qualities and sizes, in folders, some byte by byte."""
    for i in range(count):
        if i % 5:
            resized = picture(3).resize((48 + 8 * (i % 3),) * 2)
            resized.save(folder / ("in" if i % 2 else "") / f"copy {i}.jpg", quality=40 + 2 * i)
        else:
            shutil.copy(folder / "3.png", folder / f"copy {i}.png")


@pytest.mark.parametrize("first", [1, 16])
@pytest.mark.parametrize(
    "measure", [get_measure("ssim"), embedding(Pixels()), embedding(Named())], ids=lambda m: m.name
)
@pytest.mark.slow
def test_background_is_that_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, first: int
) -> None:
    monkeypatch.setattr("memfix.references.numbered.FIRST_NEIGHBOURS", first)
    monkeypatch.setattr("memfix.references.links.FIRST_NEIGHBOURS", 4)
    monkeypatch.setattr("memfix.references.indexed.CANDIDATES", N + 40)
    _, plain = both(folder, measure)
    before = background(plain)
    many(folder)  # one picture is no unrelated picture
    held, index = both(folder, measure)
    wanted, found = background(held), background(index)
    assert len(wanted.values) == N + 4 and wanted.duplicates == found.duplicates == 30
    assert found.values == pytest.approx(wanted.values, abs=1e-5)
    assert found.values[-1] < 0.999 and found.values[-1] == pytest.approx(before.values[-1], abs=0.02)


def test_background_of_one_caption(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        picture(i).save(folder / f"{i}.png")
    (folder / "metadata.jsonl").write_text("\n".join(f'{{"file_name": "{i}.png", "text": "a"}}' for i in range(3)))
    for measure in (embedding(Pixels()), get_measure("ssim")):
        assert background(both(folder, measure)[1]).values == ()


@pytest.mark.parametrize(
    "measure", [get_measure("ssim"), embedding(Pixels()), embedding(Named())], ids=lambda m: m.name
)
def test_of_equal_pictures_the_first_counts(folder: Path, measure: Measure) -> None:
    for copy in ("z.png", "in/0.png", "b.png", "in/y.png"):
        shutil.copy(folder / "9.png", folder / copy)
    held, index = both(folder, measure)
    samples, _ = generated()
    wanted = judged(held).score(samples[:1], [picture(9)])
    assert wanted[0].reference == "9.png"
    assert_close(judged(index).score(samples[:1], [picture(9)]), wanted)


def test_half_precision_is_close(folder: Path) -> None:
    samples, images = generated()
    index = open_references([], embedding(Pixels()), index=indexed(folder, precision=Precision.FLOAT16))
    wanted = judged(HeldReferences(read_references(str(folder), []), index.measure)).score(samples, images)
    for a, b in zip(judged(index).score(samples, images), wanted, strict=True):
        assert a.reference == b.reference and a.measures["pixels"] == pytest.approx(b.measures["pixels"], abs=1e-3)


def test_pictures_are_described_once_and_only_the_nearest(folder: Path) -> None:
    out, samples, images = indexed(folder), *generated()
    counting = Counting()
    counting.name = "counting"  # so that it is not the index's own
    index = open_references([], embedding(counting), index=out)
    judged(index).score(samples[:1], images[:1])
    assert counting.seen == 1 + 8
    judged(index).score(samples[:1], images[:1])
    assert counting.seen == 2 + 8
    own = Counting()
    index = open_references([], embedding(own), index=out)
    judged(index).score(samples, images)
    assert own.seen == len(samples)


def test_what_is_recorded(folder: Path) -> None:
    for copy in ("twin.png", "twin again.png", "unseen.png"):
        shutil.copy(folder / "0.png", folder / copy)
    _, index = both(folder, get_measure("ssim"))
    held = judged(index).recorded(["twin.png", "in/1.png", "0.png", "more.tar/t1.png", "twin.png", "twin again.png"])
    assert [(r.file_name, r.text, r.group) for r in held] == [
        ("twin.png", "", "twin.png"), ("in/1.png", "disc 0", ""), ("0.png", "", "twin.png"),
        ("more.tar/t1.png", "", ""), ("twin again.png", "", "twin.png"), ("unseen.png", "", "twin.png"),
    ]  # fmt: skip
    assert held[1].path == str(folder / "in/1.png") and f"{folder}/more.tar#" in held[3].path
    assert judged(index).recorded() == []
    with pytest.raises(MemfixError, match=r"does not contain nothing\.png"):
        judged(index).recorded(["nothing.png"])


@pytest.mark.parametrize("first", [2, 8])
@pytest.mark.parametrize(
    "measure",
    [get_measure("ssim"), get_measure("tiled_l2"), embedding(Pixels()), embedding(Named())],
    ids=["ssim", "tiled_l2", "own", "another"],
)
@pytest.mark.slow
def test_a_finding_has_all_its_members(
    folder: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, first: int
) -> None:
    """Whichever of 31 copies came up, and however few neighbours are looked at: the group is that in memory."""
    monkeypatch.setattr("memfix.references.links.FIRST_NEIGHBOURS", first)
    many(folder)
    held, index = both(folder, measure)
    wanted = {r.group or r.file_name: set[str]() for r in judged(held).recorded()}
    for r in judged(held).recorded():
        wanted[r.group or r.file_name].add(r.file_name)
    for name in ("3.png", "in/copy 1.jpg"):
        groups = sizes(judged(index).recorded([name, "in/1.png"]))
        members = next(m for m in wanted.values() if name in m)
        assert groups[name] == len(members) >= 31
        assert {r.file_name for r in judged(index).recorded([name]) if r.group} == members
    # what a run wrote down, recorded again, is the same
    once = judged(index).recorded(["in/copy 1.jpg"])
    again = open_references([], measure, index=folder.with_suffix(".index"))
    assert judged(again).recorded([r.file_name for r in once]) == once


def test_only_what_came_up_is_looked_for(folder: Path) -> None:
    many(folder)
    counting = Counting()
    counting.name = "counting"
    index = open_references([], embedding(counting), index=indexed(folder))
    judged(index).recorded(["in/1.png"])
    assert counting.seen <= 8
    assert len(judged(index).recorded(["3.png"])) >= 31 and counting.seen < len(index)


@pytest.mark.parametrize("own_descriptor", [True, False])
def test_references_that_prompts_name_besides(folder: Path, tmp_path: Path, own_descriptor: bool) -> None:
    (tmp_path / "other" / "in").mkdir(parents=True)
    elsewhere = [tmp_path / "other" / name for name in ("0.png", "in/3.png")]  # names that the index has, too
    for i, path in enumerate(elsewhere):
        picture(2000 + i).save(path)
    paths = (*map(str, elsewhere), str(folder / "in/2.png"))
    prompts = [Prompt(id="p", text="discs", references=paths)]
    out = indexed(folder)
    measure = embedding(Pixels()) if own_descriptor else get_measure("tiled_l2")
    index = open_references(read_references(str(out), prompts, taken=Store.open(out)), measure, index=out)
    assert len(index) == N + 4 + 2
    samples, _ = generated()
    found = judged(index).score(samples[:3], [picture(2000), picture(2001), picture(2)])
    names = [s.reference for s in found]
    assert names == ["other/0.png", "in/3.png", "in/2.png"] and all(s.copy_ for s in found)
    held = judged(index).recorded(names)
    assert [(r.path, r.text) for r in held[:3]] == [(paths[0], "discs"), (paths[1], "discs"), (paths[2], "")]
    assert {r.group for r in held[3:]} == ({"other/0.png"} if own_descriptor else set())  # another disc like it
    # what a run wrote down opens the same set again
    again = open_references(held, measure, index=out)
    assert (
        len(again) == len(index)
        and judged(again).score(samples[:3], [picture(2000), picture(2001), picture(2)]) == found
    )
    assert len(background(again).values) == N + 6


def test_other_weights_are_refused(folder: Path) -> None:
    out = indexed(folder)
    with pytest.raises(MemfixError, match=r"16x16 RGB.*other weights") as caught:
        open_references([], embedding(Other()), index=out)
    assert f"memfix index {folder} --out" in caught.value.hint
    out = indexed(folder.rename(folder.with_name("second")), Other())
    with pytest.raises(MemfixError, match=r"other weights.*16x16 RGB"):
        open_references([], get_measure("ssim"), index=out)


def test_an_index_that_is_not_ready(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "unfinished.index"
    store, plan, _ = prepare(Store.create(out, folder, Pixels(), segment_size=7), folder)
    assert plan is not None
    next(describe(store, plan, Pixels(), ALONE, 8, 1, Tally()))
    assert read_references(str(out), []) == []
    with pytest.raises(MemfixError, match="is not finished") as caught:
        open_references([], get_measure("ssim"), index=out)
    assert caught.value.hint == f"Finish it with: memfix index {folder} --out {out}"
    empty = tmp_path / "empty.index"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    build(Store.create(empty, tmp_path / "broken", Pixels()), tmp_path / "broken", Pixels())
    with pytest.raises(MemfixError, match="contains no picture"):
        open_references([], get_measure("ssim"), index=empty)


def test_a_picture_that_is_gone_or_another(folder: Path) -> None:
    _, index = both(folder, embedding(Pixels()))
    samples, _ = generated()
    again = f"memfix index {folder} --out {folder.with_suffix('.index')}"
    os.utime(folder / "0.png", (1, 1))  # another time alone is no harm
    judged(index).score(samples[:1], [picture(0)])
    (folder / "in" / "5.png").unlink()
    with pytest.raises(MemfixError, match=r"in/5\.png is in .*pictures\.index, but not on disk") as caught:
        judged(index).score(samples[:1], [picture(5)])
    assert again in caught.value.hint
    kept = (folder / "in" / "7.png").stat().st_mtime_ns
    picture(77).save(folder / "in" / "7.png")
    os.utime(folder / "in" / "7.png", ns=(kept, kept))  # as a copy that keeps times does
    with pytest.raises(MemfixError, match=r"in/7\.png has changed") as caught:
        judged(index).score(samples[:1], [picture(7)])
    assert f"touch {folder / 'in' / '7.png'}; {again}" in caught.value.hint
    folder.rename(folder.with_name("moved"))
    with pytest.raises(MemfixError, match=r"in/8\.png cannot be read: there is no .*pictures") as caught:
        judged(index).score(samples[:1], [picture(8)])
    assert "memfix index FOLDER --out" in caught.value.hint


def test_fingerprints_follow_contents(folder: Path, tmp_path: Path) -> None:
    out = indexed(folder)
    own = read_references(str(folder), [])[:1]
    first = fingerprint(own, out)
    assert first == fingerprint(own, indexed(folder)) != fingerprint([], out) != fingerprint(own)
    picture(555).save(folder / "new.png")
    assert fingerprint(own, indexed(folder)) != first


def test_vectors_that_changed_are_another_set_of_references(folder: Path) -> None:
    """Samples are compared with the vectors, and against other ones no copy would be found."""
    out = indexed(folder)
    first = fingerprint([], out)
    for file in (out / "segments").glob("*.npy"):
        np.save(file, 0 * np.load(file))
    assert fingerprint([], out) != first


def shift(rows: Path) -> None:
    """One row more at the top: every vector of the segment gets the row before its own."""
    lines = rows.read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    rows.write_text(json.dumps(first | {"file_name": f"0{first['file_name']}"}) + "\n" + "".join(lines))


def drop_a_vector(vectors: Path) -> None:
    np.save(vectors, np.load(vectors)[:-1])


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize(
    ("suffix", "harm", "problem"),
    [
        (".jsonl", shift, "does not hold the rows"),
        (".jsonl", cut_short, "does not hold the rows"),
        (".jsonl", Path.unlink, "is missing"),
        (".npy", drop_a_vector, r"holds \[6, \d+\]"),
        (".npy", cut_short, "cannot be read"),
        (".npy", Path.unlink, "is missing"),
    ],
)
def test_segments_that_are_not_what_the_manifest_says_are_refused(
    folder: Path, suffix: str, harm: Callable[[Path], None], problem: str
) -> None:
    """Rows that shift against the vectors name other pictures as the nearest, so that no copy would be found."""
    out = indexed(folder)
    index = open_references([], embedding(Pixels()), index=out)
    file = out / "segments" / f"00000000{suffix}"
    harm(file)
    reading: list[Callable[[], object]] = [
        lambda: fingerprint([], out),
        lambda: indexed_again(folder),
        lambda: judged(index).score(*generated()),
    ]
    for read in reading:
        with pytest.raises(MemfixError, match=f"{re.escape(str(file))} .*{problem}") as caught:
            read()
        assert f"remove {out} and make the index again: memfix index {folder} --out {out}" in caught.value.hint


def indexed_again(folder: Path) -> None:
    """A new picture in the first segment, whose other vectors are taken over from the one that is replaced."""
    picture(333).save(folder / "0-new.png")
    indexed(folder)


def test_a_renamed_reference_and_another_caption_are_another_set(folder: Path) -> None:
    """A run names its references and shows their captions; what it says would no longer be true."""
    own = read_references(str(folder), [])
    first = fingerprint(own)
    assert fingerprint(reversed(own)) == first
    assert fingerprint([own[0].model_copy(update={"text": "another caption"}), *own[1:]]) != first
    renamed = Path(own[0].path).rename(folder / "0000 another name.png")
    assert fingerprint(read_references(str(folder), [])) != first
    renamed.rename(own[0].path)
    assert fingerprint(read_references(str(folder), [])) == first
