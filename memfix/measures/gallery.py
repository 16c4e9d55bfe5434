"""The references of a run as features, each picture decoded once, and samples held against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.inputs.references import open_image
from memfix.measures import MEASURES, get_measure
from memfix.measures.base import is_copy, is_near_copy
from memfix.measures.pixels import TiledL2, detail
from memfix.records import Reference, Sample, Score

CHUNK = 256
SEARCH = TiledL2()  # finds the nearest reference in one matrix product; the deciding measure is taken on that pair


class Gallery:
    """References, and the measure that decides what a copy is; all are taken on a sample's nearest reference."""

    def __init__(self, references: Sequence[Reference], measure: str, threshold: float | None = None) -> None:
        self.references = list(references)
        self.measure = get_measure(measure)
        self.threshold = self.measure.threshold if threshold is None else threshold
        chunks: dict[str, list[torch.Tensor]] = {name: [] for name in MEASURES}
        for i in range(0, len(self.references), CHUNK):
            images = [open_image(r.path) for r in self.references[i : i + CHUNK]]
            for name, m in MEASURES.items():
                chunks[name].append(m.features(images))
        self._features = {name: torch.cat(parts) for name, parts in chunks.items()}

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image]) -> list[Score]:
        """One score a sample."""
        table = SEARCH.compare(SEARCH.features(images), self._features[SEARCH.name])
        best = table.argmin(1)
        values = {name: m.pair(m.features(images), self._features[name][best]).tolist() for name, m in MEASURES.items()}
        details = detail(images)
        return [
            Score(
                file_name=s.file_name, prompt_id=s.prompt_id, seed=s.seed, seeds=s.seeds,
                reference=self.references[int(best[i])].file_name,
                measures={name: round(v[i], 5) for name, v in values.items()},
                copy_=is_copy(self.measure, values[self.measure.name][i], self.threshold),
                detail=round(details[i], 5),
            )
            for i, s in enumerate(samples)
        ]  # fmt: skip

    def distinct(self, score: Score, margin: float | None = None) -> bool:
        """Whether a sample is far enough from being a copy to be kept; `margin` defaults to the measure's own."""
        margin = self.measure.margin if margin is None else margin
        return not is_near_copy(self.measure, score.measures[self.measure.name], self.threshold, margin)
