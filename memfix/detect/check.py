"""One check of a model: sample every prompt, hold each sample against the references, give verdicts.

Used on the original model and on the unlearned one. Resumes: what is on disk is not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings
from memfix.detect.verdict import judge
from memfix.measures.gallery import Gallery
from memfix.models.sampling import batches, generate
from memfix.models.text import TextCache
from memfix.records import Sample, Score, Verdict
from memfix.runs import Run


def check(
    run: Run,
    folder: str,
    pipe: StableDiffusionPipeline,
    gallery: Gallery,
    plan: Sequence[Sample],
    settings: DetectSettings,
) -> Iterator[int]:
    """Work through a plan, writing images, `metadata.jsonl` and `scores.jsonl` under `folder`.

    Yields after each batch the number of samples that are done, first those found on disk. An image counts as done
    once its score is written, which is the last thing that happens to it.
    """
    scores = f"{folder}/scores.jsonl"
    scored = {s.file_name for s in run.read(scores, Score)}
    done = {name for name in scored if (run.path / folder / name).is_file()}
    listed = {s.file_name for s in run.read(f"{folder}/metadata.jsonl", Sample)}
    (run.path / folder).mkdir(exist_ok=True)
    yield len(done)
    texts = TextCache(pipe)
    for batch in batches(plan, settings.batch_size, done):
        images = generate(pipe, batch, texts, settings.mixed_precision)
        new = [(s, image) for s, image in zip(batch, images, strict=True) if s.file_name not in done]
        for sample, image in new:
            image.save(run.path / folder / sample.file_name, compress_level=1)
        run.append(f"{folder}/metadata.jsonl", [s for s, _ in new if s.file_name not in listed])
        found = gallery.score([s for s, _ in new], [image for _, image in new])
        run.append(scores, [score for score in found if score.file_name not in scored])
        done |= {s.file_name for s, _ in new}
        yield len(done)


def verdicts(scores: Sequence[Score], gallery: Gallery, settings: DetectSettings) -> list[Verdict]:
    """One verdict for each prompt, in the order in which prompts come up."""
    by_prompt: dict[str, list[Score]] = {}
    for score in scores:
        by_prompt.setdefault(score.prompt_id, []).append(score)
    return [
        judge(group, gallery.measure, gallery.threshold, confidence=settings.confidence, tolerance=settings.tolerance)
        for group in by_prompt.values()
    ]
