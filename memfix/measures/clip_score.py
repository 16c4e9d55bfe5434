"""How well samples fit their prompts, by CLIP. It says what a model still draws, and never what it copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memfix.errors import MemfixError
from memfix.inputs.opening import open_image
from memfix.measures.clip import Clip
from memfix.records import ClipScore, Score

BATCH = 64


def open_clip_of(model: str, identity: str | None = None) -> Clip:
    """CLIP by open_clip's NAME/TAG or NAME/PATH; with `identity`, refused where it is another model by now."""
    clip = Clip(model)
    if identity not in (None, clip.identity):
        raise MemfixError(f"The CLIP model {model} has changed since the detection.", "Detect again in a new run.")
    return clip


def clip_scores(clip: Clip, texts: Mapping[str, str], scores: Sequence[Score], folder: Path) -> list[ClipScore]:
    """Mean cosine of each prompt's samples with its text and with those of the others, in the order of `scores`.

    texts: prompt id → text; scores: of the samples in `folder`. CLIPScore (Hessel et al., EMNLP 2021) is 2.5 times this
    where it is positive. Each text is encoded once, pictures in batches across prompts.
    """
    ids = list(dict.fromkeys(s.prompt_id for s in scores))
    batches = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
    rows = {i: row for own in batches for i, row in zip(own, clip.texts([texts[i] for i in own]), strict=True)}
    found: dict[str, list[float]] = {i: [] for i in ids}
    others: dict[str, list[float]] = {i: [] for i in ids}
    every = sum(rows.values())
    for start in range(0, len(scores), BATCH):
        batch = scores[start : start + BATCH]
        pictures = clip([open_image(folder / s.file_name) for s in batch])
        for score, picture in zip(batch, pictures, strict=True):
            found[score.prompt_id].append(own := float(picture @ rows[score.prompt_id]))
            others[score.prompt_id].append((float(picture @ every) - own) / max(1, len(ids) - 1))
    return [
        ClipScore(prompt_id=i, mean=_mean(v), others=_mean(others[i]) if len(ids) > 1 else None, samples=len(v))
        for i, v in found.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 5)
