"""Near-copies among the references: one picture that is there 300 times is one finding, not 300.

Near-copies are pictures that the deciding measure would call copies of each other. Measures on pixels see less than an
embedding does, so with them tiles must also agree in pixels and in colour: the variants of a template, one arrangement
on many backgrounds, are alike to SSIM, but they are many pictures, and a chain of them would join what has nothing in
common. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch

from memfix.index.store import Ids, Store
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import TiledL2
from memfix.records import Reference
from memfix.references.forest import Forest

ROWS, COLUMNS = 512, 4096  # of one block of comparisons: 8 MiB
STORED_ROWS, STORED_COLUMNS = 1024, 8192  # of one that is read from an index: 32 MiB
PAIRS_AT_ONCE = 256  # compared pixel by pixel at once: 24 MiB
COLOUR = 0.1
"""Most that the mean colours of a tile may differ by, rms over the channels. On the bundled references: a re-encoded,
halved or slightly cropped picture reaches 0.05, one made 10 % darker 0.10, the nearest other background 0.13."""
SLACK = 2e-3  # what cancellation in a distance by matrix product may amount to


def siblings(rule: CopyRule, features: Mapping[str, torch.Tensor]) -> list[Ids]:
    """Groups of near-copies among n references, the largest first; `features` are [n, …] of the rule's measure
    and `tiled_l2`.

    A group is a connected component, whatever its size: every pair is compared, in blocks, or ruled out by a lower
    bound of its distance. Equal pictures always share a group. Memory beyond the features is that of a few blocks.
    """
    measure, pixels = rule.measure, features[TiledL2.name]
    forest = Forest(len(pixels))
    forest.join_equal(thumbnails(pixels))
    if isinstance(measure, Embedding):
        own, least = features[measure.name], strict(rule.threshold)
        for rows, columns in _blocks(len(own)):
            forest.link(rows, columns, (measure.compare(own[rows], own[columns]) >= least).numpy())
    else:
        link_by_pixels(forest, pixels, COLOUR, _criteria(rule, features))
    return forest.groups()


def groups_in(store: Store, threshold: float) -> list[Ids]:
    """Groups of ids whose vectors have a cosine of at least `threshold`: connected components, as of `siblings`.

    Time is that of n²/2 inner products; memory, one block of similarities and eight bytes per vector.
    """
    forest = Forest(len(store))
    for first, some in store.blocks(STORED_ROWS):
        rows = np.arange(first, first + len(some))
        for start, others in store.blocks(STORED_COLUMNS, start=first):
            forest.link(rows, np.arange(start, start + len(others)), some @ others.T >= threshold)
    return forest.groups()


def strict(threshold: float) -> float:
    """Least cosine of near-copies: chains of pictures that just pass would make one group of half a set."""
    return (1 + threshold) / 2


def near_copies(rule: CopyRule, a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """[n] bool: whether `siblings` would join each of n pairs, of which `a` and `b` are the features."""
    equal = (a[TiledL2.name] == b[TiledL2.name]).flatten(1).all(1)
    measure = rule.measure
    if isinstance(measure, Embedding):
        return equal | (measure.pair(a[measure.name], b[measure.name]) >= strict(rule.threshold))
    left = torch.arange(len(equal))
    for first, second in zip(_criteria(rule, a), _criteria(rule, b), strict=True):
        left = left[first.close(first.features[left], second.features[left])]
    return equal.index_fill(0, left, True)


def grouped(references: Sequence[Reference], groups: Iterable[Ids]) -> list[Reference]:
    """The references, each with the file name of the first member of its group; groups hold places in `references`."""
    first = {int(i): references[int(members[0])].file_name for members in groups for i in members}
    return [r.model_copy(update={"group": first.get(i, "")}) for i, r in enumerate(references)]


def thumbnails(pixels: torch.Tensor) -> Iterator[bytes]:
    """A hash of each picture, from the features of `tiled_l2`."""
    return (blake2b(row.numpy(), digest_size=16).digest() for row in pixels)


def _blocks(n: int) -> Iterator[tuple[Ids, Ids]]:
    """Row and column places that cover every pair of n things."""
    for row in range(0, n, ROWS):
        for column in range(row, n, COLUMNS):
            yield np.arange(row, min(row + ROWS, n)), np.arange(column, min(column + COLUMNS, n))


class Criterion(NamedTuple):
    """Features of all things, and which rows of two such are `close` enough: [n] bool."""

    features: torch.Tensor
    close: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def passing(self, thing: int, others: Ids) -> Ids:
        """Those of `others` that pass together with `thing`."""
        if not len(others):
            return others
        there = self.features[others]
        passing: Ids = others[self.close(self.features[thing].expand_as(there), there).numpy()]
        return passing


def within(measure: Measure, threshold: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Whether the measure of each pair passes a threshold."""

    def close(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        values = measure.pair(a, b)
        return values >= threshold if measure.higher_is_closer else values <= threshold

    return close


def _criteria(rule: CopyRule, features: Mapping[str, torch.Tensor]) -> list[Criterion]:
    """What near-copies by a measure on pixels have to pass, the cheapest first."""
    tiled, pixels = TiledL2(), features[TiledL2.name]
    decides = rule.measure.name == tiled.name
    found = [
        Criterion(colours(pixels), within(tiled, COLOUR)),
        Criterion(pixels, within(tiled, rule.threshold if decides else tiled.threshold)),
    ]
    return found if decides else [*found, Criterion(features[rule.measure.name], within(rule.measure, rule.threshold))]


def link_by_pixels(forest: Forest, pixels: torch.Tensor, apart: float, criteria: Sequence[Criterion]) -> None:
    """Join what passes all criteria, the first of which no pair passes whose mean colours are more than `apart`.

    Compares what may be near, and leaves out what is one group already; `pixels` are those of `tiled_l2`.
    """
    tiles = colours(pixels)
    means = tiles.flatten(1) / tiles.shape[1] ** 0.5  # at this scale no farther apart than the farthest tile
    for rows, columns in _blocks(len(pixels)):
        near = (torch.cdist(means[rows], means[columns]) <= apart + SLACK).numpy()
        for thing, candidates in zip(rows.tolist(), near, strict=True):
            places = columns[candidates & (columns > thing)]
            for start in range(0, len(places), PAIRS_AT_ONCE):
                _join_passing(forest, thing, places[start : start + PAIRS_AT_ONCE], criteria)


def _join_passing(forest: Forest, thing: int, others: Ids, criteria: Iterable[Criterion]) -> None:
    others = others[forest.roots(others) != forest.roots(np.array([thing]))]
    for criterion in criteria:
        others = criterion.passing(thing, others)
    for other in others.tolist():
        forest.join(thing, other)


def colours(pixels: torch.Tensor) -> torch.Tensor:
    """[n, tiles, 3] mean colours, scaled so that a tile's distance is a root mean square; from those of `tiled_l2`."""
    channels = pixels.reshape(*pixels.shape[:2], 3, -1)
    means: torch.Tensor = channels.mean(3) * channels.shape[3] ** 0.5
    return means
