"""Where the list has too few other prompts, captions of training images and ordinary texts are held instead."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim
from memfix.models import loading
from memfix.records import Pair, Reference, Sample, Score, Side, WitnessScore
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.unlearn.data.pairs import short_of_prior
from memfix.unlearn.data.prior import EACH, ORDINARY, prior_pictures
from memfix.unlearn.data.sampler import Asked, Drawn, Sampler
from tests.conftest import picture

TARGET = Pair(side=Side.FORGET, path="r.png", text="owl by a", prompt_id="p1", origin="reference")
ACCUSED = WitnessScore(value=0.9, reference="r.png", copy_=True)


class Scripted(Sampler):
    """Every first sample of "a memory" is a copy, and every last one of "a doubt" disputed."""

    def __call__(self, wanted: Sequence[Asked], each: int, title: str) -> Iterator[Drawn]:
        for asked in wanted:
            for seed in range(each):
                made = Sample(
                    file_name=f"{asked.prompt_id}-{seed}.png", text=asked.text, prompt_id=asked.prompt_id, seed=seed,
                    steps=1, guidance=1,
                )  # fmt: skip
                score = Score(
                    file_name=made.file_name, prompt_id=asked.prompt_id, seed=seed, reference="r.png", measures={},
                    copy_=asked.text == "a memory" and seed == 0, detail=0.1,
                    witnesses={"structure": ACCUSED} if asked.text == "a doubt" and seed == each - 1 else {},
                )  # fmt: skip
                yield Drawn(made, picture(seed), score)


@pytest.fixture
def sampler(model_folder: Path, tmp_path: Path) -> Scripted:
    picture(0).save(tmp_path / "r.png")
    references = HeldReferences([Reference(file_name="r.png", path=str(tmp_path / "r.png"))], Ssim())
    judge = Judge(references, CopyRule.default(Ssim()))
    return Scripted(loading.load(loading.locate(str(model_folder))), judge, DetectSettings(num_samples=4), Talk())


def distinct(score: Score) -> bool:
    return not (score.copy_ or score.accused)


def test_captions_come_before_ordinary_texts_and_what_is_kept_already_is_not_asked_again(
    sampler: Scripted, tmp_path: Path
) -> None:
    captions = ["owl by a", "Owl  by A", "a caption", "a caption", "another"]
    made = prior_pictures(sampler, [TARGET.text], captions, distinct, 4, tmp_path / "prior").pairs
    assert list(dict.fromkeys(p.text for p in made)) == ["a caption", "another", *ORDINARY[:2]]
    assert len(made) == 4 * EACH and len({p.prompt_id for p in made}) == 4
    assert {(p.side, p.origin) for p in made} == {(Side.KEEP, "prior")}
    assert all(Path(p.path).is_file() for p in made)


def test_a_caption_that_gives_a_copy_is_never_held_and_told_of(
    sampler: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held to the model's own answers, it would be taught to stay what it is."""
    made = prior_pictures(sampler, [TARGET.text], ["a memory", "a doubt", "fine"], distinct, 3, tmp_path / "prior")
    assert {p.text for p in made.pairs} == {"fine"}
    assert made.copied == {"a memory": "r.png", "a doubt": "r.png"}
    told = " ".join(capsys.readouterr().err.split())
    assert "2 prompts that the list does not have gave copies" in told
    assert "'a memory' of r.png; 'a doubt' of r.png. They are not kept." in told


def test_there_are_as_many_as_are_missing() -> None:
    kept = [Pair(side=Side.KEEP, path="k", text=t, prompt_id=t, origin="control") for t in ("a", "b", "b")]
    own = Pair(side=Side.KEEP, path="k", text="owl by a", prompt_id="p1", origin="sample")
    assert short_of_prior([TARGET, own, *kept], 5) == 3
    assert short_of_prior([TARGET, *kept], 2) == short_of_prior([TARGET], 0) == 0


def test_ordinary_texts_are_of_many_kinds_and_enough() -> None:
    assert len(set(ORDINARY)) == len(ORDINARY) >= 24
