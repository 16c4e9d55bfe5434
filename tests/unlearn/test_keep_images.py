"""How many ways of making keep images are tried; when a prompt is reworded, and when that would only hide what the
weights still hold."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim
from memfix.models import loading
from memfix.records import SAME, Pair, Reference, Sample, Score, Side, WitnessScore
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.unlearn.data.keep_images import Kept, keep_variants
from memfix.unlearn.data.sampler import Asked, Drawn, Sampler
from memfix.unlearn.rewording import reword
from memfix.variants.table import get_kinds
from tests.conftest import picture

TEXTS = {"p1": "owl by a", "p2": "cat by b"}


class Scripted(Sampler):
    """A sampler of the real pipeline's kind whose copies are given: prompt id → share of the seeds."""

    def __call__(self, wanted: Sequence[Asked], each: int, title: str) -> Iterator[Drawn]:
        for asked in wanted:
            name = asked.prompt_id if asked.condition == SAME else f"{asked.prompt_id}-{asked.condition}"
            for seed in range(each):
                made = Sample(
                    file_name=f"{name}-{seed}.png", text=asked.text, prompt_id=asked.prompt_id,
                    condition=asked.condition, seed=seed, steps=1, guidance=1,
                )  # fmt: skip
                score = Score(
                    file_name=made.file_name, prompt_id=asked.prompt_id, condition=asked.condition, seed=seed,
                    reference="r.png", measures={}, copy_=seed < COPIES.get(name, 0), detail=0.1,
                )  # fmt: skip
                yield Drawn(made, picture(seed), score)


COPIES: dict[str, int] = {}


@pytest.fixture
def sampler(model_folder: Path, tmp_path: Path) -> Scripted:
    COPIES.clear()
    picture(0).save(tmp_path / "r.png")
    references = HeldReferences([Reference(file_name="r.png", path=str(tmp_path / "r.png"))], Ssim())
    judge = Judge(references, CopyRule.default(Ssim()))
    return Scripted(
        loading.load(loading.locate(str(model_folder))), judge, DetectSettings(num_samples=4), Talk(quiet=True)
    )


def forget() -> list[Pair]:
    return [Pair(side=Side.FORGET, path="r.png", text=t, prompt_id=i, origin="reference") for i, t in TEXTS.items()]


def not_a_copy(score: Score) -> bool:
    return not score.copy_


def kept(sampler: Sampler, folder: Path, **settings: object) -> Kept:
    given = UnlearnSettings.model_validate(
        {"keep_variants": 3, "keep_enough": 1, "variant_kinds": "shorten", **settings}
    )
    return keep_variants(sampler, forget(), not_a_copy, given, get_kinds(given.variant_kinds), folder)


def test_variants_are_kept_where_they_are_no_copies(sampler: Scripted, tmp_path: Path) -> None:
    # of 3: "owl by" gives two copies, every wording of a cat three
    COPIES.update({"p1-shorten0": 2, "p2-shorten0": 3, "p2-shorten1": 3})
    found = kept(sampler, tmp_path / "variants")
    assert [(p.text, p.wording, p.kind, Path(p.path).name) for p in found.pairs] == [
        ("owl by a", None, "shorten", "p1-shorten0-2.png"),  # a wording that gave copies is not told
        *(("owl by a", "owl", "shorten", f"p1-shorten1-{seed}.png") for seed in range(3)),
    ]
    assert all(Path(p.path).is_file() for p in found.pairs)
    assert [(y.prompt_id, y.kind, y.samples, y.kept, y.copies, y.near_copies) for y in found.yields] == [
        ("p1", "shorten", 6, 4, 2, 0), ("p2", "shorten", 6, 0, 6, 0),
    ]  # fmt: skip
    assert kept(sampler, tmp_path / "none", keep_variants=0) == Kept()


def test_a_wording_that_a_witness_accuses_is_no_model_of_what_to_show(sampler: Scripted, tmp_path: Path) -> None:
    """Training would hold the prompt to its answers, and so teach the very picture that is to be forgotten."""
    accusing = WitnessScore(value=0.9, reference="r.png", copy_=True)

    class Disputed(Scripted):
        def __call__(self, wanted: Sequence[Asked], each: int, title: str) -> Iterator[Drawn]:
            for drawn in super().__call__(wanted, each, title):
                accused = drawn.sample.condition == "shorten0" and drawn.sample.seed == 0
                yield drawn._replace(
                    score=drawn.score.model_copy(update={"witnesses": {"structure": accusing}})
                    if accused
                    else drawn.score
                )

    disputing = Disputed(sampler.model, sampler.judge, sampler.settings, sampler.talk)
    given = UnlearnSettings.model_validate({"keep_variants": 3, "keep_enough": 1, "variant_kinds": "shorten"})
    made = keep_variants(
        disputing, forget(), lambda s: not s.accused, given, get_kinds("shorten"), tmp_path / "variants"
    )
    assert {p.wording for p in made.pairs if "shorten0" in p.path} == {None}
    assert {p.wording for p in made.pairs if "shorten1" in p.path} == {"owl", "cat"}


def test_ways_are_tried_until_there_is_enough(sampler: Scripted, tmp_path: Path) -> None:
    COPIES.update({"p2-shorten0": 3, "p2-shorten1": 3, "p2-guidance0": 1})
    found = kept(sampler, tmp_path / "variants", variant_kinds="shorten,guidance,noise", keep_enough=5)
    assert [(y.prompt_id, y.kind, y.kept) for y in found.yields] == [
        ("p1", "shorten", 6), ("p2", "shorten", 0), ("p2", "guidance", 5),
    ]  # fmt: skip
    assert {p.wording for p in found.pairs if p.kind == "guidance"} == {None}


def test_a_target_that_no_way_serves_is_told_of(
    sampler: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    COPIES.update({"p2-shorten0": 3, "p2-shorten1": 3})
    object.__setattr__(sampler, "talk", Talk())
    kept(sampler, tmp_path / "variants")
    told = capsys.readouterr().err
    assert "'cat by b' has no keep image" in told
    assert "owl" not in told


def test_only_what_is_unlearned_is_reworded(sampler: Scripted, tmp_path: Path) -> None:
    variants = kept(sampler, tmp_path / "variants").pairs
    COPIES["p2"] = 1  # the trained weights still give one
    decided, edit = reword(sampler, variants, 3, TEXTS.values())
    assert {r.text: (r.wording, r.applied, r.copies, r.samples) for r in decided} == {
        "owl by a": ("owl by", True, 0, 4),
        "cat by b": ("cat by", False, 1, 4),
    }
    assert edit is not None
    texts = {t: sampler.model.text.encode([t]).tokens for t in ("owl by a", "owl by", "cat by b", "")}
    before, wanted = texts["owl by a"], texts["owl by"]
    assert (edit(before) - wanted).norm() < 0.98 * (before - wanted).norm()  # 16 dimensions leave little room
    for other in ("cat by b", "owl by", ""):
        assert (edit(texts[other]) - texts[other]).norm() < 0.9 * (edit(before) - before).norm()


def test_nothing_is_reworded_while_everything_is_still_copied(sampler: Scripted, tmp_path: Path) -> None:
    variants = kept(sampler, tmp_path / "variants").pairs
    COPIES.update(p1=4, p2=4)
    decided, edit = reword(sampler, variants, 3, TEXTS.values())
    assert edit is None
    assert not any(r.applied for r in decided)
