"""Surrogates that the model itself makes: pictures that noisy images to forget are denoised to instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from memfix.files import errors_of
from memfix.inputs.opening import open_image
from memfix.records import Pair, Sample, Score, Side
from memfix.unlearn.data.sampler import Sampler

STRENGTHS = (0.8, 0.9, 1.0)  # with less noise than that, most copies stay (research/unlearning_runs.md)
LAST_TRIES = 8  # from noise alone, under the empty prompt


def make_surrogates(
    sample: Sampler, pairs: Sequence[Pair], distinct: Callable[[Score], bool], folder: Path
) -> list[Pair]:
    """The pairs, with a surrogate in `folder` for each image to forget that has none: itself, noised and denoised.

    Under the longest wording of its prompt that gave a keep image, else under the empty prompt; with more and more
    noise until the result is neither a copy nor a near-copy. What is left after that is denoised from noise alone under
    the empty prompt, from one seed after the other.
    """
    s, done, wordings = sample.settings, dict[int, str](), _wordings(pairs)
    missing = [n for n, p in enumerate(pairs) if p.side is Side.FORGET and not p.surrogate]
    folder.mkdir(exist_ok=True)
    used = Counter[float]()
    with sample.talk.progress("Making surrogates", len(missing)) as bar:
        ladder = [*((strength, True) for strength in STRENGTHS), *[(max(STRENGTHS), False)] * LAST_TRIES]
        for rung, (strength, worded) in enumerate(ladder):
            left = [n for n in missing if n not in done]
            for i in range(0, len(left), s.batch_size):
                chosen = [pairs[n] for n in left[i : i + s.batch_size]]
                batch = [
                    Sample(
                        file_name=f"{p.prompt_id}-{n}.png", text=wordings.get(p.prompt_id, "") if worded else "",
                        prompt_id=p.prompt_id, condition="surrogate", seed=s.seed + n + rung * len(pairs),
                        steps=s.num_inference_steps, guidance=s.guidance_scale,
                    )
                    for n, p in zip(left[i:], chosen, strict=False)
                ]  # fmt: skip
                pictures = [open_image(p.path) for p in chosen]
                images = sample.model.sample_from(pictures, batch, strength, s.mixed_precision)
                for n, image, score in zip(left[i:], images, sample.judge.score(batch, images), strict=False):
                    if distinct(score):
                        path = (folder / score.file_name).resolve()
                        with errors_of(path):
                            image.save(path, compress_level=1)
                        done[n] = str(path)
                        used[strength] += 1
                        bar.at(len(done))
    if done:
        listed = ", ".join(f"{count} at {strength:g}" for strength, count in used.items())
        sample.talk.say(f"Surrogates, by the share of noise that was added to a picture: {listed}.")
    return [p.model_copy(update={"surrogate": done[n]}) if n in done else p for n, p in enumerate(pairs)]


def _wordings(pairs: Sequence[Pair]) -> dict[str, str]:
    """Prompt id → its longest wording that gave a keep image."""
    found: dict[str, str] = {}
    for pair in pairs:
        if pair.wording and len(pair.wording) > len(found.get(pair.prompt_id, "")):
            found[pair.prompt_id] = pair.wording
    return found
