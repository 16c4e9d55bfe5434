"""One judge for every stage: whole copies, parts that a prompt is known to copy, and what may be kept."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from memfix.errors import MemfixError
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import COARSE, Ssim, TiledL2, to_tensor
from memfix.records import Part, Reference, Sample, Score
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import NEAR_PART, Judge, KnownPart, is_distinct, known_parts
from tests.conftest import picture

NEVER = CopyRule(TiledL2(), -1.0, "nothing passes it")


@pytest.fixture
def references(tmp_path: Path) -> HeldReferences:
    picture(3).save(tmp_path / "r.png")
    picture(4).save(tmp_path / "other.png")
    listed = [Reference(file_name=n, path=str(tmp_path / n)) for n in ("other.png", "r.png")]
    return HeldReferences(listed, TiledL2())


def half_copied(seed: int) -> Image.Image:
    """The left half is the reference's; the right half is anything."""
    made = picture(seed)
    made.paste(picture(3).crop((0, 0, 32, 64)), (0, 0))
    return made


def sample(name: str, prompt_id: str = "p1", condition: str = "same") -> Sample:
    return Sample(file_name=name, text="t", prompt_id=prompt_id, condition=condition, seed=0, steps=1, guidance=1)


def parts(references: HeldReferences) -> dict[str, KnownPart]:
    before = [half_copied(10 + i) for i in range(4)]
    found = Judge(references, NEVER).conclude(
        Judge(references, NEVER).score([sample(f"{i}.png") for i in range(4)], before), to_tensor(before, COARSE)
    )
    assert [s.part is not None for s in found.scores] == [True] * 4
    return known_parts(found.scores, to_tensor(before, COARSE), references)


def test_a_known_part_is_found_in_a_single_sample_under_any_condition(references: HeldReferences) -> None:
    known = parts(references)
    assert list(known) == ["p1"] and list(known["p1"].names) == ["r.png"]
    judge = Judge(references, NEVER, known)
    listed = [sample("a.png"), sample("b.png", condition="shorten0"), sample("c.png"), sample("d.png", "p2")]
    scores = judge.score(listed, [half_copied(20), half_copied(21), picture(22), half_copied(23)])
    assert [s.copy_ for s in scores] == [True, True, False, False]  # nothing is known of the other prompt
    assert [s.shows for s in scores[:2]] == ["r.png"] * 2
    assert [judge.is_distinct(s, 0.0) for s in scores] == [False, False, True, True]
    assert not any(s.copy_ for s in Judge(references, NEVER).score(listed, [half_copied(20)] * 4))


def test_one_sample_with_a_known_part_is_a_copy_among_many(references: HeldReferences) -> None:
    """Fewer than a quorum agree after an unlearning; what is left of a part must be seen all the same."""
    images = [half_copied(20), *(picture(30 + i) for i in range(7))]
    scores = Judge(references, NEVER).score([sample(f"{i}.png") for i in range(8)], images)
    small = to_tensor(images, COARSE)
    assert sum(s.copy_ for s in Judge(references, NEVER).conclude(scores, small).scores) == 0
    found = Judge(references, NEVER, parts(references)).conclude(scores, small)
    assert [s.copy_ for s in found.scores] == [True] + [False] * 7


def test_concluding_twice_says_the_same(references: HeldReferences) -> None:
    images = [half_copied(10 + i) for i in range(4)]
    judge, small = Judge(references, NEVER, parts(references)), to_tensor(images, COARSE)
    once = judge.conclude(judge.score([sample(f"{i}.png") for i in range(4)], images), small)
    assert judge.conclude(once.scores, small) == once


def test_near_copies_of_a_part_are_not_kept() -> None:
    def score(known_part: float | None, copy: bool = False) -> Score:
        return Score(
            file_name="a.png", prompt_id="p", seed=0, reference="r", measures={"ssim": 0.1}, copy_=copy, detail=0.1,
            known_part=known_part, part=Part(reference="r", area=0.5, likeness=0.9) if copy else None,
        )  # fmt: skip

    rule = CopyRule.default(Ssim())
    assert [is_distinct(rule, score(v)) for v in (None, 0.1, NEAR_PART, 0.69)] == [True, True, False, False]
    assert not is_distinct(rule, score(0.9, copy=True))


@pytest.mark.parametrize(("measure", "close", "far"), [(Ssim(), 0.8, 0.1), (TiledL2(), 0.05, 0.6)])
def test_a_rule_reads_its_measure_the_right_way_round(measure: Ssim | TiledL2, close: float, far: float) -> None:
    rule = CopyRule.default(measure)
    assert rule.is_copy(close) and not rule.is_copy(far)
    assert rule.copies(torch.tensor([close, far])).tolist() == [True, False]
    assert rule.is_distinct(far) and not rule.is_distinct(close)
    assert rule.record().threshold == measure.threshold and rule.record().source.startswith(
        f"default of {measure.name}"
    )
    with pytest.raises(AttributeError):
        rule.threshold = 0.5  # set once


def test_a_measure_that_gives_no_number_is_no_finding(references: HeldReferences) -> None:
    """Held against a threshold, NaN passes none: the sample would be no copy."""
    features = references._features["tiled_l2"]
    features[:] = torch.nan
    with pytest.raises(MemfixError, match=r"tiled_l2 gives nan for a\.png"):
        Judge(references, NEVER).score([sample("a.png")], [picture(1)])


def test_samples_that_are_no_pictures_are_told(tmp_path: Path) -> None:
    """Blank ones always; noise where enough references say what detail pictures have."""
    listed = [Reference(file_name=f"{i}.png", path=str(tmp_path / f"{i}.png")) for i in range(24)]
    for i, reference in enumerate(listed):
        picture(i).save(reference.path)
    noise = Image.fromarray(torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy()).resize((32, 32), 0)
    blank = Image.new("RGB", (64, 64), (90, 90, 90))

    def broken(references: list[Reference], *images: Image.Image) -> float:
        judge = Judge(HeldReferences(references, TiledL2()), NEVER)
        scores = judge.score([sample(f"{i}.png") for i in range(len(images))], images)
        return judge.conclude(scores, to_tensor(images, COARSE)).broken

    assert broken(listed[:2], blank, blank, picture(50), noise) == 0.5
    assert broken(listed, blank, noise, picture(50), picture(51)) == 0.5


def test_a_sample_is_no_picture_from_three_times_the_detail_of_any_reference_on(tmp_path: Path) -> None:
    def stripes(step: int) -> Image.Image:
        rows = torch.tensor([100, 100 + step]).repeat(COARSE // 2)
        return Image.fromarray(rows[:, None, None].expand(COARSE, COARSE, 3).to(torch.uint8).numpy())

    listed = [Reference(file_name=f"{i}.png", path=str(tmp_path / f"{i}.png")) for i in range(24)]
    for i, reference in enumerate(listed):
        stripes(20 + i).save(reference.path)
    judge = Judge(HeldReferences(listed, TiledL2()), NEVER)

    def broken(step: int) -> float:
        image = stripes(step)
        return judge.conclude(judge.score([sample("0.png")], [image]), to_tensor([image], COARSE)).broken

    assert [broken(step) for step in (5, 8, 20, 43, 120, 140)] == [1, 0, 0, 0, 0, 1]
