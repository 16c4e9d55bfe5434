"""Prompts that a screen left out and that are worded like memorized ones, each tried from the noise likeliest to copy.

A prompt may give a picture from one seed in sixteen, and a screen sees the mean over seeds. But such a prompt is worded
like one that gives the picture often, and after two steps the seed that will copy is ahead of the others, if it is
known what picture to hold against it. research/cascade.md has what this was measured to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field

from memfix.console import Talk, counted
from memfix.detect.check import Check
from memfix.detect.seed_search import SeedSearch
from memfix.models.device import autocast
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt, Record, Role
from memfix.references.reference_set import ReferenceSet
from memfix.screens.sampling import Sampling

TEXTS = 64
SEEDS = 2  # that a prompt is tried from: of 26 rare copies on the bundled model one was from the second seed


class Trial(Record):
    """One sample of a prompt that a screen left out, and whether it is a copy."""

    prompt_id: str
    reference: str = Field(description="that of the nearest memorized wording, which the seed was chosen for")
    seed: int
    copy_: bool = Field(alias="copy")


class Suspect(NamedTuple):
    """A prompt, and the name of the reference that it may give."""

    prompt: Prompt
    reference: str


def try_similar(
    check: Check, prompts: Sequence[Prompt], skipped: frozenset[str], memorized: Mapping[str, str], talk: Talk
) -> list[Trial]:
    """A few samples of each skipped prompt, nearest wording first, in rounds as long as one finds a copy. Resumes.

    skipped: ids of prompts; memorized: text → name of the reference that it gives; controls among the prompts say what
    ordinary wordings are.
    """
    model, s, file = check.model, check.settings, f"{check.folder}/similar.jsonl"
    suspects = nearest_wordings(
        model,
        [p for p in prompts if p.id in skipped],
        memorized,
        [p.text for p in prompts if p.role is Role.CONTROL],
    )
    seeds = tuple(range(s.seed, s.seed + s.num_samples))
    search = SeedSearch(model, Sampling(seeds, 2, s.num_inference_steps, s.guidance_scale), s.batch_size)
    trials = check.run.read(file, Trial)
    for first in range(0, len(suspects), s.similar_prompts):
        own = suspects[first : first + s.similar_prompts]
        ids = {x.prompt.id for x in own}
        if not ids <= {t.prompt_id for t in trials}:
            trials = [t for t in trials if t.prompt_id not in ids]
            trials += _try(check, own, search, talk)
            check.run.write(file, trials)
        if not any(t.copy_ for t in trials if t.prompt_id in ids):
            break
    tried, copying = ({t.prompt_id for t in trials if t.copy_ or every} for every in (True, False))
    talk.say(f"Of {counted(len(tried), 'prompt')} worded like memorized ones, {len(copying) or 'none'} gave a copy.")
    return trials


def nearest_wordings(
    model: DiffusionModel, left_out: Sequence[Prompt], memorized: Mapping[str, str], ordinary: Sequence[str]
) -> list[Suspect]:
    """The prompts left out, each with the reference of the memorized text that is nearest to it; nearest pair first.

    Nearest by the cosine of all token embeddings together, about the mean of `ordinary` texts.
    """

    def flat(texts: Sequence[str]) -> torch.Tensor:
        return model.text.encode(texts).tokens.flatten(1)

    mean = sum(flat(ordinary[i : i + TEXTS]).sum(0) for i in range(0, len(ordinary), TEXTS)) / len(ordinary)

    def directions(texts: Sequence[str]) -> torch.Tensor:
        return F.normalize(flat(texts) - mean, dim=1)

    known, names = directions(list(memorized)), list(memorized.values())
    found: list[tuple[float, Suspect]] = []
    for i in range(0, len(left_out), TEXTS):
        batch = left_out[i : i + TEXTS]
        cosines, places = (directions([p.text for p in batch]) @ known.T).max(1)
        found += [
            (cosine, Suspect(prompt, names[place]))
            for prompt, cosine, place in zip(batch, cosines.tolist(), places.tolist(), strict=True)
        ]
    return [suspect for _, suspect in sorted(found, key=lambda pair: -pair[0])]


def _try(check: Check, suspects: Sequence[Suspect], search: SeedSearch, talk: Talk) -> list[Trial]:
    """Draw from each suspect and hold the samples against all references. Needs a check that has references."""
    assert check.judge
    settings, references = check.settings, check.judge.references
    pictures = dict(_small_pictures(references, (x.reference for x in suspects)))
    with autocast(settings.mixed_precision):
        found = search([x.prompt.text for x in suspects], [pictures[x.reference] for x in suspects], SEEDS)
    steps, guidance = settings.num_inference_steps, settings.guidance_scale
    plan = [
        sample
        for x, seeds in zip(suspects, found, strict=True)
        for sample in plan_samples([x.prompt], seeds, steps=steps, guidance=guidance)
    ]
    with talk.progress("Trying similar prompts", len(plan)) as bar:
        for done in check.sample(plan):
            bar.at(done)
    scores = check.scores(plan)
    return [
        Trial(prompt_id=x.prompt.id, reference=x.reference, seed=score.seed, copy=score.copy_)
        for x in suspects
        for score in scores[x.prompt.id]
    ]


def _small_pictures(references: ReferenceSet, names: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
    """Pictures of references, by name: the set keeps small ones, which show where things are."""
    known, pixels = references.thumbnails(dict.fromkeys(names))
    for name, picture in zip(known, pixels, strict=True):
        yield name, Image.fromarray((picture.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8))
