"""From the first check to the forget and keep items of unlearning. Pure: records in, records out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.records import Label, Pair, Prompt, Reference, Role, Score, Side, Verdict
from memfix.references.groups import representatives
from memfix.variants.wordings import beginnings


def build_pairs(
    prompts: Sequence[Prompt], verdicts: Sequence[Verdict], scores: Sequence[Score], references: Sequence[Reference],
    folder: Path, distinct: Callable[[Score], bool], forget_from: str = "both",
) -> list[Pair]:  # fmt: skip
    """Pairs from the samples in `folder`.

    A memorized prompt: every reference that its copies show (of near-copies one) and the copies themselves are
    forgotten, or one of the two (`forget_from` "references" or "samples"); its samples that are `distinct` from every
    reference are kept; a near-copy is neither. A clean prompt or
    control: all its samples are kept. An undecided one is left alone, and so is a memorized control, which the user
    said must not change.
    """
    label = {v.prompt_id: v.verdict for v in verdicts}
    path, stands = {r.file_name: r.path for r in references}, representatives(references)
    pairs = []
    for prompt in prompts:
        own = [s for s in scores if s.prompt_id == prompt.id]
        common = {"text": prompt.text, "prompt_id": prompt.id}
        match label.get(prompt.id):
            case Label.MEMORIZED if prompt.role is Role.PROMPT:
                shown = dict.fromkeys(stands[s.shows] for s in own if s.copy_)
                for name in shown if forget_from != "samples" else ():
                    pairs.append(
                        Pair(side=Side.FORGET, path=path[name], origin="reference", reference=name, **common)
                    )  # fmt: skip
                for s in own:
                    place = {"path": str(folder / s.file_name), "origin": "sample", **common}
                    if s.copy_ and forget_from != "references":
                        pairs.append(Pair(side=Side.FORGET, reference=stands[s.shows], **place))
                    elif not s.copy_ and distinct(s):
                        pairs.append(Pair(side=Side.KEEP, **place))
            case Label.CLEAN:
                for s in own:
                    pairs.append(Pair(side=Side.KEEP, path=str(folder / s.file_name), origin="control", **common))
    return pairs


class PairStock(NamedTuple):
    """What of the data that methods need there is among pairs."""

    has_keep: bool
    has_surrogates: bool
    has_anchors: bool
    has_prior: bool


def stock_of(pairs: Sequence[Pair]) -> PairStock:
    """The same as of the bank that is made of these pairs, before any of them is encoded."""
    forget = [p for p in pairs if p.side is Side.FORGET]
    targets, kept = {p.prompt_id for p in forget}, [p for p in pairs if p.side is Side.KEEP]
    prior = any(p.prompt_id not in targets for p in kept)
    return PairStock(
        has_keep=prior or targets <= {p.prompt_id for p in kept}, has_prior=prior,
        has_surrogates=all(p.surrogate for p in forget),
        has_anchors=targets <= {p.prompt_id for p in kept if p.wording},
    )  # fmt: skip


def short_of_keep(pairs: Sequence[Pair], enough: int) -> dict[str, str]:
    """Id → text of the targets that have fewer keep images of their own than `enough`."""
    own = Counter(p.prompt_id for p in pairs if p.side is Side.KEEP)
    return {p.prompt_id: p.text for p in pairs if p.side is Side.FORGET and own[p.prompt_id] < enough}


def short_of_prior(pairs: Sequence[Pair], enough: int) -> int:
    """How many prompts are missing besides the targets, of those that have keep images, until there are enough."""
    targets = {p.prompt_id for p in pairs if p.side is Side.FORGET}
    return max(0, enough - len({p.prompt_id for p in pairs} - targets))


def safe_wordings(variants: Sequence[Pair], each: int) -> dict[str, str | None]:
    """For each target that has variants: the longest beginning all of whose `each` samples could be kept, if any."""
    kept = Counter((p.prompt_id, p.wording) for p in variants)
    return {
        i: next((w for w in beginnings(text) if kept[i, w] == each), None)
        for i, text in {p.prompt_id: p.text for p in variants}.items()
    }
