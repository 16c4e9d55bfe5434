"""What unlearning samples for itself: keep images in other ways, and the trained weights before rewording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from memfix.config import DetectSettings, UnlearnSettings
from memfix.console import Talk
from memfix.measures.pixels import COARSE, to_tensor
from memfix.models.context import ContextEdit
from memfix.models.model import DiffusionModel
from memfix.models.sampling import batches, plan_samples
from memfix.records import SAME, Condition, Pair, Prompt, Rewording, Sample, Score, Side, Yield
from memfix.references.judge import Judge
from memfix.unlearn.rewording import random_texts, solve
from memfix.variants.table import Subject, Variant, Way
from memfix.variants.wordings import safe_wordings, short_of_keep


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
                for batch in batches(plan, s.batch_size):
                    images = self.model.sample(batch, s.mixed_precision, instead)
                    yield from map(Drawn, batch, images, self.judge.score(batch, images))
                    done += len(batch)
                    bar.at(done)

    def _guidance(self, asked: Asked) -> float:
        return self.settings.guidance_scale if asked.variant.guidance is None else asked.variant.guidance

    def _plan(self, asked: Asked, guidance: float, each: int) -> list[Sample]:
        s, prompt = self.settings, Prompt(id=asked.prompt_id, text=asked.variant.wording or asked.text)
        seeds, steps = range(s.seed, s.seed + each), s.num_inference_steps
        return plan_samples([prompt], seeds, steps=steps, guidance=guidance, condition=asked.condition)


@dataclass
class Kept:
    """Keep images that were made, and what each way of making them yielded."""

    pairs: list[Pair] = field(default_factory=list)
    yields: list[Yield] = field(default_factory=list)


def keep_variants(
    sample: Sampler, pairs: Sequence[Pair], distinct: Callable[[Score], bool], settings: UnlearnSettings,
    ways: Sequence[Way], folder: Path,
) -> Kept:  # fmt: skip
    """Keep images, in `folder`, for targets whose own samples are all but copies: non-copies of variants of the prompt.

    One way after the other, for the targets that still have fewer than `keep_enough`; a way is tried whole.
    """
    made = Kept()
    if not (ways and settings.keep_variants):
        return made
    folder.mkdir(exist_ok=True)
    for way in ways:
        targets = short_of_keep([*pairs, *made.pairs], settings.keep_enough)
        wanted = {
            (i, f"{way.name}{n}"): Asked(i, text, f"{way.name}{n}", variant)
            for i, text in targets.items()
            for n, variant in enumerate(way.vary(Subject(text, sample.model, sample.settings)))
        }
        # sorted, so that batches of one guidance are full
        listed = sorted(wanted.values(), key=lambda asked: asked.variant.guidance or 0)
        counts = {i: Counter[str]() for i, _ in wanted}
        title = f"Sampling keep images: {way.summary}"
        for drawn, image, score in sample(listed, settings.keep_variants, title):
            i, variant = drawn.prompt_id, wanted[drawn.prompt_id, drawn.condition].variant
            kept = distinct(score)
            counts[i]["kept" if kept else "copies" if score.copy_ else "near_copies"] += 1
            if kept:
                path = (folder / drawn.file_name).resolve()
                image.save(path, compress_level=1)
                made.pairs.append(
                    Pair(
                        side=Side.KEEP, path=str(path), text=targets[i], prompt_id=i, origin="variant", way=way.name,
                        wording=variant.wording,
                    )
                )  # fmt: skip
        made.yields += [
            Yield(prompt_id=i, text=targets[i], way=way.name, samples=count.total(), **count)
            for i, count in counts.items()
        ]
    for missing in short_of_keep([*pairs, *made.pairs], 1).values():
        sample.talk.warn(f"'{missing}' has no keep image of its own: all its variants give copies or near-copies.")
    return made


def reword(
    sample: Sampler, variants: Sequence[Pair], each: int, others: Iterable[str]
) -> tuple[list[Rewording], ContextEdit | None]:
    """Decide which targets are made to read like a shortened wording, and solve for the edit that does it.

    Only targets of which the trained weights, sampled as often as in the detection, give no copy any more. `others` are
    texts that must go on meaning what they do.
    """
    texts = {p.prompt_id: p.text for p in variants}
    choice = safe_wordings(variants, each)
    candidates = [Asked(i, texts[i]) for i, wording in choice.items() if wording]
    n = sample.settings.num_samples
    copies = dict.fromkeys(choice, 0) | count_copies(sample, candidates, n, "Checking what was unlearned")
    decided = []
    for i, wording in choice.items():
        samples = n if wording else 0
        if not wording:
            reason = f"no shortened wording gave {each} keep images of {each} samples"
        elif copies[i]:
            reason = f"{copies[i]} of {n} samples still reproduce a reference, which rewording would only hide"
        else:
            reason = f"none of {n} samples reproduces a reference any more"
        decided.append(
            Rewording(
                prompt_id=i, text=texts[i], wording=wording, copies=copies[i], samples=samples,
                applied=bool(wording) and not copies[i], reason=reason,
            )
        )  # fmt: skip
    applied = {r.text: r.wording or "" for r in decided if r.applied}
    if not applied:
        return decided, None
    return decided, the_edit(sample.model, applied, {*others, *(p.wording or "" for p in variants)})


def count_copies(sample: Sampler, wanted: Sequence[Asked], each: int, title: str) -> dict[str, int]:
    """Prompt id → copies among `each` samples of it, those of a part included, as in a check."""
    scores: dict[str, list[Score]] = {}
    thumbnails: dict[str, list[torch.Tensor]] = {}
    for drawn in sample(wanted, each, title):
        scores.setdefault(drawn.sample.prompt_id, []).append(drawn.score)
        thumbnails.setdefault(drawn.sample.prompt_id, []).append(to_tensor([drawn.image], COARSE))
    found = {i: sample.judge.conclude(own, torch.cat(thumbnails[i])) for i, own in scores.items()}
    return {i: sum(score.copy_ for score in finding.scores) for i, finding in found.items()}


def the_edit(model: DiffusionModel, applied: Mapping[str, str], others: Iterable[str]) -> ContextEdit:
    """Solve for the edit that makes each text of `applied` read like its wording."""
    known, anything = sorted({*others, ""} - applied.keys()), random_texts(model.text.vocabulary)
    rows = model.text.keep([*applied, *applied.values(), *known, *anything])
    return solve(*(rows.stack(texts).tokens.cpu() for texts in (applied, applied.values(), known, anything)))
