"""What unlearning samples for itself: keep images in other ways, and the trained weights before rewording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.config import DetectSettings, UnlearnSettings
from memfix.console import Talk
from memfix.measures.reference_set import ReferenceSet
from memfix.models.context import ContextEdit
from memfix.models.sampling import batches, generate, plan_samples
from memfix.models.text import TextCache
from memfix.records import Pair, Prompt, Rewording, Sample, Score, Side, Yield
from memfix.unlearn.reword import random_texts, solve
from memfix.unlearn.ways import Subject, Variant, Way
from memfix.unlearn.wordings import safe_wordings, short_of_keep


@dataclass(frozen=True)
class Sampler:
    """Samples as the detection did, and holds them against the references."""

    pipe: StableDiffusionPipeline
    gallery: ReferenceSet
    settings: DetectSettings
    talk: Talk

    def __call__(
        self, prompts: Sequence[Prompt], each: int, title: str, variants: Mapping[str, Variant] | None = None
    ) -> Iterator[tuple[Sample, Image.Image, Score]]:
        """`each` samples of every prompt, from the seeds of the detection; `variants` by prompt id."""
        s, variants = self.settings, variants or {}
        if not prompts:
            return
        texts, done = TextCache(self.pipe), 0
        contexts = {i: v.context for i, v in variants.items() if v.context is not None}
        guided = {i: v.guidance for i, v in variants.items() if v.guidance is not None}
        with self.talk.progress(title, len(prompts) * each) as bar:
            for guidance, group in groupby(prompts, lambda p: guided.get(p.id, s.guidance_scale)):
                seeds = range(s.seed, s.seed + each)
                plan = plan_samples(list(group), seeds, steps=s.num_inference_steps, guidance=guidance)
                for batch in batches(plan, s.batch_size):
                    images = generate(self.pipe, batch, texts, s.mixed_precision, contexts)
                    yield from zip(batch, images, self.gallery.score(batch, images), strict=True)
                    done += len(batch)
                    bar.at(done)


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
            f"{i}-{way.name}{n}": (i, variant)
            for i, text in targets.items()
            for n, variant in enumerate(way.vary(Subject(text, sample.pipe, sample.settings)))
        }
        prompts = [Prompt(id=name, text=variant.wording or targets[i]) for name, (i, variant) in wanted.items()]
        prompts.sort(key=lambda p: wanted[p.id][1].guidance or 0)  # so that batches of one guidance are full
        counts = {i: Counter[str]() for i, _ in wanted.values()}
        title = f"Sampling keep images: {way.summary}"
        for drawn, image, score in sample(
            prompts, settings.keep_variants, title, {k: v for k, (_, v) in wanted.items()}
        ):
            i, variant = wanted[drawn.prompt_id]
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
    candidates = [Prompt(id=i, text=texts[i]) for i, wording in choice.items() if wording]
    n = sample.settings.num_samples
    copies = dict.fromkeys(choice, 0)
    for made, _, score in sample(candidates, n, "Checking what was unlearned"):
        copies[made.prompt_id] += score.copy_
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
    return decided, the_edit(sample.pipe, applied, {*others, *(p.wording or "" for p in variants)})


def the_edit(pipe: StableDiffusionPipeline, applied: Mapping[str, str], others: Iterable[str]) -> ContextEdit:
    """Solve for the edit that makes each text of `applied` read like its wording."""
    known, anything = sorted({*others, ""} - applied.keys()), random_texts(pipe.tokenizer.get_vocab())
    cache = TextCache(pipe)
    cache.add([*applied, *applied.values(), *known, *anything])
    return solve(*(cache.stack(texts).cpu() for texts in (applied, applied.values(), known, anything)))
