"""Seeded draws: shares, windows, what goes with what."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from tiny import Noise, Words, bank_of

from memfix.models.conditioning import Conditioning
from memfix.unlearn.data.bank import Bank, Batch, Target
from memfix.unlearn.data.draws import Draw


def draw(window: tuple[int, int] = (0, 100), seed: int = 3, mixture: float = 0.5, **values) -> Batch:
    return bank_of("epsilon", **values).draw(Draw(seed), 16, 4, mixture, window)


@pytest.mark.parametrize(
    ("size", "mixture", "expected"),
    [(16, 0.5, 8), (4, 0.01, 1), (4, 0.99, 3), (10, 0.3, 3), (4, 0.0, 0), (4, 1.0, 4), (1, 1.0, 1)],
)
def test_mixture_is_stratified(size: int, mixture: float, expected: int) -> None:
    batch = bank_of("epsilon").draw(Draw(), size, 0, mixture, (0, 100))
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
        assert side.conditioning is not None and len(side.conditioning) == len(side)
    g, s = (v.float().reshape(-1, 1, 1, 1) for v in (batch.keep.signal, batch.keep.noise))
    torch.testing.assert_close(
        (batch.keep.noisy - g * batch.keep.clean) / s, (batch.forget.noisy - g * batch.forget.clean) / s,
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    for i, chosen in enumerate(batch.from_forget):
        side = batch.forget if chosen else batch.keep
        assert torch.equal(batch.points.noisy[i], side.noisy[i])
        assert torch.equal(batch.points.conditioning.tokens[i], side.conditioning.tokens[i])


def test_borrowed_keep_images_keep_their_text() -> None:
    bank = bank_of("epsilon")
    batch = draw()
    for i in range(16):
        a = next(t for t in bank.targets if any(torch.equal(batch.forget.clean[i], z) for z in t.forget))
        assert torch.equal(batch.forget.conditioning.tokens[i], bank.texts[a.text])
        assert torch.equal(batch.keep.conditioning.tokens[i], bank.texts[a.text if a.keep else "sky"])
        assert torch.equal(
            batch.surrogates[i], a.surrogates[[torch.equal(batch.forget.clean[i], z) for z in a.forget].index(True)]
        )
        assert any(torch.equal(batch.anchors.tokens[i], bank.texts[word]) for word in a.anchors)


def test_an_item_tells_under_which_wording_its_keep_picture_was_drawn() -> None:
    bank = bank_of("epsilon")
    own = bank.targets[0]
    batch = bank.draw(Draw(3), 60, 0, 0.5, (0, 100))
    seen = set()
    for i, place in enumerate(batch.targets):
        if place:  # the other target borrows what was drawn under its own text
            assert not batch.reworded[i]
            continue
        wording = own.wordings[next(k for k, z in enumerate(own.keep) if torch.equal(batch.keep.clean[i], z))]
        seen.add(wording)
        assert bool(batch.reworded[i]) is (wording is not None)
        assert torch.equal(batch.wordings.tokens[i], bank.texts[wording or own.text])
        assert torch.equal(batch.keep.conditioning.tokens[i], bank.texts[own.text])
    assert seen == {"a long", None, "a"}
    assert bank.reworded == pytest.approx((2 / 3 + 0) / 2)


def test_without_prompts_there_is_no_conditioning() -> None:
    batch = draw(words=False)
    assert batch.points.conditioning is batch.prior.conditioning is batch.anchors is batch.wordings is None
    assert batch.forget_half.conditioning is batch.keep.join(batch.prior).conditioning is None


def test_no_prompt_counts_for_more_because_it_has_more_pictures() -> None:
    def pictures(number: float, n: int) -> list[torch.Tensor]:
        return [torch.full((1, 1, 1), number)] * n

    targets = [Target("many", pictures(1, 300)), Target("one", pictures(2, 1))]
    prior = [("much", z) for z in pictures(3, 7)] + [("little", z) for z in pictures(4, 2)]
    bank = Bank(targets, prior, Words(), Noise("epsilon"))
    batch = bank.draw(Draw(), 400, 4000, 0.5, (0, 100))
    forgotten = Counter(batch.forget_half.clean.flatten().tolist())
    assert forgotten == {1.0: 100, 2.0: 100}  # targets take turns
    kept = Counter(batch.prior.clean.flatten().tolist())
    assert kept == {3.0: 2000, 4.0: 2000}
    borrowed = Counter(batch.keep.clean.flatten().tolist())
    assert borrowed == {3.0: 200, 4.0: 200}


@pytest.mark.parametrize(("size", "passes", "ranks"), [(16, 40, 1), (2, 30, 2), (32, 20, 1), (10, 12, 4)])
def test_turns_go_on_from_step_to_step(size: int, passes: int, ranks: int) -> None:
    """After any number of steps no target was drawn twice more than another, whoever took which pass."""

    def pictures(number: int) -> list[torch.Tensor]:
        return [torch.full((1, 1, 1), float(number))]

    targets = [Target(str(i), pictures(i), pictures(100 + i)) for i in range(25)]
    bank = Bank(targets, [(str(i), *pictures(200 + i)) for i in range(7)], Words(), Noise("epsilon"))
    counts = [Counter(dict.fromkeys(range(first, last), 0)) for first, last in ((0, 25), (100, 125), (200, 207))]
    for step in range(passes):
        drawn = [bank.draw(Draw(5, step * ranks + i), size, 3, 0.5, (0, 100)) for i in range(ranks)]
        for batch in drawn:
            for count, items in zip(counts, (batch.forget_half, batch.keep_half, batch.prior), strict=True):
                count.update(items.clean.flatten().int().tolist())
        for count in counts:
            assert max(count.values()) - min(count.values()) <= 1


def test_a_draw_is_known_by_its_number_alone() -> None:
    bank = bank_of("epsilon")
    for number in (7, 2, 7):
        batch = bank.draw(Draw(1, number), 6, 2, 0.5, (0, 100))
        again = bank_of("epsilon").draw(Draw(1, number), 6, 2, 0.5, (0, 100))
        for side in ("keep", "forget", "prior"):
            assert torch.equal(getattr(batch, side).noisy, getattr(again, side).noisy)
    for other in (Draw(1, 3), Draw(2, 2), Draw(1, 2, "looks")):
        assert not torch.equal(
            bank.draw(other, 6, 2, 0.5, (0, 100)).keep.noisy, bank.draw(Draw(1, 2), 6, 2, 0.5, (0, 100)).keep.noisy
        )


def test_rounds_have_orders_of_their_own() -> None:
    rounds = [tuple(Draw(0, i).turns("forget", 10, 10)) for i in range(20)]
    assert all(sorted(r) == list(range(10)) for r in rounds)
    assert len(set(rounds)) == 20
    assert Draw(0, 3).turns("forget", 0, 10) == []


def test_streams_have_nothing_in_common() -> None:
    """At no small shift does one go with the other, neither for two purposes nor for neighbouring passes."""
    n, most = 20_000, 60
    noise = torch.randn(n, generator=Draw(0, 1).stream("noise"), dtype=torch.float64)
    for draw, name in ((Draw(0, 1), "uniform"), (Draw(0, 2), "uniform"), (Draw(1, 1), "uniform")):
        u = torch.rand(n, generator=draw.stream(name), dtype=torch.float64)
        for shift in range(-most, most + 1):
            e = noise[max(0, shift) : n + min(0, shift)]
            for seen in (e, e.square(), torch.exp(-(e[:-8].square() + e[8:].square()) / 2)):
                both = torch.stack([seen, u[max(0, -shift) :][: len(seen)]])
                assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / n**0.5


class Sized:
    """Texts for a network that is told sizes and crops: those of its own pictures are 0."""

    def stack(self, texts: Iterable[str]) -> Conditioning:
        words = Words().stack(texts)
        return replace(words, pooled=torch.ones(len(words), 3), time_ids=torch.zeros(len(words), 6))


def test_items_are_told_the_size_and_crop_of_their_pictures() -> None:
    """Those of the mixture in half of the draws, on both sides; a borrowed picture and a prior one their own."""
    bank = bank_of("epsilon")
    targets = [
        replace(target, frames=[torch.full((6,), 10.0 * k + i) for i in range(1, len(target.forget) + 1)])
        for k, target in enumerate(bank.targets, 1)
    ]
    bank = Bank(targets, bank.prior, Sized(), bank.schedule, [torch.full((6,), 91.0 + i) for i in range(4)])
    own = Counter[bool]()
    for n in range(20):
        batch = bank.draw(Draw(3, n), 16, 4, 0.5, (0, 100))
        told = [batch.forget.conditioning, batch.keep.conditioning, batch.prior.conditioning]
        forget, keep, prior = (c.time_ids[:, 0].tolist() for c in told)
        for i in range(16):
            target = targets[batch.targets[i]]
            place = next(j for j, z in enumerate(target.forget) if torch.equal(batch.forget.clean[i], z))
            assert forget[i] in (0.0, float(target.frames[place][0]))
            own[forget[i] > 0] += 1
            assert (keep[i] == forget[i]) if target.keep else keep[i] > 90
            assert bool(batch.alike[i]) is bool(target.keep)
        assert batch.anchors.time_ids[:, 0].tolist() == forget
        places = [next(j for j, (_, z) in enumerate(bank.prior) if torch.equal(x, z)) for x in batch.prior.clean]
        assert prior == [91.0 + place for place in places]
    assert 0.4 < own[True] / own.total() < 0.6
