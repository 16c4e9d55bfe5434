"""The references of an index and those that prompts name besides, by number, and which of them are near a vector."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memfix.errors import MemfixError
from memfix.index.originals import Originals
from memfix.index.search import Neighbours, best_of_both, nothing, search
from memfix.index.store import Ids, Store, Vectors
from memfix.inputs.captions import captions
from memfix.inputs.opening import open_image
from memfix.inputs.references import opened, opened_with_frames
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures.descriptor import Descriptor
from memfix.records import Reference

CHUNK = 64  # pictures described at once
FIRST_NEIGHBOURS = 16  # neighbours looked at for one that is unrelated; then eight times as many, and so on
LAST = 4096


class IndexReferences:
    """References by number: first those of the index, as it counts them, then the others, which are held."""

    def __init__(
        self, store: Store, descriptor: Descriptor, others: Iterable[Reference], wrong: WrongRows | None = None
    ) -> None:
        self._store, self._originals = store, Originals(store)
        self._first = len(store)
        new = [r for r in others if self._originals.find(r.file_name, r.path) is None]
        self._others, parts = list[Reference](), [np.empty((0, descriptor.dimension), np.float32)]
        own = opened_with_frames(new, wrong) if wrong else opened(new, None)
        while readable := list(islice(own, CHUNK)):
            self._others += [r for r, _ in readable]
            parts.append(descriptor([image for _, image in readable]).numpy())
        self._place = {r.file_name: self._first + i for i, r in enumerate(self._others)}
        self._other_vectors: Vectors = np.concatenate(parts)

    def __len__(self) -> int:
        """How many there are."""
        return self._first + len(self._others)

    @property
    def others(self) -> Ids:
        """The numbers of those that are not in the index."""
        return np.arange(self._first, len(self), dtype=np.int64)

    def name(self, number: int) -> str:
        """The file name of a reference."""
        return self._get(number).file_name

    def number(self, name: str) -> int:
        """The reference of a file name. Raises MemfixError if there is none."""
        found = self._place.get(name)
        found = self._store.find(name) if found is None else found
        if found is None:
            raise MemfixError(f"{self._store.path} does not contain {name}.", "Detect again in a new run.")
        return found

    def records(self, numbers: Sequence[int]) -> list[Reference]:
        """References with their captions: those in the index, else those that the indexed folder gives."""
        read = {n: self._get(n) for n in sorted(numbers)}  # in this order no segment of the index is read twice
        whole = {n: self._store.row(n).whole for n in read if n < self._first}
        texts = captions(self._originals.folder, set(whole.values()))
        return [
            read[n].model_copy(update={"text": texts.get(whole[n], read[n].text)}) if n in whole else read[n]
            for n in numbers
        ]

    def open(self, numbers: Sequence[int]) -> list[Image.Image]:
        """Decode pictures. Raises MemfixError, naming it, if one is not what was indexed."""
        rows = [self._store.row(n) for n in numbers if n < self._first]
        with ThreadPoolExecutor(cpu_count()) as pool:
            pictures = pool.map(self._originals.open, rows)
            return [next(pictures) if n < self._first else open_image(self._get(n).path) for n in numbers]

    def vectors(self, numbers: Ids) -> Vectors:
        """[m, d] descriptors."""
        indexed = numbers < self._first
        vectors = np.empty((len(numbers), self._other_vectors.shape[1]), np.float32)
        vectors[indexed] = self._store.vectors(numbers[indexed])
        vectors[~indexed] = self._other_vectors[numbers[~indexed] - self._first]
        return vectors

    def neighbours(self, queries: Vectors, k: int) -> Neighbours:
        """The k references of largest cosine for each of [q, d] queries."""
        found = search(self._store, queries, k)
        cosines = queries @ self._other_vectors.T
        return best_of_both(found, Neighbours(cosines, np.broadcast_to(self.others, cosines.shape)))

    def unrelated(self, numbers: Ids, k: int, picture: Callable[[int], Collection[int]]) -> Neighbours:
        """For each of m references the k unrelated ones nearest to it; -1 where the nearest LAST hold fewer.

        Related are those that are one `picture`, and those that share a caption with any of these.
        """
        queries, best = self.vectors(numbers), nothing(len(numbers), k)
        short, looked_at = np.arange(len(numbers)), 0
        while len(short) and looked_at < min(len(self), LAST):
            looked_at = min(8 * looked_at or FIRST_NEIGHBOURS, len(self), LAST)
            found = self.neighbours(queries[short], looked_at)
            related = self._related([picture(n) for n in numbers[short].tolist()], found.ids)
            found = Neighbours(np.where(related, -np.inf, found.scores), np.where(related, -1, found.ids))
            best.scores[short], best.ids[short] = best_of_both(nothing(len(short), k), found)
            short = short[best.ids[short, -1] < 0]
        return best

    def _related(self, pictures: Sequence[Collection[int]], others: Ids) -> NDArray[np.bool_]:
        """[m, k] whether the references of each row are one of m pictures, or have a caption of it."""
        wanted = sorted({*others.ravel().tolist()}.union(*pictures))
        text = {n: r.text for n, r in zip(wanted, self.records(wanted), strict=True)}
        related = np.zeros(others.shape, bool)
        for row, (members, ids) in enumerate(zip(pictures, others.tolist(), strict=True)):
            texts = {text[n] for n in members} - {""}
            related[row] = [i in members or text[i] in texts for i in ids]
        return related

    def _get(self, number: int) -> Reference:
        if number >= self._first:
            return self._others[number - self._first]
        row = self._store.row(number)
        return Reference(file_name=row.file_name, path=self._originals.address(row), text=row.text)
