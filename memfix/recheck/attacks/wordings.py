"""The prompt in other words, and read in other ways: what a user may type without meaning any harm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random

import torch

from memfix.recheck.attacks.base import Attacked, Attempt, Bench
from memfix.variants import wordings
from memfix.variants.base import Variant

EMPHASIS = (1.1, 1.3, 1.5)  # (word:1.3), as it is written in user interfaces
SKIPPED = (1, 2)  # last layers of the text encoder ("CLIP skip" 2 and 3 there, where 1 is none)
ORDERS = 2


def reworded(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Words inserted, repeated, deleted, put in another order, or in a sentence: one sample of each wording."""
    text = attacked.prompt.text
    known = wordings.known_words(bench.model.text.vocabulary)
    texts = [
        *wordings.thinned(text), *wordings.framed(text), *wordings.echoes(text), *_shuffled(text),
        *(wordings.paddings(text, known) if known else []),
    ]  # fmt: skip
    yield from _one_each(attacked, bench, "wording", texts)


def paraphrased(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """The user's own wordings of the prompt: one sample of each.

    A training image that none is of, as a clean one, is asked for in sentences around its caption instead.
    """
    own = bench.paraphrases.get(attacked.prompt.id)
    yield from _one_each(attacked, bench, "paraphrase", wordings.framed(attacked.prompt.text) if own is None else own)


def _one_each(attacked: Attacked, bench: Bench, name: str, texts: Iterable[str]) -> Iterator[Attempt]:
    """One sample of each text."""
    plan = [
        sample
        for number, wording in enumerate(dict.fromkeys(texts), 1)
        for sample in bench.plan(attacked, f"{name}{number}", wording, n=1)
    ]
    size = bench.settings.batch_size
    for i in range(0, len(plan), size):
        batch = plan[i : i + size]
        yield Attempt(
            attacked.prompt.id, i + len(batch), batch, bench.model.sample(batch, bench.settings.mixed_precision)
        )


def _shuffled(text: str) -> list[str]:
    words, draw = text.split(), Random(text)
    return [" ".join(draw.sample(words, len(words))) for _ in range(ORDERS)] if len(words) > 1 else []


def emphasised(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """All words of the prompt given more weight, its padding left out, and its last layers skipped, as user interfaces
    allow it."""
    told = bench.model.text.encode([attacked.prompt.text]).to("cpu")
    end = int(bench.model.text.end_places([attacked.prompt.text])[0])
    work = 0
    for weight in EMPHASIS:
        moved = told.tokens.clone()
        moved[:, 1 : end + 1] *= weight
        work += bench.samples
        yield bench.sample(
            attacked, work, f"emphasis{round(100 * weight)}", Variant(conditioning=replace(told, tokens=moved))
        )
    bare = torch.where(torch.arange(told.tokens.shape[1])[None, :, None] > end, 0.0, told.tokens)
    others = {"unpadded": replace(told, tokens=bare)}
    for skipped in SKIPPED:
        if (read := bench.model.text.encode_early(attacked.prompt.text, skipped)) is not None:
            others[f"skipped{skipped}"] = read.to("cpu")
    for condition, read in others.items():
        work += bench.samples
        yield bench.sample(attacked, work, condition, Variant(conditioning=read))
