"""The references of a run as features, each picture decoded once, and samples held against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.inputs.references import open_image
from memfix.measures import PIXELS
from memfix.measures.base import Measure, is_copy, is_near_copy
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import TiledL2, detail
from memfix.records import Reference, Sample, Score

CHUNK = 256
ROWS = 64


class Gallery:
    """References, and the measure that decides what a copy is. All measures are taken on a sample's nearest reference.

    Nearest by the deciding measure if it is a matrix product, as embeddings are, else by `tiled_l2`, which is one.
    """

    def __init__(self, references: Sequence[Reference], measure: Measure, threshold: float | None = None) -> None:
        self.references = list(references)
        self.measure = measure
        self.threshold = measure.threshold if threshold is None else threshold
        self._measures = {**PIXELS, measure.name: measure}
        self._search = measure if isinstance(measure, Embedding) else PIXELS[TiledL2.name]
        chunks: dict[str, list[torch.Tensor]] = {name: [] for name in self._measures}
        for i in range(0, len(self.references), CHUNK):
            images = [open_image(r.path) for r in self.references[i : i + CHUNK]]
            for name, m in self._measures.items():
                chunks[name].append(m.features(images))
        self._features = {name: torch.cat(parts) for name, parts in chunks.items()}

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image]) -> list[Score]:
        """One score a sample."""
        described = {name: m.features(images) for name, m in self._measures.items()}
        nearness = self._search.compare(described[self._search.name], self._features[self._search.name])
        best = nearness.argmax(1) if self._search.higher_is_closer else nearness.argmin(1)
        values = {
            name: m.pair(described[name], self._features[name][best]).tolist() for name, m in self._measures.items()
        }
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

    def nearest_unrelated(self, chosen: Sequence[int], groups: torch.Tensor) -> list[float]:
        """The deciding measure between each chosen reference and the nearest one of another group; groups: [m].

        A reference without any other group is left out.
        """
        own, search = self._features[self.measure.name], self._features[self._search.name]
        worst = -torch.inf if self._search.higher_is_closer else torch.inf
        values: list[float] = []
        for i in range(0, len(chosen), ROWS):
            rows = torch.tensor(chosen[i : i + ROWS])
            related = groups[rows][:, None] == groups[None]
            rows, related = rows[~related.all(1)], related[~related.all(1)]
            if len(rows):
                nearness = self._search.compare(search[rows], search).masked_fill(related, worst)
                best = nearness.argmax(1) if self._search.higher_is_closer else nearness.argmin(1)
                values += self.measure.pair(own[rows], own[best]).tolist()
        return values

    def distinct(self, score: Score, margin: float | None = None) -> bool:
        """Whether a sample is far enough from being a copy to be kept; `margin` defaults to the measure's own."""
        margin = self.measure.margin if margin is None else margin
        return not is_near_copy(self.measure, score.measures[self.measure.name], self.threshold, margin)
