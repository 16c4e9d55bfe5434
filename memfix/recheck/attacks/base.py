"""What an attack is given, what it yields, and what it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt, Sample
from memfix.variants.base import Variant


@dataclass(frozen=True)
class Attacked:
    """A training image, and the prompt that it is attacked under."""

    prompt: Prompt
    reference: str
    """What the training image is called."""
    picture: Image.Image
    latent: torch.Tensor
    """Of the picture, [C, h, w] on the CPU."""


class Attempt(NamedTuple):
    """Pictures that an attack has made of one training image, after so much work."""

    prompt_id: str
    work: int
    samples: Sequence[Sample]
    images: Sequence[Image.Image]
    copies: Sequence[bool] | None = None
    """Which of them are copies, where the attack judges itself since it has given away a part of the picture."""


@dataclass
class Bench:
    """A model under attack, and what attacks may use. `found` are the ids of prompts of which a copy has come."""

    model: DiffusionModel
    settings: DetectSettings
    """Those of the detection."""
    is_copy: Callable[[Image.Image, Image.Image], bool]
    """Whether a picture is a copy of another one, by the rule of the run."""
    original: Mapping[str, torch.Tensor]
    """The denoiser's weights before unlearning, on the CPU; empty if they are not to be had."""
    clean: Sequence[tuple[Prompt, Image.Image]]
    """Samples of prompts that are not memorized, from the original model."""
    samples: int
    seed: int
    found: set[str] = field(default_factory=set)
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Prompt id → the user's own wordings of it."""

    def plan(self, attacked: Attacked, condition: str, text: str | None = None, n: int | None = None) -> list[Sample]:
        """Samples under a condition, from seeds that no check uses."""
        prompt = attacked.prompt.model_copy(update={"text": attacked.prompt.text if text is None else text})
        seeds, s = range(self.seed, self.seed + (self.samples if n is None else n)), self.settings
        return plan_samples(
            [prompt], seeds, steps=s.num_inference_steps, guidance=s.guidance_scale, condition=condition
        )  # fmt: skip

    def sample(
        self, attacked: Attacked, work: int, condition: str, variant: Variant | None = None, n: int | None = None
    ) -> Attempt:
        """Sample a training image's prompt, or a variant of it, `n` times."""
        told = variant or Variant()
        plan = self.plan(attacked, condition, told.wording, n)
        if told.guidance is not None:
            plan = [s.model_copy(update={"guidance": told.guidance}) for s in plan]
        instead = {} if told.conditioning is None else {(attacked.prompt.id, condition): told.conditioning}
        images, size = list[Image.Image](), self.settings.batch_size
        for i in range(0, len(plan), size):
            images += self.model.sample(plan[i : i + size], self.settings.mixed_precision, instead)
        return Attempt(attacked.prompt.id, work, plan, images)


Attacking = Callable[[Sequence[Attacked], Bench], Iterator[Attempt]]


@dataclass(frozen=True)
class Attack:
    """A name, what it stands for, what its work is counted in, and whether it is tried when nobody says so."""

    name: str
    summary: str
    unit: str
    attempts: Attacking
    usual: bool = False
    trained_against: bool = False
    """Whether adversarial steps of an unlearning are made of it, so that it says little of other attacks."""
    ends_training: bool = False
    """Whether looks of a closed loop are made of it, so that a training ends only where it brings nothing back."""
    together: bool = False
    """Whether it changes the weights once for all training images, instead of turning to one after the other."""
    asks_only: bool = False
    """Whether it leaves the model as it is throughout, so that copies of the model may share the training images."""


def one_by_one(attack: Callable[[Attacked, Bench], Iterator[Attempt]]) -> Attacking:
    """An attack on one training image, on several in turn."""

    def attempts(attacked: Sequence[Attacked], bench: Bench) -> Iterator[Attempt]:
        for one in attacked:
            yield from attack(one, bench)

    return attempts
