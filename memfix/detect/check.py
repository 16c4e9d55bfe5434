"""One check of a model: sample every prompt, hold each sample against the references, give verdicts.

Used on the original model and on the unlearned one. Resumes: what is on disk is not made again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from memfix.config import DetectSettings
from memfix.detect.design import Design
from memfix.detect.parts import find_parts, kind_of
from memfix.detect.stand_ins import MATCHES, stand_in
from memfix.detect.verdict import judge, judge_pair
from memfix.inputs.references import open_image
from memfix.measures.base import Measure
from memfix.measures.pixels import COARSE, to_tensor
from memfix.measures.reference_set import ReferenceSet
from memfix.measures.siblings import representatives
from memfix.models.model import DiffusionModel
from memfix.models.sampling import batches
from memfix.records import Kind, Sample, Score, Verdict
from memfix.runs import Run


def check(
    run: Run,
    folder: str,
    model: DiffusionModel,
    gallery: ReferenceSet | None,
    plan: Sequence[Sample],
    settings: DetectSettings,
) -> Iterator[int]:
    """Work through a plan, writing images, `metadata.jsonl` and `scores.jsonl` under `folder`.

    Yields after each batch the number of samples that are done, first those found on disk. An image counts as done
    once its score is written, which is the last thing that happens to it; without references, once it is listed.
    """
    scores = f"{folder}/scores.jsonl"
    listed = {s.file_name for s in run.read(f"{folder}/metadata.jsonl", Sample)}
    scored = {s.file_name for s in run.read(scores, Score)} if gallery is not None else listed
    planned = {s.file_name for s in plan}
    done = {name for name in scored & planned if (run.path / folder / name).is_file()}
    (run.path / folder).mkdir(exist_ok=True)
    yield len(done)
    for batch in batches(plan, settings.batch_size, done):
        images = model.sample(batch, settings.mixed_precision)
        new = [(s, image) for s, image in zip(batch, images, strict=True) if s.file_name not in done]
        for sample, image in new:
            image.save(run.path / folder / sample.file_name, compress_level=1)
        run.append(f"{folder}/metadata.jsonl", [s for s, _ in new if s.file_name not in listed])
        if gallery is not None:
            found = gallery.score([s for s, _ in new], [image for _, image in new])
            run.append(scores, [score for score in found if score.file_name not in scored])
        done |= {s.file_name for s, _ in new}
        yield len(done)


def scores_of(run: Run, folder: str, plan: Sequence[Sample]) -> dict[str, list[Score]]:
    """The scores of a plan by prompt, in its order: a resumed run wrote its lines in another one.

    Without marks of copied parts, which are found anew when all samples are there.
    """
    place = {sample.file_name: i for i, sample in enumerate(plan)}
    found: dict[str, list[Score]] = {}
    own = (score for score in run.read(f"{folder}/scores.jsonl", Score) if score.file_name in place)
    for score in sorted(own, key=lambda score: place[score.file_name]):
        whole = score.model_copy(update={"copy_": False, "part": None}) if score.part else score
        found.setdefault(score.prompt_id, []).append(whole)
    return found


def names(scores: Iterable[Score]) -> list[str]:
    """Every reference that scores name, in order."""
    return list(dict.fromkeys(name for s in scores for name in (s.reference, s.shows)))


def undecided(scores: dict[str, list[Score]], design: Design) -> set[str]:
    """The prompts that a design would sample further."""
    counts = {i: (sum(s.copy_ for s in own), len(own)) for i, own in scores.items()}
    return {i for i, (k, n) in counts.items() if n < design.looks[-1] and design.decide(k, n) is None}


def conclude(
    run: Run,
    folder: str,
    scores: dict[str, list[Score]],
    gallery: ReferenceSet,
    settings: DetectSettings,
    design: Design | None = None,
    whole: Container[str] = (),
) -> list[Verdict]:
    """Find copies of a part, write the scores anew with them, and give one verdict for each prompt.

    Without a `design` the number of samples was fixed. So it counts for a prompt with copies of a part, which are
    looked for once and not at every look, and for those of `whole`, by id.
    """
    verdicts, final = [], []
    groups = representatives(gallery.recorded(names(s for own in scores.values() for s in own)))
    for own in scores.values():
        images = to_tensor([open_image(run.path / folder / s.file_name) for s in own], COARSE)
        near, references = gallery.thumbnails(s.reference for s in own)
        own = find_parts(own, images, near, references)
        kind, area = kind_of(own, images, dict(zip(near, references, strict=True)))
        drawn = None if own[0].prompt_id in whole or any(s.part for s in own) else design
        verdict = judge(
            own, gallery.measure, gallery.threshold, confidence=settings.confidence, tolerance=settings.tolerance,
            chance=settings.resolved_chance(), design=drawn, groups=groups,
        )  # fmt: skip
        verdicts.append(verdict.model_copy(update={"kind": kind, "common_area": area}))
        final += own
    run.write(f"{folder}/scores.jsonl", final)
    return verdicts


def conclude_stand_ins(
    run: Run, folder: str, plan: Sequence[Sample], measure: Measure, threshold: float, settings: DetectSettings
) -> list[Verdict]:
    """Without references: write the scores of each prompt against a sample of its own, and give the verdicts.

    Copies that agree all over are `verbatim`; others are a `template`, since something varies around what is fixed.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in plan:
        groups.setdefault(sample.prompt_id, []).append(sample)
    verdicts, final = [], []
    for own in groups.values():
        images = [open_image(run.path / folder / sample.file_name) for sample in own]
        scores, matches = stand_in(own, images, measure, threshold)
        kind, area = kind_of(scores, to_tensor(images, COARSE), {})
        verdict = judge(
            scores, measure, threshold, confidence=settings.confidence, tolerance=settings.tolerance,
            chance=settings.resolved_chance(), shown="another sample",
        )  # fmt: skip
        verdict = judge_pair(verdict) if 0 < matches < MATCHES else verdict
        kind = Kind.TEMPLATE if kind is Kind.PARTIAL else kind
        verdicts.append(verdict.model_copy(update={"kind": kind, "common_area": area}))
        final += scores
    run.write(f"{folder}/scores.jsonl", final)
    return verdicts
