"""Surrogates that the model makes, on a real pipeline."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim
from memfix.models import loading
from memfix.records import Pair, Reference, Sample, Score, Side
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.data.surrogates import LAST_TRIES, STRENGTHS, make_surrogates
from tests.conftest import picture


@pytest.fixture
def sampler(model_folder: Path, tmp_path: Path) -> Sampler:
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    references = HeldReferences([Reference(file_name="0.png", path=str(tmp_path / "0.png"))], Ssim())
    judge = Judge(references, CopyRule.default(Ssim()))
    settings = DetectSettings(num_inference_steps=10, guidance_scale=2.0, batch_size=2, mixed_precision="no")
    return Sampler(loading.load(loading.locate(str(model_folder))), judge, settings, Talk(quiet=True))


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    common = {"text": "owl by a", "prompt_id": "p1", "origin": "sample"}
    keep = {"side": Side.KEEP, "text": "owl by a", "prompt_id": "p1", "origin": "variant"}
    return [
        *(Pair(side=Side.FORGET, path=str(tmp_path / f"{i}.png"), **common) for i in range(3)),
        Pair(path=str(tmp_path / "2.png"), wording="owl", **keep),
        Pair(path=str(tmp_path / "2.png"), wording="owl by", **keep),
    ]


def test_more_noise_leaves_less_of_a_picture(sampler: Sampler) -> None:
    batch = [Sample(file_name="a.png", text="owl", prompt_id="p", seed=0, steps=10, guidance=2.0)]
    same, other = (
        [np.asarray(sampler.model.sample_from([picture(i)], batch, s, "no")[0], float) for s in (0.2, 0.6, 1.0)]
        for i in (0, 1)
    )
    apart = [np.abs(a - b).mean() for a, b in zip(same, other, strict=True)]
    assert apart[0] > apart[1] > apart[2]


@pytest.mark.slow
def test_noise_rises_until_a_surrogate_is_no_copy(sampler: Sampler, pairs: list[Pair], tmp_path: Path) -> None:
    asked: dict[str, int] = {}

    def distinct(score: Score) -> bool:
        """The first at once, the second after all strengths, under the empty prompt; the third never."""
        asked[score.file_name] = asked.get(score.file_name, 0) + 1
        return asked[score.file_name] > {"p1-0.png": 0, "p1-1.png": len(STRENGTHS)}.get(score.file_name, 99)

    found = make_surrogates(sampler, pairs, distinct, tmp_path / "surrogates")
    assert [Path(p.surrogate).name if p.surrogate else None for p in found] == [
        "p1-0.png", "p1-1.png", None, None, None,
    ]  # fmt: skip
    assert asked == {"p1-0.png": 1, "p1-1.png": len(STRENGTHS) + 1, "p1-2.png": len(STRENGTHS) + LAST_TRIES}
    batch = [Sample(file_name="owl.png", text="owl by", prompt_id="owl", seed=0, steps=10, guidance=2.0)]
    (wanted,) = sampler.model.sample_from([picture(0)], batch, STRENGTHS[0], "no")
    assert np.abs(np.asarray(Image.open(tmp_path / "surrogates/p1-0.png"), float) - np.asarray(wanted)).max() <= 2


def test_a_surrogate_that_is_there_stays(sampler: Sampler, pairs: list[Pair], tmp_path: Path) -> None:
    given = [p.model_copy(update={"surrogate": "mine.png"}) if n == 1 else p for n, p in enumerate(pairs)]
    found = make_surrogates(sampler, given, lambda _: True, tmp_path / "surrogates")
    assert [p.surrogate is not None for p in found] == [True, True, True, False, False]
    assert found[1].surrogate == "mine.png"


def test_the_bank_holds_them_beside_what_they_surrogate_for(
    sampler: Sampler, pairs: list[Pair], tmp_path: Path
) -> None:  # fmt: skip
    named = [p.model_copy(update={"surrogate": str(tmp_path / f"{2 - n}.png")}) for n, p in enumerate(pairs[:3])]
    latents = list(encode_pairs(sampler.model, named))
    bank = build_bank(sampler.model, named, latents)
    assert bank.has_surrogates
    (target,) = bank.targets
    for surrogate, latent in zip(target.surrogates, reversed(latents), strict=True):
        assert surrogate.shape == (1, *latent.shape)
        assert (surrogate[0] - latent).abs().max() < 1e-5
    assert not build_bank(sampler.model, pairs[:3], latents).has_surrogates
