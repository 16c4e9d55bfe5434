"""Ways to get pictures that are no copies out of a fully memorized prompt: a table of name → variants of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

import torch

from memfix.config import DetectSettings
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.models.conditioning import Conditioning
from memfix.models.model import DiffusionModel
from memfix.variants import wordings

NOISE = (1.0, 2.0, 4.0)  # of an embedding's own spread
CLOSER = (0.5, 0.0)  # of what the guidance adds to the prompt's own prediction
DESCENT = (10, 20, 40)  # steps after which the embedding is taken
DESCENT_RATE, DESCENT_SEEDS = 0.05, 4


class Variant(NamedTuple):
    """How a picture is sampled, where that differs from the prompt: another text, another row of conditioning, or
    another guidance."""

    wording: str | None = None
    conditioning: Conditioning | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Subject:
    """A prompt, and the model that it is a prompt of, sampled with the settings of the detection."""

    text: str
    model: DiffusionModel
    settings: DetectSettings

    @property
    def conditioning(self) -> Conditioning:
        """What the denoiser is told of the prompt, one row on the CPU."""
        return self.model.text.encode([self.text]).to("cpu")

    def moved(self, tokens: torch.Tensor) -> Variant:
        """The prompt with other token embeddings, [1, L, D]."""
        return Variant(conditioning=replace(self.conditioning, tokens=tokens))


@dataclass(frozen=True)
class Way:
    """A name, and the variants of a prompt that it stands for, at most so many, those closest to the prompt first."""

    name: str
    summary: str
    vary: Callable[[Subject], list[Variant]]
    most: int


def _worded(reword: Callable[[str], list[str]]) -> Callable[[Subject], list[Variant]]:
    return lambda subject: [Variant(wording=w) for w in reword(subject.text)]


def padded(subject: Subject) -> list[Variant]:
    """With words of the model's own vocabulary put in."""
    known = wordings.known_words(subject.model.text.vocabulary)
    return _worded(lambda text: wordings.padded(text, known))(subject) if known else []


def noised(subject: Subject) -> list[Variant]:
    """The embedding plus Gaussian noise of growing size, the same directions each time."""
    tokens = subject.conditioning.tokens
    generator = torch.Generator().manual_seed(Random(subject.text).getrandbits(63))
    return [subject.moved(tokens + s * tokens.std() * torch.randn(tokens.shape, generator=generator)) for s in NOISE]


def guided_less(subject: Subject) -> list[Variant]:
    """Half the guidance, then none. Nothing where there is none to begin with."""
    more = subject.settings.guidance_scale - 1
    return [Variant(guidance=1 + share * more) for share in CLOSER] if more > 0 else []


def descended(subject: Subject) -> list[Variant]:
    """The embedding after a few steps that bring the magnitude score down."""
    return [subject.moved(tokens) for n, tokens in enumerate(descent(subject), 1) if n in DESCENT]


def descent(subject: Subject) -> Iterator[torch.Tensor]:
    """Token embeddings [1, L, D] along steps of Adam on ‖ε_θ(x_T, c) - ε_θ(x_T, ∅)‖², averaged over seeds.

    Memorized prompts move the first prediction further than others (Wen et al., ICLR 2024, section 4.2.1).
    """
    model, settings = subject.model, subject.settings
    seeds = range(settings.seed, settings.seed + DESCENT_SEEDS)
    course, told = model.course(seeds, settings.num_inference_steps), subject.conditioning.to(model.device)
    network = model.denoiser.network(settings.mixed_precision)
    moved = told.tokens.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=DESCENT_RATE)

    def predict(one: Conditioning) -> torch.Tensor:
        return network(course.latents, course.time, one.expand(len(seeds)))

    with torch.no_grad():
        without = predict(model.text.encode([""]))
    for _ in range(max(DESCENT)):
        score = (predict(replace(told, tokens=moved)) - without).square().flatten(1).sum(1).mean()
        (moved.grad,) = torch.autograd.grad(score, [moved])
        optimizer.step()
        yield moved.detach().cpu().clone()


# Those first whose samples were most often kept and still showed what the prompt names (research/ways.py)
WAYS: dict[str, Way] = {
    way.name: way
    for way in [
        Way("shorten", "beginnings of the prompt", _worded(wordings.shortened), wordings.MOST_WORDINGS),
        Way("template", "the prompt inside a sentence", _worded(wordings.framed), len(wordings.TEMPLATES)),
        Way("insert", "the prompt with random words inserted", padded, len(wordings.TIMES)),
        Way("repeat", "the prompt with some of its words repeated", _worded(wordings.repeated), len(wordings.TIMES)),
        Way("delete", "the prompt without some of its words", _worded(wordings.thinned), wordings.MOST_WORDINGS),
        Way("magnitude", "its embedding, moved to a lower magnitude score", descended, len(DESCENT)),
        Way("noise", "its embedding with noise added", noised, len(NOISE)),
        Way("guidance", "the prompt with less guidance", guided_less, len(CLOSER)),
    ]
}  # fmt: skip


def get_ways(names: str | None) -> Sequence[Way]:
    """The ways of a comma-separated list in its order, all when None. Raises MemfixError for an unknown name."""
    if names is None:
        return list(WAYS.values())
    listed = [name.strip() for name in names.split(",") if name.strip()]
    for name in listed:
        if name not in WAYS:
            raise MemfixError(f"Unknown kind of variant '{name}'.", did_you_mean(name, list(WAYS)), ExitCode.USAGE)
    return [WAYS[name] for name in listed]
