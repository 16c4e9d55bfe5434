"""The references of a run as features, each picture decoded once, and samples held against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from PIL import Image

from memfix.errors import MemfixError
from memfix.inputs.references import opened
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import PIXELS
from memfix.measures.base import Measure, Unrelated, is_copy, is_near_copy
from memfix.measures.descriptor import Descriptor
from memfix.measures.duplicates import duplicates, unrelated_groups
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim, TiledL2, detail
from memfix.measures.siblings import grouped, siblings
from memfix.records import Reference, Sample, Score

CHUNK = 256
ROWS = 64


class Search(NamedTuple):
    """How the nearest reference of a sample is found: all of them by one measure, or some that it brings by another."""

    by: str
    candidates: int
    """How many references `by` brings."""
    then: str
    """The measure that chooses among these."""


class Gallery:
    """References, and the measure that decides what a copy is. All measures are taken on a sample's nearest reference.

    Nearest by the deciding measure if it is a matrix product, as embeddings are, else by `tiled_l2`, which is one.
    """

    def __init__(
        self, references: Sequence[Reference], measure: Measure, threshold: float | None = None,
        wrong: WrongRows | None = None,
    ) -> None:  # fmt: skip
        """References that cannot be read go to `wrong`; without it they are an error."""
        self.measure = measure
        self.threshold = measure.threshold if threshold is None else threshold
        self._measures = {**PIXELS, measure.name: measure}
        self._search = search_measure(measure)
        self.references = list[Reference]()
        chunks: dict[str, list[torch.Tensor]] = {name: [] for name in self._measures}
        for i in range(0, len(references), CHUNK):
            if readable := list(opened(references[i : i + CHUNK], wrong)):
                self.references += [r for r, _ in readable]
                for name, m in self._measures.items():
                    chunks[name].append(m.features([image for _, image in readable]))
        if not self.references:
            raise MemfixError(f"None of the {len(references)} references can be read.", "Replace them.")
        self._features = {name: torch.cat(parts) for name, parts in chunks.items()}

    def __len__(self) -> int:
        """The number of references."""
        return len(self.references)

    @property
    def descriptors(self) -> list[Descriptor]:
        """What describes samples, beside the measures on pixels."""
        return descriptors(self.measure)

    @property
    def search(self) -> Search:
        """How the nearest reference of a sample is found."""
        return Search(self._search.name, 1, self._search.name)

    def score(self, samples: Sequence[Sample], images: Sequence[Image.Image]) -> list[Score]:
        """One score a sample."""
        described = {name: m.features(images) for name, m in self._measures.items()}
        best = nearest(
            self._search, self._search.compare(described[self._search.name], self._features[self._search.name])
        )
        values = {name: m.pair(described[name], self._features[name][best]) for name, m in self._measures.items()}
        names = [self.references[i].file_name for i in best.tolist()]
        return scores(samples, images, names, values, self.measure, self.threshold)

    def nearest_unrelated(self, chosen: Sequence[int]) -> Unrelated:
        """The deciding measure between each chosen reference and the nearest one that is unrelated to it.

        Related are references that are one picture, re-encoded or resized, or have one caption, however long the chain.
        A reference without any other is left out.
        """
        own, search = self._features[self.measure.name], self._features[self._search.name]
        pictures = duplicates(self._features[TiledL2.name])
        groups = unrelated_groups(self.references, pictures)
        first: dict[int, int] = {}
        for i in chosen:
            first.setdefault(int(pictures[i]), i)
        firsts = list(first.values())
        values: list[float] = []
        for i in range(0, len(firsts), ROWS):
            rows = torch.tensor(firsts[i : i + ROWS])
            related = groups[rows][:, None] == groups[None]
            rows, related = rows[~related.all(1)], related[~related.all(1)]
            if len(rows):
                nearness = self._search.compare(search[rows], search).masked_fill(related, farthest(self._search))
                values += self.measure.pair(own[rows], own[nearest(self._search, nearness)]).tolist()
        return Unrelated(values, len(chosen) - len(firsts))

    def distinct(self, score: Score, margin: float | None = None) -> bool:
        """Whether a sample is far enough from being a copy to be kept; `margin` defaults to the measure's own."""
        return is_distinct(self.measure, self.threshold, score, margin)

    def thumbnails(self, near: Iterable[str]) -> tuple[list[str], torch.Tensor]:
        """Names and small pictures [m, 3, 32, 32] of all references, whichever are `near`."""
        return [r.file_name for r in self.references], self._features[Ssim.name]

    def recorded(self, names: Iterable[str] = ()) -> list[Reference]:
        """All references, each with its group of near-copies. They are few enough, so `names` picks none."""
        return grouped(self.references, siblings(self.measure, self.threshold, self._features))


# -- what does not depend on where the references are -----------------------------------------------------------


def descriptors(measure: Measure) -> list[Descriptor]:
    """What a measure describes pictures by; nothing if it works on pixels."""
    return [measure.descriptor] if isinstance(measure, Embedding) else []


def search_measure(measure: Measure) -> Measure:
    """The measure that says which reference is the nearest, where `measure` decides whether it is copied."""
    return measure if isinstance(measure, Embedding) else PIXELS[TiledL2.name]


def farthest(measure: Measure) -> float:
    """A value that every other one is nearer than."""
    return -torch.inf if measure.higher_is_closer else torch.inf


def nearest(measure: Measure, values: torch.Tensor) -> torch.Tensor:
    """[n] columns of the nearest in each row of [n, m]; the first of equals."""
    return values.argmax(1) if measure.higher_is_closer else values.argmin(1)


def is_distinct(measure: Measure, threshold: float, score: Score, margin: float | None) -> bool:
    """Whether a score is short of being a copy by `margin`, or by the measure's own."""
    margin = measure.margin if margin is None else margin
    return not is_near_copy(measure, score.measures[measure.name], threshold, margin)


def scores(
    samples: Sequence[Sample], images: Sequence[Image.Image], references: Sequence[str],
    values: Mapping[str, torch.Tensor], measure: Measure, threshold: float,
) -> list[Score]:  # fmt: skip
    """One score a sample, whose nearest reference stands beside it; `values` are [n] of each measure."""
    listed = {name: v.tolist() for name, v in values.items()}
    return [
        Score(
            file_name=s.file_name, prompt_id=s.prompt_id, seed=s.seed, seeds=s.seeds, reference=references[i],
            measures={name: round(v[i], 5) for name, v in listed.items()},
            copy_=is_copy(measure, listed[measure.name][i], threshold), detail=round(d, 5),
        )
        for i, (s, d) in enumerate(zip(samples, detail(images), strict=True))
    ]  # fmt: skip
