"""A reference set too large to hold: the nearest references are found in an index, and only those are opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from memfix.index.search import Neighbours
from memfix.index.store import Store
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import PIXEL_MEASURES
from memfix.measures.base import Measure, Unrelated
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Descriptor
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim, TiledL2, detail
from memfix.records import Reference
from memfix.references.appearance import Appearance, Draw
from memfix.references.described import Described
from memfix.references.forest import Forest
from memfix.references.in_memory import ROWS, Nearest, Search, descriptors, evenly, nearest, search_measure
from memfix.references.links import CELLS, Links, Pairs
from memfix.references.near_copies import COLOUR, PAIRS_AT_ONCE, colours, grouped, near_copies, siblings, strict
from memfix.references.numbered import LAST, IndexReferences
from memfix.references.one_picture import Prints, one_picture

OPENED = 16  # pictures at once, of which only their detail is asked for
CANDIDATES = 8  # of the index's descriptor, among which another measure finds its nearest


class IndexedReferences:
    """The references of an index, and others besides, under the measure that decides what a copy is.

    If the index holds that measure's own descriptors, the nearest reference and its cosine are those of the search.
    Otherwise its descriptors find candidates, and the nearest is the one that `HeldReferences` would choose among them:
    what the descriptor does not see as near is missed.
    """

    def __init__(
        self, store: Store, descriptor: Descriptor, others: Iterable[Reference], measure: Measure,
        wrong: WrongRows | None = None, witnesses: Sequence[Measure] = (), draw: Draw | None = None,
    ) -> None:  # fmt: skip
        """`witnesses` look for a nearest reference of their own among the CANDIDATES that the index brings.

        They and structure see references as `draw` makes them, or without it as they are.
        """
        self.measure = measure
        self._witnesses = {w.name: w for w in witnesses}
        self._descriptor = descriptor
        self._references = IndexReferences(store, descriptor, others, wrong)
        self._decides = (measure.name, measure.identity) == (descriptor.name, descriptor.identity)
        self._candidates = 1 if self._decides else CANDIDATES
        self._search = search_measure(measure)
        self._paired = PIXEL_MEASURES if self._decides else {**PIXEL_MEASURES, measure.name: measure}
        self._measures = {**self._witnesses, **self._paired}
        self._described = Described(self._references.open, Appearance(self._measures, witnesses, draw))
        self._prints = Described(self._references.open, Appearance({Prints.name: Prints()}), kept=CELLS)
        self._pictures = Links(self._references, self._one_picture, most=LAST)
        self._near: dict[float, Links] = {}

    def __len__(self) -> int:
        """The number of references."""
        return len(self._references)

    @property
    def descriptors(self) -> list[Descriptor]:
        """What describes samples, beside the measures on pixels; that of the index first."""
        return [self._descriptor, *(d for d in descriptors(self.measure) if d is not self._descriptor)]

    @property
    def search(self) -> Search:
        """How the nearest reference of a sample is found."""
        name = self._descriptor.name
        return Search(name, self._candidates, name if self._decides else self._search.name)

    def nearest(self, images: Sequence[Image.Image]) -> Nearest:
        """The nearest reference of each picture, and all measures on that pair."""
        if not images:
            return Nearest([], {})
        brought = CANDIDATES if self._witnesses else self._candidates
        found = self._references.neighbours(self._descriptor(images).numpy(), brought)
        described = {name: m.features(images) for name, m in self._measures.items()}
        first = Neighbours(found.scores[:, : self._candidates], found.ids[:, : self._candidates])
        best, values = self._closest(described, first)
        heard = {name: self._heard(m, described, found) for name, m in self._witnesses.items()}
        return Nearest(self._names(best), values, {n: (self._names(own), told) for n, (own, told) in heard.items()})

    def _names(self, numbers: Iterable[int]) -> list[str]:
        return list(map(self._references.name, numbers))

    def nearest_unrelated(self, chosen: Sequence[int], witness: Measure | None = None) -> Unrelated:
        """The deciding measure, or a witness, between each chosen reference and the nearest unrelated one.

        Related are references that are one picture, re-encoded or resized, or have one caption: that of the table of
        the indexed folder, as an index holds none. A reference without an unrelated one among its 4096 nearest is left
        out.
        """
        self._pictures.follow(chosen)
        first: dict[int, int] = {}
        for i in chosen:
            first.setdefault(min(self._pictures.of(i)), i)
        numbers = np.array(list(first.values()), np.int64)
        found = self._references.unrelated(numbers, CANDIDATES if witness else self._candidates, self._pictures.of)
        some, left_out = found.ids[:, 0] >= 0, len(chosen) - len(first)
        numbers, found = numbers[some], Neighbours(found.scores[some], found.ids[some])
        if self._decides and witness is None:
            return Unrelated(found.scores[:, 0].tolist(), left_out)
        values: list[float] = []
        for i in range(0, len(numbers), ROWS):
            part = Neighbours(found.scores[i : i + ROWS], found.ids[i : i + ROWS])
            own = self._described(numbers[i : i + ROWS].tolist())
            told = self._heard(witness, own, part)[1] if witness else self._closest(own, part)[1][self.measure.name]
            values += told.tolist()
        return Unrelated(values, left_out)

    def some(self, count: int) -> list[Image.Image]:
        """Pictures of up to `count` references, spread over all of them."""
        return self._references.open(evenly(len(self), count))

    def detail(self, count: int) -> list[float]:
        """The detail of up to `count` references, spread over all of them, a few of which are open at once."""
        chosen = evenly(len(self), count)
        parts = [chosen[i : i + OPENED] for i in range(0, len(chosen), OPENED)]
        return [value for part in parts for value in detail(self._references.open(part))]

    def thumbnails(self, near: Iterable[str]) -> tuple[list[str], torch.Tensor]:
        """Names and small pictures [m, 3, 32, 32] of the references that are `near`: not all of an index."""
        names = list(dict.fromkeys(near))
        return names, self._described(list(map(self._references.number, names)))[Ssim.name]

    def keep(self, file: Path) -> None:
        """Nothing: the index keeps it."""

    def recorded(self, rule: CopyRule, names: Iterable[str] = ()) -> list[Reference]:
        """Those of `names`, in this order, and all that are not in the index; each with its group of near-copies.

        After them the rest of these groups, which the index is searched for: what is near by its descriptor, and a
        near-copy by the deciding measure, of any member.
        """
        numbers = list(dict.fromkeys([*map(self._references.number, names), *self._references.others.tolist()]))
        if not numbers:
            return []
        features = self._described(numbers)
        if self._decides:
            features[self.measure.name] = torch.from_numpy(self._references.vectors(np.array(numbers)))
        near = self._near.setdefault(rule.threshold, Links(self._references, partial(self._near_copies, rule)))
        near.follow(numbers)
        groups = near.groups(numbers)
        listed = [*numbers, *sorted(set().union(*groups).difference(numbers))]
        place, forest = {number: i for i, number in enumerate(listed)}, Forest(len(listed))
        together = [g.tolist() for g in siblings(rule, features)]
        for members in [*together, *([place[number] for number in group] for group in groups)]:
            for member in members:
                forest.join(members[0], member)
        return grouped(self._references.records(listed), forest.groups())

    def _one_picture(self, pairs: Pairs) -> NDArray[np.bool_]:
        """[n] whether references are one picture but for re-encoding and resizing."""
        first, second = (self._prints(numbers.tolist())[Prints.name] for numbers in (pairs.first, pairs.second))
        same: NDArray[np.bool_] = one_picture(first, second).numpy()
        return same

    def _near_copies(self, rule: CopyRule, pairs: Pairs) -> NDArray[np.bool_]:
        """[n] whether references are near-copies by the deciding measure. Few pairs have the colours for it."""
        if self._decides:
            return pairs.cosines >= strict(rule.threshold)
        left = np.arange(len(pairs.first))
        if not isinstance(self.measure, Embedding):
            colour = [colours(self._prints(numbers.tolist())[Prints.name]) for numbers in (pairs.first, pairs.second)]
            left = np.flatnonzero(TiledL2().pair(*colour) <= COLOUR)
        same = np.zeros(len(pairs.first), bool)
        for i in range(0, len(left), PAIRS_AT_ONCE):
            part = left[i : i + PAIRS_AT_ONCE]
            first, second = (self._described(numbers[part].tolist()) for numbers in (pairs.first, pairs.second))
            same[part] = near_copies(rule, first, second).numpy()
        return same

    def _closest(
        self, described: Mapping[str, torch.Tensor], found: Neighbours
    ) -> tuple[list[int], dict[str, torch.Tensor]]:
        """[n] the nearest candidate of each of n pictures, and [n] of every measure on that pair."""
        candidates = np.sort(np.where(found.ids < 0, found.ids[:, :1], found.ids), axis=1)  # of equals, the first wins
        numbers, places = np.unique(candidates, return_inverse=True)
        at = torch.from_numpy(places.reshape(candidates.shape))
        features = self._described(numbers.tolist())
        k = candidates.shape[1]
        if k > 1:
            search = self._search.name
            values = self._search.pair(described[search].repeat_interleave(k, 0), features[search][at.flatten()])
            at = at.gather(1, nearest(self._search, values.view(-1, k))[:, None])
        chosen = at[:, 0]
        pairs = {name: m.pair(described[name], features[name][chosen]) for name, m in self._paired.items()}
        if self._decides:
            pairs[self.measure.name] = torch.from_numpy(found.scores[:, 0])
        return numbers[chosen.numpy()].tolist(), pairs

    def _heard(
        self, witness: Measure, described: Mapping[str, torch.Tensor], found: Neighbours
    ) -> tuple[list[int], torch.Tensor]:
        """[n] the nearest candidate of each of n pictures by a witness, and its values."""
        candidates = np.where(found.ids < 0, found.ids[:, :1], found.ids)
        numbers, places = np.unique(candidates, return_inverse=True)
        at = torch.from_numpy(places.reshape(candidates.shape))
        features, k = self._described(numbers.tolist())[witness.name], at.shape[1]
        values = witness.pair(described[witness.name].repeat_interleave(k, 0), features[at.flatten()]).view(-1, k)
        best = nearest(witness, values)[:, None]
        return numbers[at.gather(1, best)[:, 0].numpy()].tolist(), values.gather(1, best)[:, 0]
