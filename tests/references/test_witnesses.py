"""Witnesses: what the deciding measure does not see as a copy and another one does is disputed, and little else is."""

from pathlib import Path

import pytest
from PIL import Image, ImageFilter, ImageOps

from memfix.demo import REFERENCES
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim, TiledL2
from memfix.measures.structure import Structure
from memfix.records import Reference, Sample, Score
from memfix.references.altered import ALTERATIONS
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.references.witnesses import settle_witness
from tests.conftest import picture

SSIM = CopyRule.default(Ssim())


@pytest.fixture(scope="module")
def bundled() -> Judge:
    references = HeldReferences(read_references(str(REFERENCES), []), Ssim(), witnesses=[Structure()])
    return Judge(references, SSIM, witnesses=[settle_witness(references, Structure()).rule])


def samples(n: int) -> list[Sample]:
    return [
        Sample(file_name=f"{i}.png", text="t", prompt_id="p", seed=i, steps=1, guidance=1) for i in range(n)
    ]  # fmt: skip


def scored(judge: Judge, images: list[Image.Image]) -> list[Score]:
    return judge.score(samples(len(images)), images)


@pytest.mark.parametrize("way", ALTERATIONS)
def test_no_alteration_hides_a_copy_from_the_default_rule(bundled: Judge, way: str) -> None:
    pictures = [open_image(r.path) for r in bundled.references.recorded(SSIM)[1::8]]  # type: ignore[attr-defined]
    scores = scored(bundled, [ALTERATIONS[way](image, i) for i, image in enumerate(pictures)])
    assert all(s.copy_ or s.accused for s in scores)
    assert not any(bundled.is_distinct(s) for s in scores)
    if way in ("other hue", "shifted", "mirrored"):  # what ssim is blind to
        assert sum(not s.copy_ for s in scores) > len(scores) / 2


def test_unrelated_pictures_are_not_disputed(bundled: Judge) -> None:
    scores = scored(bundled, [picture(seed) for seed in range(40)])
    assert not any(s.copy_ or s.accused for s in scores)
    assert {*scores[0].witnesses} == {"structure"} and {*scores[0].measures} == {"ssim", "tiled_l2"}


def test_a_copy_is_not_disputed_and_scores_of_old_runs_can_be_read(bundled: Judge) -> None:
    score = scored(bundled, [open_image(REFERENCES / "poster-012.png")])[0]
    assert score.copy_ and score.witnesses["structure"].copy_ and not score.accused
    line = score.model_dump(by_alias=True, exclude={"witnesses"})
    assert Score.model_validate(line).witnesses == {}
    assert Score.model_validate_json(score.model_dump_json(by_alias=True)) == score


def listed(folder: Path, images: list[Image.Image], texts: list[str]) -> HeldReferences:
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")
    found = [Reference(file_name=f"{i}.png", path=str(folder / f"{i}.png"), text=t) for i, t in enumerate(texts)]
    return HeldReferences(found, TiledL2(), witnesses=[Structure()])


def drawings(n: int) -> list[Image.Image]:
    """Bundled posters of different captions."""
    return [open_image(REFERENCES / f"poster-{i:03}.png") for i in range(n)]


def test_a_threshold_is_the_measures_own_where_references_say_nothing_else(tmp_path: Path) -> None:
    witness = settle_witness(listed(tmp_path, drawings(10), [f"{i}" for i in range(10)]), Structure())
    assert witness.rule.threshold == 0.7
    assert witness.record.background and witness.record.background.references == 10


def test_unrelated_references_that_are_alike_make_a_threshold_stricter(tmp_path: Path) -> None:
    inverted = [ImageOps.invert(one).filter(ImageFilter.GaussianBlur(n)) for n, one in enumerate(drawings(3))]
    witness = settle_witness(listed(tmp_path, [*drawings(10), *inverted], [f"{i}" for i in range(13)]), Structure())
    background = witness.record.background
    assert background and 0.7 < background.closest < 0.95
    assert 0.7 < witness.rule.threshold < background.closest and background.false_alarms == pytest.approx(2 / 13)


def test_two_references_that_are_drawn_alike_make_no_witness_deaf_to_copies_of_others(tmp_path: Path) -> None:
    """Without this a recoloured copy passed as distinct, and its prompt as clean."""
    own, alike = drawings(10), ImageOps.invert(drawings(1)[0])
    references = listed(tmp_path, [*own, alike], [f"{i}" for i in range(11)])
    witness = settle_witness(references, Structure())
    scores = scored(Judge(references, CopyRule.default(TiledL2()), witnesses=[witness.rule]),
                    [ALTERATIONS["other hue"](one, i) for i, one in enumerate(own)])  # fmt: skip
    assert witness.rule.threshold == 0.7
    assert all(s.copy_ or s.accused for s in scores)


def test_recoloured_references_with_other_captions_make_no_witness_deaf(tmp_path: Path) -> None:
    recoloured = [ALTERATIONS["tinted"](one, i) for i, one in enumerate(drawings(5))]
    witness = settle_witness(listed(tmp_path, [*drawings(10), *recoloured], [""] * 15), Structure())
    assert witness.rule.threshold == 0.7
    assert witness.record.background
    assert (witness.record.background.references, witness.record.background.duplicates) == (5, 10)


def test_one_reference_has_no_background(tmp_path: Path) -> None:
    witness = settle_witness(listed(tmp_path, [picture(0)], ["a"]), Structure())
    assert witness.record.background is None
    assert witness.rule.threshold == 0.7
