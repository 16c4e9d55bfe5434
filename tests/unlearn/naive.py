"""Every method's combined gradient, spelt out in float64: item by item, two backwards, flat vectors."""

from __future__ import annotations

import copy

import torch
from tiny import Net

from memfix.config.unlearn import UnlearnSettings
from memfix.unlearn.data.bank import Bank, Batch


class Naive:
    """The definitions. Nothing here is shared with the code under test but the drawn numbers."""

    def __init__(
        self, model: Net, batch: Batch, kind: str, settings: UnlearnSettings, bank: Bank, original: Net | None = None
    ) -> None:
        self.original = copy.deepcopy(original).double() if original else None
        self.model, self.batch, self.kind, self.s, self.bank = (
            copy.deepcopy(model).double(),
            batch,
            kind,
            settings,
            bank,
        )
        self.n, self.filter = len(batch), None

    def answer(self, m, items, i, words=None):
        told = items.conditioning if words is None else words
        return self.model(m[None], items.t[i : i + 1], None if told is None else told.tokens[i : i + 1].double())[0][0]

    def wanted(self, m, z, g, s):
        eps = (m - g * z) / s
        return {"epsilon": eps, "v_prediction": g * eps - s * z, "flow_prediction": eps - z}[self.kind]

    def size(self, residual, items, i, kind=None):
        if self.filter is not None:
            residual = self.filter @ residual @ self.filter.T
        return self.weight(float(items.signal[i]), float(items.noise[i]), kind or self.kind) * (residual**2).sum()

    def weight(self, g, s, kind):
        if self.s.snr_gamma is None:
            return 1.0
        snr = (g / s) ** 2
        per_picture = {"epsilon": snr, "v_prediction": 1 / s**2, "flow_prediction": 1 / s**2}[kind]
        return min(snr, self.s.snr_gamma) / per_picture

    def error(self, items, i, z=None, m=None):
        m = items.noisy[i].double() if m is None else m
        z = items.clean[i].double() if z is None else z
        return self.size(self.answer(m, items, i) - self.wanted(m, z, items.signal[i], items.noise[i]), items, i)

    def kept(self, m, items, i, residual):
        """How far an answer at m is from what the keep side of an item wants there, and its weight."""
        b, told = self.batch, self.batch.wordings
        x, g, s = b.keep.clean[i].double(), items.signal[i], items.noise[i]
        target = next((t for t in self.bank.targets if any(torch.equal(b.keep.clean[i], z) for z in t.keep)), None)
        if self.original is None or target is None or told is None:
            return self.size(residual - self.wanted(m, x, g, s), items, i)
        place = next(k for k, z in enumerate(target.keep) if torch.equal(b.keep.clean[i], z))
        if target.wordings[place] is None:
            return self.size(residual - self.wanted(m, x, g, s), items, i)
        words = self.bank.texts[target.wordings[place]].double()[None]
        with torch.no_grad():
            taught = self.original(m[None], items.t[i : i + 1], words)[0][0]
        return 3 * self.size(residual - taught, items, i)

    def keep_sides(self):
        return [i for i in range(self.n) if not self.batch.from_forget[i]]

    def forget_sides(self):
        return [i for i in range(self.n) if self.batch.from_forget[i]]

    def prior(self):
        total, kept = 0.0, self.filter
        self.filter = None  # a low-pass is for the forget side
        for i in range(len(self.batch.prior)):
            total = total + self.s.resolved_prior_weight() * self.error(self.batch.prior, i) / self.n
        self.filter = kept
        return total

    def keep(self):
        kept, self.filter = self.filter, None
        total = sum(self.keep_error(i) for i in self.keep_sides()) / len(self.keep_sides())
        self.filter = kept
        return total + self.prior()

    def keep_error(self, i):
        b = self.batch.keep
        m = b.noisy[i].double()
        return self.kept(m, b, i, self.answer(m, b, i))

    def forget(self):
        return sum(self.bounded(self.batch.forget, i) for i in self.forget_sides()) / len(self.forget_sides())

    def both(self):
        b = self.batch
        return sum(self.keep_error(i) for i in range(self.n)) / self.n + self.prior(), sum(
            self.bounded(b.forget, i) for i in range(self.n)
        ) / self.n

    def importance(self):
        b, share = self.batch, len(self.forget_sides()) / self.n
        keep, forget = self.prior(), 0.0
        for i in range(self.n):
            side = b.forget if b.from_forget[i] else b.keep
            m, g, s = side.noisy[i].double(), side.signal[i], side.noise[i]
            x, a = b.keep.clean[i].double(), b.forget.clean[i].double()
            ratio = torch.exp((((m - g * x) ** 2).sum() - ((m - g * a) ** 2).sum()) / (2 * s**2))  # q(m|a) / q(m|x)
            words = b.keep.conditioning, b.forget.conditioning
            if words[0] is not None and not torch.equal(*(w.tokens[i] for w in words)):
                ratio = torch.tensor(torch.inf if b.from_forget[i] else 0.0)  # the other text never brings this point
            residual = self.answer(m, side, i)
            kept, self.filter = self.filter, None
            keep = keep + self.kept(m, side, i, residual) / ((1 - share) + share * ratio) / self.n
            self.filter = kept
            error = self.size(residual - self.wanted(m, a, g, s), side, i)
            if self.s.forget_cap and error > self.s.forget_cap * self.size(self.wanted(m, a, g, s), side, i):
                error = 0 * error
            forget = forget + error / ((1 - share) / ratio + share) / self.n
        return keep, forget

    def bounded(self, f, i, cap=None):
        cap, e = cap or self.s.forget_cap, self.error(f, i)
        null = self.size(self.wanted(f.noisy[i].double(), f.clean[i].double(), f.signal[i], f.noise[i]), f, i)
        return e if cap is None or e < cap * null else 0 * e

    def capped(self, cap):
        return sum(self.bounded(self.batch.forget, i, cap) for i in self.forget_sides()) / len(self.forget_sides())

    def uniform(self):
        f, total = self.batch.forget, 0.0
        u = torch.rand((len(self.forget_sides()), *f.clean.shape[1:]), generator=self.batch.draw.stream("uniform"))
        for j, i in enumerate(self.forget_sides()):
            m, g, s = f.noisy[i].double(), f.signal[i], f.noise[i]
            a = self.answer(m, f, i)
            eps = {"epsilon": a, "v_prediction": s * m + g * a, "flow_prediction": m + g * a}[self.kind]
            total = total + self.size(eps - u[j].double(), f, i, "epsilon")
        return total / len(self.forget_sides())

    def neighbours(self):
        """The K-target form: Σ_k w_k ‖ε(a_t; x_k) - ε_θ(a_t)‖²; its gradient is that of the one-target form."""
        f, total = self.batch.forget, 0.0
        for i in self.forget_sides():
            m, g, s, a = f.noisy[i].double(), f.signal[i], f.noise[i], f.clean[i]
            target = next(t for t in self.bank.targets if any(torch.equal(a, z) for z in t.forget))
            pool = target.keep or [z for _, z in self.bank.prior]
            near = sorted(pool, key=lambda z, a=a: float(((z - a) ** 2).sum()))[: self.s.nearest_keep]
            p = [torch.exp(-((m - g * z.double()) ** 2).sum() / (2 * s**2)) for z in near]
            total = total + sum(q / sum(p) * self.error(f, i, z.double()) for q, z in zip(p, near, strict=True))
        return total / len(self.forget_sides())

    def surrogate(self):
        f, total = self.batch.forget, 0.0
        for i in self.forget_sides():
            weight = min(1.0, float(f.noise[i] ** 2 / f.signal[i] ** 2))
            total = total + weight * self.error(f, i, self.batch.surrogates[i][0].double())
        return total / len(self.forget_sides())

    def anchor(self):
        b, total = self.batch, 0.0
        for i in self.forget_sides():
            m = b.keep.noisy[i].double()
            wanted = self.answer(m, b.keep, i, b.anchors).detach()
            total = total + self.size(self.answer(m, b.keep, i, b.forget.conditioning) - wanted, b.keep, i)
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
                return -g(self.forget())
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
