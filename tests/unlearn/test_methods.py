"""Every method's combined gradient against a naive float64 computation: item by item, two backwards, flat vectors."""

import pytest
import torch
from naive import Naive
from tiny import Net, bank_of, gradient, taken
from torch import nn

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.models.room import Room
from memfix.unlearn.data.bank import Bank, Batch, Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import METHODS, check_data, get_method
from memfix.unlearn.objective.terms import View, siss_forget, siss_keep, uniform_forget
from memfix.unlearn.train.gradients import Gradients
from memfix.unlearn.train.ranks import Ranks

KINDS = ["epsilon", "v_prediction", "flow_prediction"]


def draw(bank: Bank, mixture: float = 0.5, seed: int = 3) -> Batch:
    prior = 0 if mixture == 1 else 3
    return bank.draw(Draw(seed), 10, prior, mixture, (0, len(bank.schedule)))


def of_method(
    name: str, settings: UnlearnSettings, bank: Bank, model: Net, low_pass: float | None = None,
    original: Net | None = None,
):  # fmt: skip
    """The batch that a method draws, and what its composition leaves in `.grad`."""
    method = METHODS[name]
    composition, bank = method.compose(settings), method.prepare(bank, settings)
    batch = draw(bank, composition.mixture(settings.mixture))
    weight, held = settings.resolved_prior_weight(), original.network if original else None
    view = View(bank.schedule.prediction_type, low_pass, settings.snr_gamma, weight, held)
    model.zero_grad()
    result = Gradients(composition, list(model.parameters()), model.network, view, Ranks(), Room())([batch])
    return batch, result, taken(model)


VARIANT_KINDS = [
    *((name, {}) for name in METHODS),
    ("siss", {"siss_mode": "no-is"}),
    ("siss", {"siss_mode": "bernoulli"}),
    ("siss", {"forget_norm": 3.0}),
    ("siss", {"mixture": 0.2}),
    ("siss", {"prior_loss_weight": 4.0}),
    ("erasediff", {"prior_loss_weight": 0.3}),
    ("siss", {"forget_cap": 1.6}),
    ("siss", {"siss_mode": "no-is", "forget_cap": 1.6}),
    ("siss", {"siss_mode": "bernoulli", "forget_cap": 1.6}),
    ("neggrad", {"forget_cap": 1.4}),
    ("bounded", {"forget_cap": 1.8, "forget_weight": 0.7}),
    ("vdu", {"forget_cap": 1.4}),
    ("erasediff", {"bome_eta": 2.0}),
    ("retrack", {"nearest_keep": 2, "forget_weight": 0.2}),
    ("surrogate", {"forget_weight": 0.3}),
    *((name, {"snr_gamma": 0.5, "forget_cap": 1.8}) for name in METHODS),
]


KEEPING = [
    *((name, {}) for name in METHODS if name not in ("neggrad", "vdu")),
    ("siss", {"siss_mode": "no-is"}),
    ("siss", {"siss_mode": "bernoulli", "snr_gamma": 0.5}),
    ("siss", {"mixture": 0.2, "prior_loss_weight": 0.5}),
]


def faint(size: float = 0.02) -> Net:
    """A network that answers next to nothing, so that about half of its errors are above that of 0."""
    model = Net()
    with torch.no_grad():
        for p in model.last.parameters():
            p.mul_(size)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "values"), VARIANT_KINDS, ids=lambda v: str(v))
def test_gradient_is_that_of_the_definition(name: str, values: dict, kind: str) -> None:
    model, bank, settings = Net(), bank_of(kind), UnlearnSettings(**values)
    if name in ("bounded", "vdu") and not values:
        model = faint()  # or the default cap, 1, would leave nothing of the forget side
    batch, _, found = of_method(name, settings, bank, model)
    naive = Naive(model, batch, kind, settings, bank)
    wanted = naive.combined(name)
    assert wanted.norm() > 1e-3
    if name in ("bounded", "vdu") or (name in ("neggrad", "siss") and settings.forget_cap):
        assert naive.gradient(naive.capped(settings.forget_cap or 1.0)).norm() > 1e-3
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.norm()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "values"), KEEPING, ids=lambda v: str(v))
def test_what_was_drawn_under_another_wording_is_held_to_the_models_answer(name: str, values: dict, kind: str) -> None:
    """Two of three keep pictures of the first target are; the original network is another one than that of now."""
    model, original, bank, settings = Net(), faint(0.5), bank_of(kind), UnlearnSettings(**values)
    batch, _, found = of_method(name, settings, bank, model, original=original)
    assert 0 < int(batch.reworded.sum()) < len(batch)
    wanted = Naive(model, batch, kind, settings, bank, original).combined(name)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.norm()))
    assert float((Naive(model, batch, kind, settings, bank).combined(name) - wanted).norm() / wanted.norm()) > 0.01


def test_a_cap_is_on_each_item_alone() -> None:
    """Of a faint network's items some are below the bound and go on, and some are past it."""
    model, bank = faint(), bank_of("epsilon")
    batch, _, found = of_method("vdu", UnlearnSettings(), bank, model)
    naive = Naive(model, batch, "epsilon", UnlearnSettings(), bank)
    nulls = [((m - g * z) / s).square().sum() for m, z, g, s in zip(
        batch.forget.noisy, batch.forget.clean, batch.forget.signal, batch.forget.noise, strict=True
    )]  # fmt: skip
    sides = naive.forget_sides()
    below = [i for i in sides if naive.error(batch.forget, i) < nulls[i]]
    assert 0 < len(below) < len(sides)
    wanted = -naive.gradient(sum(naive.error(batch.forget, i) for i in below) / len(sides))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.norm()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_low_pass_is_on_the_forget_side_alone(name: str, kind: str) -> None:
    model, bank = Net(), bank_of(kind)
    settings = UnlearnSettings(forget_cap=1.8, bome_eta=2.0, forget_ratio=1.0, forget_weight=1.0, prior_loss_weight=1.0)
    batch, _, found = of_method(name, settings, bank, model, low_pass=0.5)
    naive = Naive(model, batch, kind, settings, bank)
    whole = naive.combined(name)
    i = torch.arange(4, dtype=torch.float64)
    naive.filter = sum(torch.cos(2 * torch.pi * k * (i[:, None] - i) / 4) / 4 for k in (-1, 0, 1))
    wanted = naive.combined(name)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.norm()))
    assert bool((whole - wanted).norm() > 5e-4 * whole.norm()) is (name != "naive")


def test_routed_gradients_are_those_of_two_backwards_over_everything() -> None:
    """Two of ten items are ambiguous and pass twice; each of the others passes on one side."""
    model, bank, settings = Net(), bank_of("epsilon"), UnlearnSettings(prior_loss_weight=1.0)
    batch, (_, _, norms), _ = of_method("siss", settings, bank, model)
    assert model.seen == 10 + 2 + 3
    model.zero_grad()
    view = View("epsilon")
    sides = [siss_keep(batch, model.network, view), siss_forget(batch, model.network, view)]
    naive = Naive(model, batch, "epsilon", settings, bank)
    for side, whole in zip(sides, naive.importance(), strict=True):
        found, wanted = gradient(model, side).double(), naive.gradient(whole)
        assert float((found - wanted).norm() / wanted.norm()) < 1e-5
    assert norms.norm_keep == pytest.approx(float(naive.gradient(naive.importance()[0]).norm()), rel=1e-5)


def test_modes_agree_where_nothing_is_ambiguous() -> None:
    """Far apart, weights are one-hot: importance sampling is then the same as serving one's own side."""
    bank = bank_of("epsilon", scale=30.0)
    bank = Bank([bank.targets[0]], [], bank.texts, bank.schedule)
    results = []
    for mode in ("is", "bernoulli"):
        model = Net()
        results.append(of_method("siss", UnlearnSettings(siss_mode=mode, mixture=0.3), bank, model)[2])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-2)


def test_routing_spares_forward_passes() -> None:
    bank = bank_of("epsilon", scale=30.0)
    for mode, passes in (("is", 1), ("bernoulli", 1), ("no-is", 2)):
        model = Net()
        of_method("siss", UnlearnSettings(siss_mode=mode), bank, model)
        assert model.seen == passes * 10 + 3


def test_a_side_on_which_no_item_counts_passes_one() -> None:
    """Ranks that hold the weights in parts wait for each other in every pass, so none may leave one out."""
    bank = bank_of("epsilon", scale=30.0)
    bank, model = Bank([bank.targets[0]], [], bank.texts, bank.schedule), Net()
    batch = bank.draw(Draw(), 8, 0, 0.0, (0, 100))  # far from every image to forget
    siss_forget(batch, model.network, View("epsilon")).backward()
    assert model.seen == 1
    assert float(taken(model).norm()) == pytest.approx(0, abs=1e-6)


def test_every_item_passes_once() -> None:
    """The cost that the table tells: 10 items and 3 prior ones, forward and backward."""
    for name, method in METHODS.items():
        model = Net()
        batch, _, _ = of_method(name, UnlearnSettings(), bank_of("epsilon"), model)
        extra = 5 if name == "anchor" else 0
        if name != "siss":
            assert model.seen == 10 + len(batch.prior) + extra, name
        assert method.passes.startswith("1")


@pytest.mark.parametrize("kind", KINDS)
def test_surrogate_of_itself_is_plain_denoising(kind: str) -> None:
    bank = bank_of(kind)
    own = [Target(t.text, t.forget, t.keep, [a[None] for a in t.forget]) for t in bank.targets]
    bank = Bank(own, bank.prior, bank.texts, bank.schedule)
    late = (60, 100)  # σ > γ, so that the weight of time is 1
    batch = bank.draw(Draw(), 10, 0, 0.5, late)
    model, view = Net(), View(kind)
    plain, term = METHODS["neggrad"].compose(UnlearnSettings()), METHODS["surrogate"].compose(UnlearnSettings())
    assert plain.forget and term.forget
    found, wanted = (f(batch, model.network, view) for f in (term.forget, plain.forget))
    torch.testing.assert_close(found, wanted)
    found, wanted = gradient(model, found), gradient(model, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.norm()))


def test_uniform_answers_have_nothing_in_common_with_the_noise() -> None:
    """u as the real term draws it, u = -½ ∂‖0 - u‖²/∂0, against the noise of the same items, at all small shifts."""
    bank, noise, drawn = bank_of("epsilon"), [], []
    for number in range(40):
        batch = bank.draw(Draw(0, number), 20, 3, 0.5, (0, 100))
        items, answer = batch.forget_half, torch.zeros_like(batch.forget_half.noisy, requires_grad=True)
        (len(items) * uniform_forget(batch, lambda *_, answer=answer: answer, View("epsilon"))).backward()
        g, s = (v.float().reshape(-1, 1, 1, 1) for v in (items.signal, items.noise))
        noise.append(((items.noisy - g * items.clean) / s).flatten())
        drawn.append(-answer.grad.flatten() / 2)
    e, u = torch.stack(noise).double(), torch.stack(drawn).double()
    assert u.min() >= 0 and u.max() < 1
    for shift in range(-80, 81):
        near = e[:, max(0, shift) : e.shape[1] + min(0, shift)]
        for seen in (near, near.square()):
            both = torch.stack([seen.flatten(), u[:, max(0, -shift) :][:, : near.shape[1]].flatten()])
            assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / near.numel() ** 0.5


class Loud(nn.Module):
    """Answers `size` everywhere."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size))

    def network(self, noisy, t, conditioning):
        return self.size.expand_as(noisy)


@pytest.mark.parametrize(("size", "moved"), [(100.0, False), (0.01, True)])
def test_bounded_has_no_gradient_past_the_cap(size: float, moved: bool) -> None:
    model, batch = Loud(size), draw(bank_of("epsilon"))
    forget = METHODS["bounded"].compose(UnlearnSettings(forget_cap=1.5)).forget
    assert forget
    forget(batch, model.network, View("epsilon")).backward()
    assert bool(model.size.grad.abs() > 0) is moved


def test_forget_sides_that_are_climbed_are_told_with_their_own_sign() -> None:
    _, (keep, forget, norms), _ = of_method("siss", UnlearnSettings(), bank_of("epsilon"), Net())
    assert keep > 0 and forget > 0 and norms.scale < 0
    _, (_, forget, norms), _ = of_method("retrack", UnlearnSettings(), bank_of("epsilon"), Net())
    assert forget > 0 and norms.scale == 0.5


def test_data_that_a_method_lacks_is_missed_before_training() -> None:
    bank = bank_of("epsilon")
    bare = Bank([Target("a", bank.targets[0].forget)], [], bank.texts, bank.schedule)
    lacks = dict.fromkeys(METHODS, "keep") | {"neggrad": None, "vdu": "keep images or several checkpoints"}
    for name, word in lacks.items():
        if word is None:
            check_data(METHODS[name], bare)
            continue
        with pytest.raises(MemfixError, match=word) as caught:
            check_data(METHODS[name], bare)
        assert "--controls" in caught.value.hint
    check_data(METHODS["vdu"], bare, checkpoints=True)
    with pytest.raises(MemfixError, match="--parameter-prior needs keep images or several checkpoints"):
        check_data(METHODS["neggrad"], bare, prior=True)
    check_data(METHODS["neggrad"], bare, checkpoints=True, prior=True)
    keeping = Bank([Target("a", bank.targets[0].forget)], bank.prior, bank.texts, bank.schedule)
    for name, word in {
        "surrogate": "needs a surrogate",
        "anchor": "needs, for every memorized prompt, a variant",
    }.items():
        with pytest.raises(MemfixError, match=word):
            check_data(METHODS[name], keeping)
        check_data(METHODS[name], bank)


def test_anchors_need_prompts() -> None:
    with pytest.raises(MemfixError, match="a variant of it"):
        check_data(METHODS["anchor"], bank_of("epsilon", words=False))


def test_wrong_share() -> None:
    with pytest.raises(MemfixError, match="share"):
        METHODS["retrack"].compose(UnlearnSettings(forget_weight=1.5))


def test_unknown_method() -> None:
    with pytest.raises(MemfixError) as caught:
        get_method("sis")
    assert "siss" in caught.value.hint
