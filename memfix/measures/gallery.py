"""The references of a run as features, each picture decoded once, and samples held against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.inputs.references import open_image
from memfix.measures import MEASURES, get_measure
from memfix.measures.base import is_copy
from memfix.measures.pixels import detail
from memfix.records import Reference, Sample, Score

CHUNK = 256


class Gallery:
    """References under one deciding measure; the other measures are taken on each sample's nearest reference."""

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
        table = self.measure.compare(self.measure.features(images), self._features[self.measure.name])
        best = table.argmax(1) if self.measure.higher_is_closer else table.argmin(1)
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
