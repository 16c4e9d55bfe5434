"""What a check holds samples against: references in memory, or those of an index. `open_references` makes either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from memfix.errors import MemfixError
from memfix.files import digest, sha256
from memfix.index.store import Store
from memfix.inputs.inside import container
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures.base import Measure, Unrelated
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Descriptor, get_descriptor
from memfix.measures.weights import Wanted
from memfix.records import Reference
from memfix.references.appearance import Draw
from memfix.references.in_memory import HeldReferences, Nearest, Search, descriptors
from memfix.references.indexed import IndexedReferences


class ReferenceSet(Protocol):
    """Training images, described by the measure that decides what a copy is and by those on pixels."""

    measure: Measure

    def __len__(self) -> int:
        """The number of references."""
        ...

    @property
    def descriptors(self) -> list[Descriptor]:
        """What describes samples, beside the measures on pixels."""
        ...

    @property
    def search(self) -> Search:
        """How the nearest reference of a sample is found."""
        ...

    def nearest(self, images: Sequence[Image.Image]) -> Nearest:
        """The nearest reference of each picture, and all measures on that pair."""
        ...

    def nearest_unrelated(self, chosen: Sequence[int], witness: Measure | None = None) -> Unrelated:
        """The deciding measure, or a witness, between each chosen reference, by number, and its nearest unrelated."""
        ...

    def some(self, count: int) -> list[Image.Image]:
        """Pictures of up to `count` references, spread over all of them."""
        ...

    def detail(self, count: int) -> list[float]:
        """The detail of up to `count` references, spread over all of them."""
        ...

    def thumbnails(self, near: Iterable[str]) -> tuple[list[str], torch.Tensor]:
        """Names and small pictures [m, 3, 32, 32] to look for copies of a part in; at least those `near`."""
        ...

    def keep(self, file: Path) -> None:
        """Write down what the references were described as, where nothing else keeps it."""
        ...

    def recorded(self, rule: CopyRule, names: Iterable[str] = ()) -> list[Reference]:
        """What a run writes down of the references, with their groups of near-copies: all, or those of `names`."""
        ...


def open_references(
    references: Sequence[Reference], measure: Measure, index: Path | None = None, wanted: Wanted | None = None,
    wrong: WrongRows | None = None, described: Path | None = None, witnesses: Sequence[Measure] = (),
    draw: Draw | None = None,
) -> ReferenceSet:  # fmt: skip
    """References in memory or, with `index`, those of that folder and `references` besides.

    Of `references`, those that the index holds are left out. `wanted` are the weights of the descriptor of the index.
    Of `references`, those that cannot be read go to `wrong`, or are an error without it. What they were described as
    is taken from the file `described`, if it is that of the same ones. Witnesses and structure see references as `draw`
    makes them; see `Appearance`.
    Raises MemfixError for an index that is unfinished, empty, or of other weights than those wanted.
    """
    if index is None:
        return HeldReferences(references, measure, wrong, described, witnesses, draw)
    store = _finished(index)
    name = store.manifest.descriptor
    held = {d.name: d for d in descriptors(measure)}  # no network is loaded twice
    descriptor = held.get(name) or get_descriptor(name, wanted)
    if descriptor.identity != store.manifest.identity:
        raise MemfixError(
            f"{index} was made with {name} ({store.manifest.identity}), but the samples would be described with "
            f"{name} ({descriptor.identity}).",
            f"Give the weights that the index was made with, or make another: memfix index {store.manifest.source} "
            "--out FOLDER",
        )
    return IndexedReferences(store, descriptor, references, measure, wrong, witnesses, draw)


def fingerprint(references: Iterable[Reference], index: Path | None = None) -> str:
    """Hashes of the contents of all references, and of their names and captions; of an index, those that it was made
    from, and its vectors.

    Raises MemfixError for an index whose rows or vectors are not what its manifest says.
    """
    held = list(references)
    named = digest(*sorted(f"{r.file_name}\0{r.text}" for r in held))
    files = f"{sha256({container(r.path) for r in held})} {named}"
    if index is None:
        return files
    store = _finished(index)
    return f"{store.content} {store.vectors_sha256} {files}"


def _finished(index: Path) -> Store:
    store = Store.open(index)
    again = f"memfix index {store.manifest.source} --out {index}"
    if (index / "plan").exists():
        raise MemfixError(f"{index} is not finished.", f"Finish it with: {again}")
    if not len(store):
        raise MemfixError(f"{index} contains no picture.", f"Bring it up to date with: {again}")
    return store
