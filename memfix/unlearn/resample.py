"""What unlearning samples for itself: keep images from shortened wordings, and the trained weights before rewording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.config import DetectSettings
from memfix.console import Talk
from memfix.measures.reference_set import ReferenceSet
from memfix.models.context import ContextEdit
from memfix.models.sampling import batches, generate, plan_samples
from memfix.models.text import TextCache
from memfix.records import Pair, Prompt, Rewording, Sample, Score, Side
from memfix.unlearn.reword import random_texts, solve
from memfix.unlearn.wordings import safe_wordings, wordings


@dataclass(frozen=True)
class Sampler:
    """Samples as the detection did, and holds them against the references."""

    pipe: StableDiffusionPipeline
    gallery: ReferenceSet
    settings: DetectSettings
    talk: Talk

    def __call__(self, prompts: Sequence[Prompt], each: int, title: str) -> Iterator[tuple[Sample, Image.Image, Score]]:
        """`each` samples of every prompt, from the seeds of the detection."""
        s = self.settings
        seeds = range(s.seed, s.seed + each)
        plan = plan_samples(prompts, seeds, steps=s.num_inference_steps, guidance=s.guidance_scale)
        if not plan:
            return
        texts = TextCache(self.pipe)
        with self.talk.progress(title, len(plan)) as bar:
            for n, batch in enumerate(batches(plan, s.batch_size), start=1):
                images = generate(self.pipe, batch, texts, s.mixed_precision)
                yield from zip(batch, images, self.gallery.score(batch, images), strict=True)
                bar.at(min(n * s.batch_size, len(plan)))


def keep_variants(
    sample: Sampler, pairs: Sequence[Pair], distinct: Callable[[Score], bool], each: int, folder: Path
) -> list[Pair]:
    """Keep images, in `folder`, for targets whose own samples are all but copies: non-copies of shortened wordings."""
    if not each:
        return []
    wanted = wordings(pairs)
    prompts = [Prompt(id=i, text=pair.wording or pair.text) for i, pair in wanted.items()]
    folder.mkdir(exist_ok=True)
    found = []
    for made, image, score in sample(prompts, each, "Sampling keep images"):
        if distinct(score):
            path = (folder / made.file_name).resolve()
            image.save(path, compress_level=1)
            found.append(wanted[made.prompt_id].model_copy(update={"path": str(path)}))
    served = {p.prompt_id for p in [*pairs, *found] if p.side is Side.KEEP}
    for missing in {p.prompt_id: p.text for p in pairs if p.side is Side.FORGET and p.prompt_id not in served}.values():
        sample.talk.warn(f"'{missing}' has no keep image of its own: every wording tried gives copies or near-copies.")
    return found


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
            reason = f"{copies[i]} of {n} samples still reproduce a reference; rewording would only hide that"
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
