"""Samples for unlearning, drawn as the detection drew them and judged as it judged them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.measures.pixels import COARSE, to_tensor
from memfix.models.model import DiffusionModel
from memfix.models.replicas import drawn_batches
from memfix.models.sampling import batches, plan_samples
from memfix.records import SAME, Condition, Prompt, Sample, Score
from memfix.references.judge import Judge
from memfix.variants.base import Variant


class Asked(NamedTuple):
    """A prompt that is to be sampled, and how; without a variant as it is, from the noise of the first check."""

    prompt_id: str
    text: str
    condition: Condition = SAME
    variant: Variant = Variant()


class Drawn(NamedTuple):
    """A sample, its picture, and what the judge says of it by itself."""

    sample: Sample
    image: Image.Image
    score: Score


@dataclass(frozen=True)
class Sampler:
    """Samples as the detection did, and has them judged."""

    model: DiffusionModel
    judge: Judge
    settings: DetectSettings
    talk: Talk

    def __call__(self, wanted: Sequence[Asked], each: int, title: str) -> Iterator[Drawn]:
        """`each` samples of everything that is wanted, from the seeds of the detection."""
        s = self.settings
        if not wanted:
            return
        done, instead = 0, {(a.prompt_id, a.condition): c for a in wanted if (c := a.variant.conditioning) is not None}
        with self.talk.progress(title, len(wanted) * each) as bar:
            for guidance, group in groupby(wanted, self._guidance):
                plan = [sample for asked in group for sample in self._plan(asked, guidance, each)]
                for batch, images in drawn_batches(self.model, batches(plan, s.batch_size), s.mixed_precision, instead):
                    yield from map(Drawn, batch, images, self.judge.score(batch, images))
                    done += len(batch)
                    bar.at(done)

    def _guidance(self, asked: Asked) -> float:
        return self.settings.guidance_scale if asked.variant.guidance is None else asked.variant.guidance

    def _plan(self, asked: Asked, guidance: float, each: int) -> list[Sample]:
        s, prompt = self.settings, Prompt(id=asked.prompt_id, text=asked.variant.wording or asked.text)
        seeds, steps = range(s.seed, s.seed + each), s.num_inference_steps
        return plan_samples([prompt], seeds, steps=steps, guidance=guidance, condition=asked.condition)


def count_copies(sample: Sampler, wanted: Sequence[Asked], each: int, title: str) -> dict[str, int]:
    """Prompt id → copies among `each` samples of it, those of a part included, as in a check."""
    scores: dict[str, list[Score]] = {}
    thumbnails: dict[str, list[torch.Tensor]] = {}
    for drawn in sample(wanted, each, title):
        scores.setdefault(drawn.sample.prompt_id, []).append(drawn.score)
        thumbnails.setdefault(drawn.sample.prompt_id, []).append(to_tensor([drawn.image], COARSE))
    found = {i: sample.judge.conclude(own, torch.cat(thumbnails[i])) for i, own in scores.items()}
    return {i: sum(score.copy_ for score in finding.scores) for i, finding in found.items()}
