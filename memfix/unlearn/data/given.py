"""Pictures of the user's own: to keep, and to stand in for those that are forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from memfix.console import Talk
from memfix.inputs.opening import open_image
from memfix.records import Pair, Reference, Sample, Score, Side
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge

CHUNK = 64


def given_to_keep(
    pairs: Sequence[Pair], given: Sequence[Reference], judge: Judge, margin: float | None, talk: Talk
) -> list[Pair]:
    """Keep pairs of the user's pictures under their captions, or without a prompt where they have none.

    A picture whose caption is a memorized prompt is kept for that prompt. One that is a copy or a near-copy of what is
    forgotten, by the rule of `judge`, is left out and told of.
    """
    forgotten = [Reference(file_name=p.path, path=p.path) for p in pairs if p.side is Side.FORGET]
    ids = {p.text: p.prompt_id for p in pairs}
    against, kept = Judge(HeldReferences(forgotten, judge.rule.measure), judge.rule), []
    for picture, score in _scored(given, against):
        if not against.is_distinct(score, margin):
            talk.warn(f"{picture.path} is not kept, since it is close to {score.reference}, which is to be forgotten.")
            continue
        i = ids.setdefault(picture.text, f"k{len(ids):04d}")
        kept.append(Pair(side=Side.KEEP, path=picture.path, text=picture.text, prompt_id=i, origin="given"))
    return kept


def given_surrogates(
    pairs: Sequence[Pair], given: Sequence[Reference], judge: Judge, talk: Talk
) -> list[Pair]:  # fmt: skip
    """The pairs, with the picture among `given` that is named as the reference that each shows; endings may differ.

    A picture that is itself a copy of a reference is told of, and used: it may be one with a face painted over.
    """
    by_name = {_stem(r.file_name): r for r in given}
    found = {p.reference: by_name.get(_stem(p.reference)) for p in pairs if p.reference}
    used = {name: picture for name, picture in found.items() if picture}
    for picture, score in _scored(list(used.values()), judge):
        if score.copy_:
            talk.warn(f"The surrogate {picture.path} is itself a copy of {score.reference}, which is to be forgotten.")
    return [p.model_copy(update={"surrogate": used[p.reference].path}) if p.reference in used else p for p in pairs]


def _scored(pictures: Sequence[Reference], judge: Judge) -> Iterator[tuple[Reference, Score]]:
    for i in range(0, len(pictures), CHUNK):
        chunk = pictures[i : i + CHUNK]
        samples = [
            Sample(file_name=f"{n}.png", text=r.text, prompt_id="given", seed=0, steps=0, guidance=0)
            for n, r in enumerate(chunk, i)
        ]  # fmt: skip
        yield from zip(chunk, judge.score(samples, [open_image(r.path) for r in chunk]), strict=True)


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()
