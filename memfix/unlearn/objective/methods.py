"""Methods by name: keep term + forget term + combiner. Adding one is a function here and a row in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.records import Word
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.objective import terms
from memfix.unlearn.objective.combine import Combiner, bome, project, rescale, weighted_sum
from memfix.unlearn.objective.retrack import nearest_keep
from memfix.unlearn.objective.terms import Term, View

ENOUGH = 0.95  # of the cap; from MUCS (arXiv 2605.17938)


class Need(Word):
    """Data that a method cannot do without."""

    KEEP = "keep images"
    SURROGATES = "surrogates"
    ANCHORS = "anchor prompts"
    PRIOR = "checkpoints or keep images"


@dataclass(frozen=True)
class Composition:
    """What the trainer runs. A missing side costs nothing; `ascent`: the forget term is climbed.

    enough: what the forget term is to reach over the items of a step; there training ends, if there is such a value.
    """

    keep: Term | None = None
    forget: Term | None = None
    combine: Combiner | None = None
    ascent: bool = False
    parameter_prior: float = 0.0
    enough: Callable[[Batch, View], torch.Tensor] | None = None

    def mixture(self, share: float) -> float:
        """Share of items drawn from forget images: all or none where only one side is in use."""
        if self.forget is None:
            return 0.0
        return 1.0 if self.keep is None else share


@dataclass(frozen=True)
class Method:
    """A named composition: what it costs and needs, and how settings make it.

    passes: forward and backward passes for each item drawn; a plain training step is 1, a forward alone a third.
    needs: data without which it is refused.
    reads: settings that it looks at and not every method does, besides those of its sides (see `settings_of`).
    """

    name: str
    summary: str
    source: str
    passes: str
    needs: tuple[Need, ...]
    reads: tuple[str, ...]
    compose: Callable[[UnlearnSettings], Composition]
    prepare: Callable[[Bank, UnlearnSettings], Bank] = lambda bank, _: bank


SISS_TERMS: dict[str, tuple[Term, terms.Climbed]] = {
    "is": (terms.siss_keep, terms.siss_forget),
    "no-is": (terms.paired_keep, terms.paired_forget),
    "bernoulli": (terms.denoise_keep, terms.denoise_forget),
}


def siss(s: UnlearnSettings) -> Composition:
    """Keep minus forget, the latter rescaled to a share of the former."""
    keep, climbed = SISS_TERMS[s.siss_mode]
    forget = partial(climbed, cap=s.forget_cap)
    return Composition(keep, forget, partial(rescale, ratio=s.forget_ratio, norm=s.forget_norm), ascent=True)


def naive(s: UnlearnSettings) -> Composition:
    """Go on training on what is kept."""
    return Composition(terms.denoise_keep)


def neggrad(s: UnlearnSettings) -> Composition:
    """Gradient ascent on the forget images and nothing else; with `forget_cap` up to a bound."""
    forget = partial(terms.denoise_forget, cap=s.forget_cap)
    return Composition(forget=forget, ascent=True)


def bounded(s: UnlearnSettings) -> Composition:
    """Keep plus w times bounded ascent, until the mean over a step's items is all but at the cap."""
    cap = _given(s.forget_cap, 1.0)
    forget, enough = partial(terms.denoise_forget, cap=cap), partial(terms.bound, cap=ENOUGH * cap)
    add = partial(weighted_sum, keep_weight=1.0, forget_weight=_given(s.forget_weight, 0.2))
    return Composition(terms.denoise_keep, forget, add, ascent=True, enough=enough)


def erasediff(s: UnlearnSettings) -> Composition:
    """Keep, while uniform noise is answered at noisy forget images; BOME weighs the two."""
    return Composition(terms.denoise_keep, terms.uniform_forget, partial(bome, eta=s.bome_eta))


def retrack(s: UnlearnSettings) -> Composition:
    """(1-w) keep + w regression on the nearest keep images."""
    w = _given(s.forget_weight, 0.5)
    if w > 1:
        raise MemfixError(
            f"For retrack, forget_weight is a share and cannot be {w}.", "Give a number from 0 to 1.", ExitCode.USAGE
        )
    add = partial(weighted_sum, keep_weight=1 - w, forget_weight=w)
    return Composition(terms.denoise_keep, terms.nearest_forget, add)


def surrogate(s: UnlearnSettings) -> Composition:
    """Keep plus w times regression on a surrogate, without what would hurt the former."""
    return Composition(
        terms.denoise_keep, terms.surrogate_forget, partial(project, forget_weight=_given(s.forget_weight, 1.0))
    )


def anchor(s: UnlearnSettings) -> Composition:
    """Keep plus w times the match of the prompt with a harmless wording of it."""
    add = partial(weighted_sum, keep_weight=1.0, forget_weight=_given(s.forget_weight, 1.0))
    return Composition(terms.denoise_keep, terms.anchor_forget, add)


def vdu(s: UnlearnSettings) -> Composition:
    """(1-γ) bounded ascent + γ pull back to the weights as they were; γ has to be searched for."""
    forget = partial(terms.denoise_forget, cap=_given(s.forget_cap, 1.0))
    return Composition(forget=forget, ascent=True, parameter_prior=0.99)


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


METHODS: dict[str, Method] = {
    m.name: m
    for m in [
        Method(
            "siss", "keep minus forget, from one importance-weighted mixture",
            "arXiv 2503.01034", "1, no-is 2", (Need.KEEP,),
            ("siss_mode", "forget_ratio", "forget_norm", "forget_cap"), siss,
        ),
        Method(
            "naive", "keep term only; what it forgets is left to chance",
            "baseline", "1", (Need.KEEP,), (), naive,
        ),
        Method(
            "neggrad", "ascend on forget images only; destroys the model",
            "baseline", "1", (), ("forget_cap",), neggrad,
        ),
        Method(
            "bounded", "keep, and ascend up to the error of predicting 0",
            "arXiv 2605.17938", "1", (Need.KEEP,), ("forget_weight", "forget_cap"), bounded,
        ),
        Method(
            "erasediff", "keep, and predict uniform noise for forget images",
            "arXiv 2401.05779", "1", (Need.KEEP,), ("bome_eta",), erasediff,
        ),
        Method(
            "retrack", "keep, and denoise forget images to near keep images",
            "arXiv 2509.13007", "1", (Need.KEEP,), ("forget_weight", "nearest_keep"), retrack,
            lambda bank, s: nearest_keep(bank, s.nearest_keep),
        ),
        Method(
            "surrogate", "keep, and denoise forget images to their surrogates",
            "arXiv 2603.10445", "1", (Need.KEEP, Need.SURROGATES), ("forget_weight", "surrogates"), surrogate,
        ),
        Method(
            "anchor", "keep, and predict for the prompt as for a harmless variant",
            "arXiv 2303.13516", "1.2", (Need.KEEP, Need.ANCHORS), ("forget_weight",), anchor,
        ),
        Method(
            "vdu", "bounded ascent with a prior on the weights",
            "arXiv 2510.04058", "1", (Need.PRIOR,), ("forget_cap",), vdu,
        ),
    ]
}  # fmt: skip


def get_method(name: str) -> Method:
    """Look a method up. Raises MemfixError for an unknown name."""
    if name not in METHODS:
        raise MemfixError(f"Unknown method '{name}'.", did_you_mean(name, list(METHODS)), ExitCode.USAGE)
    return METHODS[name]


def window(settings: UnlearnSettings, steps: int | None = None) -> tuple[int, int]:
    """The timesteps that are drawn, of so many; without a number, as far as settings alone can tell.

    Raises MemfixError if there are none.
    """
    last = settings.timestep_max if steps is None else min(settings.timestep_max, steps)
    if settings.timestep_min >= last:
        of = "" if steps is None else f" of {steps}"
        raise MemfixError(
            f"No timestep lies between {settings.timestep_min} and {settings.timestep_max}{of}.",
            "Lower --timestep-min.", ExitCode.USAGE,
        )  # fmt: skip
    return settings.timestep_min, last


class Stock(Protocol):
    """What of the data that methods need there is; a bank says it of its latents."""

    @property
    def has_keep(self) -> bool:
        """Every target has something to keep, its own or another prompt's."""
        ...

    @property
    def has_surrogates(self) -> bool:
        """Every forget image has a surrogate."""
        ...

    @property
    def has_anchors(self) -> bool:
        """Every target has a wording that does not give copies."""
        ...


def check_data(method: Method, bank: Stock, checkpoints: bool = False, prior: bool = False) -> None:
    """Raise MemfixError if a bank lacks what a method needs, or a prior on the weights if there is one.

    `checkpoints`: some were given.
    """
    if not bank.has_keep and Need.KEEP in method.needs:
        raise MemfixError(
            "There is nothing to keep: every sample of every prompt is a copy or a near-copy.",
            "Detect with --controls, a list of prompts that must not change, or give a smaller --keep-margin. Controls "
            "are kept if they are clean: an undecided one needs more samples (--num-samples).",
        )
    if not bank.has_surrogates and Need.SURROGATES in method.needs:
        raise MemfixError(
            f"Method '{method.name}' needs a surrogate for every image to forget.",
            "Give a picture for each with --surrogates, or use --method retrack, which uses keep images instead.",
        )
    if not bank.has_anchors and Need.ANCHORS in method.needs:
        raise MemfixError(
            f"Method '{method.name}' needs, for every memorized prompt, a variant of it that gives no copies.",
            "Give --overwrite --keep-enough 1000 --variant-kinds shorten, which samples the beginnings of every "
            "prompt, or use --method siss. From Python, set Target.anchors.",
        )
    if not (bank.has_keep or checkpoints) and (prior or Need.PRIOR in method.needs):
        who = f"Method '{method.name}'" if Need.PRIOR in method.needs else "--parameter-prior"
        raise MemfixError(
            f"{who} needs keep images or several checkpoints to estimate which weights matter.",
            "Give --controls, a list of prompts that must not change.",
        )
