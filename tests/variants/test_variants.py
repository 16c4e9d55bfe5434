"""Ways to get other pictures out of a prompt, on a real pipeline."""

from pathlib import Path

import pytest
import torch

from memfix.config.checks import DetectSettings
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.sampling import plan_samples
from memfix.records import SAME, Prompt
from memfix.variants.base import Subject, Variant
from memfix.variants.embeddings import DESCENT, NOISE, descent
from memfix.variants.table import VARIANT_KINDS, get_kinds

SETTINGS = DetectSettings(num_inference_steps=2, guidance_scale=3.0, mixed_precision="no")


@pytest.fixture(scope="module")
def subject(model_folder: Path) -> Subject:
    return Subject("an owl by a", loading.load(loading.locate(str(model_folder))), SETTINGS)


def magnitude(subject: Subject, tokens: torch.Tensor) -> float:
    """‖ε_θ(x_T, c) - ε_θ(x_T, ∅)‖² at the first sampling step, averaged over four seeds."""
    model = subject.model
    time = model.timesteps(SETTINGS.num_inference_steps)[0]
    x = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)])
    with torch.no_grad():
        answers = [
            model.denoiser.module(x, time, encoder_hidden_states=c.expand(4, -1, -1)).sample
            for c in (tokens, model.text.encode([""]).tokens)
        ]
    return float((answers[0] - answers[1]).square().flatten(1).sum(1).mean())


@pytest.mark.parametrize("name", list(VARIANT_KINDS))
@pytest.mark.slow
def test_each_way_departs_from_the_prompt_and_does_so_again(name: str, subject: Subject) -> None:
    variants, again = VARIANT_KINDS[name].vary(subject), VARIANT_KINDS[name].vary(subject)
    if name == "insert":  # the tiny tokenizer knows letters only
        assert all(len(word) == 1 for v in variants for word in str(v.wording).split() if word not in subject.text)
    assert variants
    for variant, same in zip(variants, again, strict=True):
        assert sum(part is not None for part in variant) == 1
        assert variant.wording != subject.text
        if variant.conditioning is not None and same.conditioning is not None:
            assert variant.conditioning.equals(same.conditioning).all()
            assert not variant.conditioning.equals(subject.conditioning).any()
        else:
            assert variant == same


def test_noise_grows(subject: Subject) -> None:
    tokens = subject.conditioning.tokens
    moved = [v.conditioning.tokens - tokens for v in VARIANT_KINDS["noise"].vary(subject) if v.conditioning is not None]
    spread = tokens.std()
    for size, shift in zip(NOISE, moved, strict=True):
        assert float(shift.std() / spread) == pytest.approx(size, rel=0.2)


def test_guidance_falls_to_none(subject: Subject) -> None:
    assert [v.guidance for v in VARIANT_KINDS["guidance"].vary(subject)] == [2.0, 1.0]
    unguided = Subject(subject.text, subject.model, SETTINGS.model_copy(update={"guidance_scale": 1.0}))
    assert VARIANT_KINDS["guidance"].vary(unguided) == []


@pytest.mark.slow
def test_descent_lowers_the_magnitude_score(subject: Subject) -> None:
    path = list(descent(subject))
    assert len(path) == max(DESCENT)
    scores = [magnitude(subject, tokens) for tokens in [subject.conditioning.tokens, *path]]
    assert scores[1] < scores[0]
    assert scores[-1] < 0.5 * scores[0]


def test_a_picture_is_sampled_from_the_embedding_that_is_given(subject: Subject) -> None:
    plan = plan_samples([Prompt(id="p", text=subject.text)], [3], steps=2, guidance=3.0)
    another = subject.model.text.encode(["another"])
    usual, given, other = (
        subject.model.sample(batch, "no", instead)[0].tobytes()
        for batch, instead in [
            (plan, None),
            (plan, {("p", SAME): another}),
            ([plan[0].model_copy(update={"text": "another"})], {("q", SAME): another}),
        ]
    )
    assert usual != given
    assert given == other


def test_ways_by_name() -> None:
    assert [w.name for w in get_kinds(None)] == list(VARIANT_KINDS)
    assert [w.name for w in get_kinds("noise, shorten")] == ["noise", "shorten"]
    with pytest.raises(MemfixError) as caught:
        get_kinds("shorten,nose")
    assert "noise" in str(caught.value.hint)
    assert Variant() == Variant(None, None, None)
