"""Ways to get pictures that are no copies out of a fully memorized prompt: a table of name → variants of the prompt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import torch
from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.models.device import autocast
from memfix.models.text import TextCache
from memfix.unlearn import wordings

NOISE = (1.0, 2.0, 4.0)  # of an embedding's own spread
CLOSER = (0.5, 0.0)  # of what the guidance adds to the prompt's own prediction
DESCENT = (10, 20, 40)  # steps after which the embedding is taken
DESCENT_RATE, DESCENT_SEEDS = 0.05, 4


class Variant(NamedTuple):
    """How a picture is sampled, where that differs from the prompt: another text, embedding [L, D] or guidance."""

    wording: str | None = None
    context: torch.Tensor | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Subject:
    """A prompt, and the model that it is a prompt of, sampled with the settings of the detection."""

    text: str
    pipe: StableDiffusionPipeline
    settings: DetectSettings

    @property
    def context(self) -> torch.Tensor:
        """The prompt's embedding, [L, D]."""
        texts = TextCache(self.pipe)
        texts.add([self.text])
        return texts[self.text]


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
    known = wordings.known_words(subject.pipe.tokenizer.get_vocab())
    return _worded(lambda text: wordings.padded(text, known))(subject) if known else []


def noised(subject: Subject) -> list[Variant]:
    """The embedding plus Gaussian noise of growing size, the same directions each time."""
    context = subject.context
    generator = torch.Generator().manual_seed(Random(subject.text).getrandbits(63))
    return [Variant(context=context + s * context.std() * torch.randn(context.shape, generator=generator))
            for s in NOISE]  # fmt: skip


def guided_less(subject: Subject) -> list[Variant]:
    """Half the guidance, then none. Nothing where there is none to begin with."""
    more = subject.settings.guidance_scale - 1
    return [Variant(guidance=1 + share * more) for share in CLOSER] if more > 0 else []


def descended(subject: Subject) -> list[Variant]:
    """The embedding after a few steps that bring the magnitude score down."""
    path = descent(subject.pipe, subject.context, subject.settings)
    return [Variant(context=context) for n, context in enumerate(path, 1) if n in DESCENT]


def descent(pipe: StableDiffusionPipeline, context: torch.Tensor, settings: DetectSettings) -> Iterator[torch.Tensor]:
    """Embeddings [L, D] along steps of Adam on ‖ε_θ(x_T, c) - ε_θ(x_T, ∅)‖², averaged over seeds.

    Memorized prompts move the first prediction further than others (Wen et al., ICLR 2024, section 4.2.1).
    """
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(settings.num_inference_steps, device=pipe.device)
    t, size = scheduler.timesteps[0], int(pipe.unet.config.sample_size)
    noise = [
        torch.randn(int(pipe.unet.config.in_channels), size, size, generator=torch.Generator().manual_seed(seed))
        for seed in range(settings.seed, settings.seed + DESCENT_SEEDS)
    ]
    points = scheduler.scale_model_input(torch.stack(noise).to(pipe.device) * scheduler.init_noise_sigma, t)
    texts = TextCache(pipe)
    texts.add([""])
    moved = context.to(pipe.device).clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=DESCENT_RATE)

    def predict(contexts: torch.Tensor) -> torch.Tensor:
        with autocast(settings.mixed_precision):
            return torch.as_tensor(pipe.unet(points, t, encoder_hidden_states=contexts, return_dict=False)[0]).float()

    with torch.no_grad():
        without = predict(texts.stack([""] * len(points)))
    for _ in range(max(DESCENT)):
        score = (predict(moved.expand(len(points), -1, -1)) - without).square().flatten(1).sum(1).mean()
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
