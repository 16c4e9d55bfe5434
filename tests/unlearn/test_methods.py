"""Every method's combined gradient against a naive float64 computation: item by item, two backwards, flat vectors."""

import copy

import pytest
import torch
from tiny import Net, bank_of, taken
from torch import nn

from memfix.config import UnlearnSettings
from memfix.errors import MemfixError
from memfix.unlearn.bank import Bank, Batch, Target
from memfix.unlearn.methods import METHODS, check_data, check_settings, get_method
from memfix.unlearn.terms import View, siss_forget
from memfix.unlearn.trainer import _gradients

KINDS = ["epsilon", "v_prediction", "flow_prediction"]


def draw(bank: Bank, mixture: float = 0.5, seed: int = 3) -> Batch:
    prior = 0 if mixture == 1 else 3
    return bank.draw(torch.Generator().manual_seed(seed), 10, prior, mixture, (0, len(bank.schedule)), seed=seed)


def of_method(name: str, settings: UnlearnSettings, bank: Bank, model: Net, low_pass: float | None = None):
    """The batch that a method draws, and what its composition leaves in `.grad`."""
    method = METHODS[name]
    composition, bank = method.compose(settings), method.prepare(bank, settings)
    batch = draw(bank, composition.mixture(settings.mixture))
    view = View(bank.schedule.prediction_type, low_pass, settings.snr_gamma)
    model.zero_grad()
    result = _gradients(composition, [batch], list(model.parameters()), model.network, view)
    return batch, result, taken(model)


class Naive:
    """The definitions, spelt out. Nothing here is shared with the code under test but the drawn numbers."""

    def __init__(self, model: Net, batch: Batch, kind: str, settings: UnlearnSettings, bank: Bank) -> None:
        self.model, self.batch, self.kind, self.s, self.bank = (
            copy.deepcopy(model).double(),
            batch,
            kind,
            settings,
            bank,
        )
        self.n, self.filter = len(batch), None

    def answer(self, m, items, i, words=None):
        context = items.context if words is None else words
        return self.model(m[None], items.t[i : i + 1], None if context is None else context[i : i + 1].double())[0][0]

    def wanted(self, m, z, g, s):
        eps = (m - g * z) / s
        return {"epsilon": eps, "v_prediction": g * eps - s * z, "flow_prediction": eps - z}[self.kind]

    def size(self, residual, items, i):
        if self.filter is not None:
            residual = self.filter @ residual @ self.filter.T
        return self.weight(float(items.signal[i]), float(items.noise[i])) * (residual**2).sum()

    def weight(self, g, s):
        if self.s.snr_gamma is None:
            return 1.0
        snr = (g / s) ** 2
        per_picture = {"epsilon": snr, "v_prediction": 1 / s**2, "flow_prediction": 1 / s**2}[self.kind]
        return min(snr, self.s.snr_gamma) / per_picture

    def error(self, items, i, z=None, m=None):
        m = items.noisy[i].double() if m is None else m
        z = items.clean[i].double() if z is None else z
        return self.size(self.answer(m, items, i) - self.wanted(m, z, items.signal[i], items.noise[i]), items, i)

    def keep_sides(self):
        return [i for i in range(self.n) if not self.batch.from_forget[i]]

    def forget_sides(self):
        return [i for i in range(self.n) if self.batch.from_forget[i]]

    def prior(self):
        total, kept = 0.0, self.filter
        self.filter = None  # a low-pass is for the forget side
        for i in range(len(self.batch.prior)):
            total = total + self.error(self.batch.prior, i) / self.n
        self.filter = kept
        return total

    def keep(self):
        kept, self.filter = self.filter, None
        total = sum(self.error(self.batch.keep, i) for i in self.keep_sides()) / len(self.keep_sides())
        self.filter = kept
        return total + self.prior()

    def forget(self):
        return sum(self.error(self.batch.forget, i) for i in self.forget_sides()) / len(self.forget_sides())

    def both(self):
        b = self.batch
        return sum(self.error(b.keep, i) for i in range(self.n)) / self.n + self.prior(), sum(
            self.error(b.forget, i) for i in range(self.n)
        ) / self.n

    def importance(self):
        b, share = self.batch, len(self.forget_sides()) / self.n
        keep, forget = self.prior(), 0.0
        for i in range(self.n):
            side = b.forget if b.from_forget[i] else b.keep
            m, g, s = side.noisy[i].double(), side.signal[i], side.noise[i]
            x, a = b.keep.clean[i].double(), b.forget.clean[i].double()
            ratio = torch.exp((((m - g * x) ** 2).sum() - ((m - g * a) ** 2).sum()) / (2 * s**2))  # q(m|a) / q(m|x)
            residual = self.answer(m, side, i)
            kept, self.filter = self.filter, None
            keep = (
                keep + self.size(residual - self.wanted(m, x, g, s), side, i) / ((1 - share) + share * ratio) / self.n
            )
            self.filter = kept
            forget = (
                forget + self.size(residual - self.wanted(m, a, g, s), side, i) / ((1 - share) / ratio + share) / self.n
            )
        return keep, forget

    def capped(self, cap):
        total = 0.0
        for i in self.forget_sides():
            f = self.batch.forget
            null = self.size(self.wanted(f.noisy[i].double(), f.clean[i].double(), f.signal[i], f.noise[i]), f, i)
            e = self.error(f, i)
            total = total + (e if e < cap * null else 0 * e)
        return total / len(self.forget_sides())

    def uniform(self):
        f, total = self.batch.forget, 0.0
        u = torch.rand((len(self.forget_sides()), *f.clean.shape[1:]), generator=torch.Generator().manual_seed(3))
        for j, i in enumerate(self.forget_sides()):
            m, g, s = f.noisy[i].double(), f.signal[i], f.noise[i]
            a = self.answer(m, f, i)
            eps = {"epsilon": a, "v_prediction": s * m + g * a, "flow_prediction": m + g * a}[self.kind]
            total = total + self.size(eps - u[j].double(), f, i)
        return total / len(self.forget_sides())

    def neighbours(self):
        """The K-target form: Σ_k w_k ‖ε(a_t; x_k) - ε_θ(a_t)‖²; its gradient is that of the one-target form."""
        f, total = self.batch.forget, 0.0
        for i in self.forget_sides():
            m, g, s, a = f.noisy[i].double(), f.signal[i], f.noise[i], f.clean[i]
            target = next(t for t in self.bank.targets if any(torch.equal(a, z) for z in t.forget))
            pool = target.keep or [z for _, z in self.bank.prior]
            near = sorted(pool, key=lambda z, a=a: float(((z - a) ** 2).sum()))[: self.s.neighbours]
            p = [torch.exp(-((m - g * z.double()) ** 2).sum() / (2 * s**2)) for z in near]
            total = total + sum(q / sum(p) * self.error(f, i, z.double()) for q, z in zip(p, near, strict=True))
        return total / len(self.forget_sides())

    def surrogate(self):
        f, total = self.batch.forget, 0.0
        for i in self.forget_sides():
            weight = min(1.0, float(f.noise[i] ** 2 / f.signal[i] ** 2))
            total = total + weight * self.error(f, i, self.batch.stand_ins[i][0].double())
        return total / len(self.forget_sides())

    def anchor(self):
        b, total = self.batch, 0.0
        for i in self.forget_sides():
            m = b.keep.noisy[i].double()
            wanted = self.answer(m, b.keep, i, b.anchors).detach()
            total = total + self.size(self.answer(m, b.keep, i, b.forget.context) - wanted, b.keep, i)
        return total / len(self.forget_sides())

    def gradient(self, loss):
        parts = torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True, allow_unused=True)
        pairs = zip(parts, self.model.parameters(), strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    def combined(self, name: str) -> torch.Tensor:
        g, s = self.gradient, self.s
        match name:
            case "siss":
                sides = {"is": self.importance, "no-is": self.both, "bernoulli": lambda: (self.keep(), self.forget())}
                keep, forget = map(g, sides[s.siss_mode]())
                length = s.forget_norm or s.forget_ratio * keep.norm()
                return keep - length * forget / forget.norm()
            case "naive":
                return g(self.keep())
            case "neggrad":
                return -g(self.forget() if s.forget_cap is None else self.capped(s.forget_cap))
            case "bounded":
                return g(self.keep()) - (s.forget_weight or 0.2) * g(self.capped(s.forget_cap or 1.0))
            case "erasediff":
                keep, forget = g(self.keep()), g(self.uniform())
                return keep + max(s.bome_eta - float(keep @ forget / (forget @ forget)), 0) * forget
            case "retrack":
                w = s.forget_weight or 0.5
                return (1 - w) * g(self.keep()) + w * g(self.neighbours())
            case "surrogate":
                keep, forget = g(self.keep()), g(self.surrogate())
                return keep + (s.forget_weight or 1) * (
                    forget - min(0.0, float(forget @ keep)) / float(keep @ keep) * keep
                )
            case "anchor":
                return g(self.keep()) + (s.forget_weight or 1) * g(self.anchor())
            case "vdu":
                return -g(self.capped(s.forget_cap or 1.0))
        raise AssertionError(f"{name} has no naive form")


VARIANTS = [
    *((name, {}) for name in METHODS),
    ("siss", {"siss_mode": "no-is"}),
    ("siss", {"siss_mode": "bernoulli"}),
    ("siss", {"forget_norm": 3.0}),
    ("siss", {"mixture": 0.2}),
    ("neggrad", {"forget_cap": 1.4}),
    ("bounded", {"forget_cap": 1.8, "forget_weight": 0.7}),
    ("vdu", {"forget_cap": 1.4}),
    ("erasediff", {"bome_eta": 2.0}),
    ("retrack", {"neighbours": 2, "forget_weight": 0.2}),
    ("surrogate", {"forget_weight": 0.3}),
    *((name, {"snr_gamma": 0.5, "forget_cap": 1.8}) for name in METHODS),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "values"), VARIANTS, ids=lambda v: str(v))
def test_gradient_is_that_of_the_definition(name: str, values: dict, kind: str) -> None:
    model, bank, settings = Net(), bank_of(kind), UnlearnSettings(**values)
    batch, _, found = of_method(name, settings, bank, model)
    wanted = Naive(model, batch, kind, settings, bank).combined(name)
    assert wanted.norm() > 1e-3 or (name, values) == ("vdu", {})  # an untrained network is past its cap everywhere
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.norm()))


@pytest.mark.parametrize("name", ["siss", "bounded", "retrack", "erasediff"])
def test_low_pass_is_on_the_forget_side_alone(name: str) -> None:
    model, bank, settings = Net(), bank_of("epsilon"), UnlearnSettings(forget_cap=1.8)
    batch, _, found = of_method(name, settings, bank, model, low_pass=0.5)
    naive = Naive(model, batch, "epsilon", settings, bank)
    i = torch.arange(4, dtype=torch.float64)
    naive.filter = sum(torch.cos(2 * torch.pi * k * (i[:, None] - i) / 4) / 4 for k in (-1, 0, 1))
    torch.testing.assert_close(found.double(), naive.combined(name), rtol=1e-4, atol=1e-3)


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
    batch = bank.draw(torch.Generator().manual_seed(0), 8, 0, 0.0, (0, 100))  # far from every image to forget
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


def test_surrogate_of_itself_is_plain_denoising() -> None:
    bank = bank_of("epsilon")
    own = [Target(t.text, t.forget, t.keep, [a[None] for a in t.forget]) for t in bank.targets]
    bank = Bank(own, bank.prior, bank.texts, bank.schedule)
    late = (60, 100)  # σ > γ, so that the weight of time is 1
    batch = bank.draw(torch.Generator().manual_seed(0), 10, 0, 0.5, late)
    model, view = Net(), View("epsilon")
    plain, term = METHODS["neggrad"].compose(UnlearnSettings()), METHODS["surrogate"].compose(UnlearnSettings())
    assert plain.forget and term.forget
    torch.testing.assert_close(term.forget(batch, model.network, view), plain.forget(batch, model.network, view))


class Loud(nn.Module):
    """Answers `size` everywhere."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size))

    def network(self, noisy, t, context):
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
    lacks = dict.fromkeys(METHODS, "keep") | {"neggrad": None, "vdu": "keep images, or several checkpoints"}
    for name, word in lacks.items():
        if word is None:
            check_data(METHODS[name], bare)
            continue
        with pytest.raises(MemfixError, match=word) as caught:
            check_data(METHODS[name], bare)
        assert "--controls" in caught.value.hint
    check_data(METHODS["vdu"], bare, checkpoints=True)
    keeping = Bank([Target("a", bank.targets[0].forget)], bank.prior, bank.texts, bank.schedule)
    for name, word in {"surrogate": "stand-in", "anchor": "wording"}.items():
        with pytest.raises(MemfixError, match=word):
            check_data(METHODS[name], keeping)
        check_data(METHODS[name], bank)


def test_anchors_need_prompts() -> None:
    with pytest.raises(MemfixError, match="wording"):
        check_data(METHODS["anchor"], bank_of("epsilon", words=False))


def test_stand_ins_are_for_those_that_look_at_them() -> None:
    settings = UnlearnSettings(stand_ins="pictures")
    check_settings(METHODS["surrogate"], settings)
    with pytest.raises(MemfixError, match="'siss' takes no stand-ins") as caught:
        check_settings(METHODS["siss"], settings)
    assert "--method surrogate" in caught.value.hint
    check_settings(METHODS["siss"], UnlearnSettings())


def test_wrong_share() -> None:
    with pytest.raises(MemfixError, match="share"):
        METHODS["retrack"].compose(UnlearnSettings(forget_weight=1.5))


def test_unknown_method() -> None:
    with pytest.raises(MemfixError) as caught:
        get_method("sis")
    assert "siss" in caught.value.hint
