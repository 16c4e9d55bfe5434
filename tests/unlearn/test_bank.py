"""Seeded draws: shares, windows, what goes with what."""

from collections import Counter

import pytest
import torch
from tiny import Noise, Words, bank_of

from memfix.unlearn.bank import Bank, Batch, Target


def draw(window: tuple[int, int] = (0, 100), seed: int = 3, mixture: float = 0.5, **values) -> Batch:
    return bank_of("epsilon", **values).draw(torch.Generator().manual_seed(seed), 16, 4, mixture, window, seed)


@pytest.mark.parametrize(
    ("size", "mixture", "expected"),
    [(16, 0.5, 8), (4, 0.01, 1), (4, 0.99, 3), (10, 0.3, 3), (4, 0.0, 0), (4, 1.0, 4), (1, 1.0, 1)],
)
def test_mixture_is_stratified(size: int, mixture: float, expected: int) -> None:
    batch = bank_of("epsilon").draw(torch.Generator().manual_seed(0), size, 0, mixture, (0, 100))
    assert int(batch.from_forget.sum()) == expected
    assert batch.mixture == pytest.approx(expected / size)
    assert (len(batch.forget_half), len(batch.keep_half)) == (expected, size - expected)


def test_draws_are_seeded_and_stay_in_the_window() -> None:
    first, second = draw((75, 80)), draw((75, 80))
    torch.testing.assert_close(first.points.noisy, second.points.noisy, rtol=0, atol=0)
    assert first.points.t.min() >= 75
    assert first.points.t.max() < 80
    times = torch.cat([draw((75, 80), seed=s).prior.t for s in range(20)])
    assert times.min() < 20 and times.max() > 80  # what must survive must survive everywhere


def test_both_sides_of_an_item_share_time_and_noise() -> None:
    batch = draw()
    for side in (batch.keep, batch.forget, batch.prior):
        assert side.context is not None and len(side.context) == len(side)
    g, s = (v.float().reshape(-1, 1, 1, 1) for v in (batch.keep.signal, batch.keep.noise))
    torch.testing.assert_close(
        (batch.keep.noisy - g * batch.keep.clean) / s, (batch.forget.noisy - g * batch.forget.clean) / s,
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    for i, chosen in enumerate(batch.from_forget):
        side = batch.forget if chosen else batch.keep
        assert torch.equal(batch.points.noisy[i], side.noisy[i])
        assert torch.equal(batch.points.context[i], side.context[i])


def test_borrowed_keep_images_keep_their_text() -> None:
    bank = bank_of("epsilon")
    batch = draw()
    for i in range(16):
        a = next(t for t in bank.targets if any(torch.equal(batch.forget.clean[i], z) for z in t.forget))
        assert torch.equal(batch.forget.context[i], bank.texts[a.text])
        assert torch.equal(batch.keep.context[i], bank.texts[a.text if a.keep else "sky"])
        assert torch.equal(
            batch.stand_ins[i], a.stand_ins[[torch.equal(batch.forget.clean[i], z) for z in a.forget].index(True)]
        )
        assert any(torch.equal(batch.anchors[i], bank.texts[word]) for word in a.anchors)


def test_without_prompts_there_is_no_context() -> None:
    batch = draw(words=False)
    assert batch.points.context is batch.prior.context is batch.anchors is None
    assert batch.forget_half.context is batch.keep.join(batch.prior).context is None


def test_no_prompt_counts_for_more_because_it_has_more_pictures() -> None:
    def pictures(number: float, n: int) -> list[torch.Tensor]:
        return [torch.full((1, 1, 1), number)] * n

    targets = [Target("many", pictures(1, 300)), Target("one", pictures(2, 1))]
    prior = [("much", z) for z in pictures(3, 7)] + [("little", z) for z in pictures(4, 2)]
    bank = Bank(targets, prior, Words(), Noise("epsilon"))
    batch = bank.draw(torch.Generator().manual_seed(0), 400, 4000, 0.5, (0, 100))
    forgotten = Counter(batch.forget_half.clean.flatten().tolist())
    assert forgotten == {1.0: 100, 2.0: 100}  # targets take turns
    kept = Counter(batch.prior.clean.flatten().tolist())
    assert kept[3.0] == pytest.approx(2000, abs=100)
    borrowed = Counter(batch.keep_half.clean.flatten().tolist())
    assert borrowed[3.0] == pytest.approx(100, abs=30)
