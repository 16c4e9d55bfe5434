"""Keep images for memorized prompts that give nothing but copies: what variants of them give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memfix.config.unlearn import UnlearnSettings
from memfix.files import errors_of
from memfix.records import Pair, Score, Side, Yield
from memfix.unlearn.data.pairs import short_of_keep
from memfix.unlearn.data.sampler import Asked, Sampler
from memfix.variants.base import Subject, VariantKind


@dataclass
class Kept:
    """Keep images that were made, and what each kind of variant yielded."""

    pairs: list[Pair] = field(default_factory=list)
    yields: list[Yield] = field(default_factory=list)


def keep_variants(
    sample: Sampler, pairs: Sequence[Pair], distinct: Callable[[Score], bool], settings: UnlearnSettings,
    kinds: Sequence[VariantKind], folder: Path,
) -> Kept:  # fmt: skip
    """Keep images, in `folder`, for targets whose own samples are all but copies: non-copies of variants of the prompt.

    One kind after the other, for the targets that still have fewer than `keep_enough`; a kind is tried whole. A wording
    that gave a copy, or a disputed sample, is not told of the others: what it makes of a picture may lean to the copied
    one.
    """
    made = Kept()
    if not (kinds and settings.keep_variants):
        return made
    folder.mkdir(exist_ok=True)
    for kind in kinds:
        targets = short_of_keep([*pairs, *made.pairs], settings.keep_enough)
        wanted = {
            (i, f"{kind.name}{n}"): Asked(i, text, f"{kind.name}{n}", variant)
            for i, text in targets.items()
            for n, variant in enumerate(kind.vary(Subject(text, sample.model, sample.settings)))
        }
        # sorted, so that batches of one guidance are full
        listed = sorted(wanted.values(), key=lambda asked: asked.variant.guidance or 0)
        counts = {i: Counter[str]() for i, _ in wanted}
        drawn_by, copied = list[tuple[tuple[str, str], Pair]](), set[tuple[str, str]]()
        title = f"Sampling keep images: {kind.summary}"
        for drawn, image, score in sample(listed, settings.keep_variants, title):
            i, which = drawn.prompt_id, (drawn.prompt_id, drawn.condition)
            kept = distinct(score)
            if score.copy_ or score.accused:
                copied.add(which)
            counts[i]["kept" if kept else "copies" if score.copy_ else "near_copies"] += 1
            if kept:
                path = (folder / drawn.file_name).resolve()
                with errors_of(path):
                    image.save(path, compress_level=1)
                pair = Pair(
                    side=Side.KEEP, path=str(path), text=targets[i], prompt_id=i, origin="variant", kind=kind.name,
                    wording=wanted[which].variant.wording,
                )  # fmt: skip
                drawn_by.append((which, pair))
        made.pairs += [
            pair.model_copy(update={"wording": None}) if which in copied else pair for which, pair in drawn_by
        ]
        made.yields += [
            Yield(prompt_id=i, text=targets[i], kind=kind.name, samples=count.total(), **count)
            for i, count in counts.items()
        ]
    for missing in short_of_keep([*pairs, *made.pairs], 1).values():
        sample.talk.warn(f"'{missing}' has no keep image of its own: all its variants give copies or near-copies.")
    return made
