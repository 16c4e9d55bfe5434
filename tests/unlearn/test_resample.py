"""When a prompt is reworded, and when that would only hide what the weights still hold."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from memfix.config import DetectSettings
from memfix.console import Talk
from memfix.measures.gallery import Gallery
from memfix.measures.pixels import Ssim
from memfix.models import pipeline
from memfix.models.text import TextCache
from memfix.records import Pair, Prompt, Reference, Sample, Score, Side
from memfix.unlearn.resample import Sampler, keep_variants, reword
from tests.conftest import picture

TEXTS = {"p1": "owl by a", "p2": "cat by b"}


class Scripted(Sampler):
    """A sampler of the real pipeline's kind whose copies are given: prompt id → share of the seeds."""

    def __call__(self, prompts: Sequence[Prompt], each: int, title: str) -> Iterator[tuple[Sample, Image.Image, Score]]:
        for prompt in prompts:
            for seed in range(each):
                made = Sample(
                    file_name=f"{prompt.id}-{seed}.png", text=prompt.text, prompt_id=prompt.id, seed=seed, steps=1,
                    guidance=1,
                )  # fmt: skip
                copy = seed < COPIES.get(prompt.id, 0)
                yield (
                    made, picture(seed), Score(
                        file_name=made.file_name, prompt_id=prompt.id, seed=seed, reference="r.png", measures={},
                        copy_=copy, detail=0.1,
                    ),
                )  # fmt: skip


COPIES: dict[str, int] = {}


@pytest.fixture
def sampler(model_folder: Path, tmp_path: Path) -> Scripted:
    COPIES.clear()
    picture(0).save(tmp_path / "r.png")
    gallery = Gallery([Reference(file_name="r.png", path=str(tmp_path / "r.png"))], Ssim())
    return Scripted(
        pipeline.load(pipeline.locate(str(model_folder))), gallery, DetectSettings(num_samples=4), Talk(quiet=True)
    )


def forget() -> list[Pair]:
    return [Pair(side=Side.FORGET, path="r.png", text=t, prompt_id=i, origin="reference") for i, t in TEXTS.items()]


def not_a_copy(score: Score) -> bool:
    return not score.copy_


def test_variants_are_kept_where_they_are_no_copies(sampler: Scripted, tmp_path: Path) -> None:
    COPIES.update({"p1-v0": 2, "p2-v0": 3, "p2-v1": 3})  # of 3: "owl by" gives two copies, every wording of a cat three
    found = keep_variants(sampler, forget(), not_a_copy, 3, tmp_path / "variants")
    assert [(p.text, p.wording, Path(p.path).name) for p in found] == [
        ("owl by a", "owl by", "p1-v0-2.png"),
        *(("owl by a", "owl", f"p1-v1-{seed}.png") for seed in range(3)),
    ]
    assert all(Path(p.path).is_file() for p in found)
    assert keep_variants(sampler, forget(), not_a_copy, 0, tmp_path / "none") == []


def test_only_what_is_unlearned_is_reworded(sampler: Scripted, tmp_path: Path) -> None:
    variants = keep_variants(sampler, forget(), not_a_copy, 3, tmp_path / "variants")
    COPIES["p2"] = 1  # the trained weights still give one
    decided, edit = reword(sampler, variants, 3, TEXTS.values())
    assert {r.text: (r.wording, r.applied, r.copies, r.samples) for r in decided} == {
        "owl by a": ("owl by", True, 0, 4),
        "cat by b": ("cat by", False, 1, 4),
    }
    assert edit is not None
    texts = TextCache(sampler.pipe)
    texts.add(["owl by a", "owl by", "cat by b", ""])
    before, wanted = texts["owl by a"], texts["owl by"]
    assert (edit(before) - wanted).norm() < 0.95 * (before - wanted).norm()  # 16 dimensions leave little room
    for other in ("cat by b", "owl by", ""):
        assert (edit(texts[other]) - texts[other]).norm() < 0.9 * (edit(before) - before).norm()


def test_nothing_is_reworded_while_everything_is_still_copied(sampler: Scripted, tmp_path: Path) -> None:
    variants = keep_variants(sampler, forget(), not_a_copy, 3, tmp_path / "variants")
    COPIES.update(p1=4, p2=4)
    decided, edit = reword(sampler, variants, 3, TEXTS.values())
    assert edit is None
    assert not any(r.applied for r in decided)
