"""The references of a run as features, each picture decoded once, and samples held against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from memfix.errors import MemfixError
from memfix.findings import SearchRecord
from memfix.inputs.references import opened, opened_with_frames
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import PIXEL_MEASURES
from memfix.measures.base import Measure, Unrelated
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Descriptor
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim, TiledL2, detail_of
from memfix.measures.structure import BROUGHT, Structure, alike_in_outlines, outlines
from memfix.records import Reference
from memfix.references import kept
from memfix.references.appearance import Appearance, Draw
from memfix.references.near_copies import grouped, siblings
from memfix.references.one_picture import duplicates, unrelated_groups

CHUNK = 256
ROWS = 64


class Search(NamedTuple):
    """How the nearest reference of a sample is found: all of them by one measure, or some that it brings by another."""

    by: str
    candidates: int
    """How many references `by` brings."""
    then: str
    """The measure that chooses among these."""

    def record(self) -> SearchRecord:
        """For the header of a run."""
        return SearchRecord(**self._asdict())


class Nearest(NamedTuple):
    """For each of n pictures the nearest reference by name, and [n] values of every measure on that pair."""

    names: list[str]
    values: dict[str, torch.Tensor]
    witnesses: Mapping[str, tuple[list[str], torch.Tensor]] = {}
    """Of each witness the references that it finds nearest itself, by name, and [n] its values."""


class HeldReferences:
    """References in memory. All measures are taken on a picture's nearest reference.

    Nearest by the deciding measure if it is a matrix product, as embeddings are. What structure compares is brought by
    outlines, and for the other measures `tiled_l2` says which one is the nearest: both are such products.
    """

    def __init__(
        self, references: Sequence[Reference], measure: Measure, wrong: WrongRows | None = None,
        described: Path | None = None, witnesses: Sequence[Measure] = (), draw: Draw | None = None,
    ) -> None:  # fmt: skip
        """References that cannot be read go to `wrong`, and further frames of the others are references too; without
        it, these are the references, and one that cannot be read is an error.

        `witnesses` are further measures, of which each looks for a nearest reference of its own; they and structure
        see references as `draw` makes them, or without it as they are.

        What `keep` wrote to `described` is taken from there, as long as it is of the same references and measures.
        """
        self.measure = measure
        self._paired = {**PIXEL_MEASURES, measure.name: measure}
        self._witnesses = list(witnesses)
        self._measures = {**{w.name: w for w in witnesses}, **self._paired}
        self._appearance = Appearance(self._measures, witnesses, draw)
        self._search = search_measure(measure)
        self.references = list(references)
        known = kept.read_described(described, references, self._appearance) if described else None
        self._described = self._describe(wrong) if known is None else known
        self._features = kept.features_of(self._described, self._measures)
        self._outlines: torch.Tensor | None = None

    def _describe(self, wrong: WrongRows | None) -> dict[str, torch.Tensor]:
        """Open each picture once; those that cannot be read are no references any more."""
        descriptions, readable = kept.Descriptions(self._appearance), list[Reference]()
        own = opened_with_frames(self.references, wrong) if wrong else opened(self.references, None)
        while part := list(islice(own, CHUNK)):
            readable += [r for r, _ in part]
            descriptions.add([image for _, image in part])
        if not readable:
            raise MemfixError(f"None of the {len(self.references)} references can be read.", "Replace them.")
        self.references = readable
        return descriptions.tensors()

    def keep(self, file: Path) -> None:
        """Write down what the references were described as."""
        kept.write_described(file, self._described, self.references, self._appearance)

    def __len__(self) -> int:
        """The number of references."""
        return len(self.references)

    @property
    def descriptors(self) -> list[Descriptor]:
        """What describes samples, beside the measures on pixels."""
        return [d for m in (self.measure, *self._witnesses) for d in descriptors(m)]

    @property
    def search(self) -> Search:
        """How the nearest reference of a sample is found."""
        if isinstance(self._search, Structure):
            return Search("outlines", BROUGHT, self._search.name)
        return Search(self._search.name, 1, self._search.name)

    def nearest(self, images: Sequence[Image.Image]) -> Nearest:
        """The nearest reference of each picture, and all measures on that pair."""
        described = {name: m.features(images) for name, m in self._measures.items()}
        best = self._nearest(self._search, described[self._search.name])
        values = {name: m.pair(described[name], self._features[name][best]) for name, m in self._paired.items()}
        witnesses = {}
        for m in self._witnesses:
            search = search_measure(m).name
            own = self._nearest(search_measure(m), described[search])
            witnesses[m.name] = self._names(own), m.pair(described[m.name], self._features[m.name][own])
        return Nearest(self._names(best), values, witnesses)

    def _names(self, places: torch.Tensor) -> list[str]:
        return [self.references[i].file_name for i in places.tolist()]

    def nearest_unrelated(self, chosen: Sequence[int], witness: Measure | None = None) -> Unrelated:
        """The deciding measure, or a witness, between each chosen reference and the nearest unrelated one.

        Related are references that are one picture, re-encoded or resized, or have one caption, however long the chain.
        A reference without any other is left out.
        """
        measure = witness or self.measure
        by = search_measure(measure)
        own, search = self._features[measure.name], self._features[by.name]
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
                values += measure.pair(own[rows], own[self._nearest(by, search[rows], related)]).tolist()
        return Unrelated(values, len(chosen) - len(firsts))

    def some(self, count: int) -> list[Image.Image]:
        """Pictures of up to `count` references, spread over all of them; those that cannot be read any more are left
        out."""
        chosen = [self.references[i] for i in evenly(len(self.references), count)]
        return [image for _, image in opened(chosen, WrongRows(skip=True))]

    def detail(self, count: int) -> list[float]:
        """The detail of up to `count` references, spread over all of them."""
        chosen = self._features[TiledL2.name][evenly(len(self.references), count)]
        found: list[float] = detail_of(TiledL2.pictures(chosen)).tolist()
        return found

    def _nearest(self, search: Measure, samples: torch.Tensor, but: torch.Tensor | None = None) -> torch.Tensor:
        """[n] places of the references nearest to samples, given by their features; `but` are left out, [n, m] bool."""
        references = self._features[search.name]
        if isinstance(search, Structure):
            if self._outlines is None:
                self._outlines = outlines(references)
            values = alike_in_outlines(outlines(samples), self._outlines)
            values = values if but is None else values.masked_fill(but, -torch.inf)
            coarse, places = values.topk(min(BROUGHT, len(references)), 1)
            found = search.among(samples, references, places).masked_fill(coarse == -torch.inf, -torch.inf)
            return places.gather(1, nearest(search, found)[:, None])[:, 0]
        values = search.compare(samples, references)
        return nearest(search, values if but is None else values.masked_fill(but, farthest(search)))

    def thumbnails(self, near: Iterable[str]) -> tuple[list[str], torch.Tensor]:
        """Names and small pictures [m, 3, 32, 32] of all references, whichever are `near`."""
        return [r.file_name for r in self.references], self._features[Ssim.name]

    def recorded(self, rule: CopyRule, names: Iterable[str] = ()) -> list[Reference]:
        """All references, each with its group of near-copies. They are few enough, so `names` picks none."""
        return grouped(self.references, siblings(rule, self._features))


# -- what does not depend on where the references are -----------------------------------------------------------


def evenly(n: int, count: int) -> list[int]:
    """Up to `count` of n places, evenly spread."""
    return [i * n // min(n, count) for i in range(min(n, count))]


def descriptors(measure: Measure) -> list[Descriptor]:
    """What a measure describes pictures by; nothing if it works on pixels."""
    return [measure.descriptor] if isinstance(measure, Embedding) else []


def search_measure(measure: Measure) -> Measure:
    """The measure that says which reference is the nearest, where `measure` decides whether it is copied."""
    return measure if isinstance(measure, Embedding | Structure) else PIXEL_MEASURES[TiledL2.name]


def farthest(measure: Measure) -> float:
    """A value that every other one is nearer than."""
    return -torch.inf if measure.higher_is_closer else torch.inf


def nearest(measure: Measure, values: torch.Tensor) -> torch.Tensor:
    """[n] columns of the nearest in each row of [n, m]; the first of equals."""
    return values.argmax(1) if measure.higher_is_closer else values.argmin(1)
