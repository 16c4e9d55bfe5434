"""Near-copies among the references: one picture that is there 300 times is one finding, not 300.

Near-copies are pictures that the deciding measure would call copies of each other. Measures on pixels see less than an
embedding does, so with them tiles must also agree in pixels and in colour: the variants of a template, one arrangement
on many backgrounds, are alike to SSIM, but they are many pictures, and a chain of them would join what has nothing in
common. Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch

from memfix.index.groups import Forest
from memfix.index.store import Ids
from memfix.measures.base import Measure
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import TiledL2
from memfix.records import Reference

ROWS, COLUMNS = 512, 4096  # of one block of comparisons: 8 MiB
PAIRS = 256  # compared pixel by pixel at once: 24 MiB
COLOUR = 0.1
"""Most that the mean colours of a tile may differ by, rms over the channels. On the bundled references: a re-encoded,
halved or slightly cropped picture reaches 0.05, one made 10 % darker 0.10, the nearest other background 0.13."""
SLACK = 2e-3  # what cancellation in a distance by matrix product may amount to


def siblings(measure: Measure, threshold: float, features: Mapping[str, torch.Tensor]) -> list[Ids]:
    """Groups of near-copies among n references, the largest first; `features` are [n, …] of `measure` and `tiled_l2`.

    A group is a connected component, whatever its size: every pair is compared, in blocks, or ruled out by a lower
    bound of its distance. Equal pictures always share a group. Memory beyond the features is that of a few blocks.
    """
    pixels, own = features[TiledL2.name], features[measure.name]
    forest = Forest(len(pixels))
    join_equal(forest, _thumbnails(pixels))
    if isinstance(measure, Embedding):
        strict = (1 + threshold) / 2  # chains of pictures that just pass would make one group of half a set
        for rows, columns in _blocks(len(own)):
            forest.link(rows, columns, (measure.compare(own[rows], own[columns]) >= strict).numpy())
    else:
        _link_by_pixels(forest, measure, threshold, own, pixels)
    return forest.groups()


def join_equal(forest: Forest, things: Iterable[Hashable]) -> None:
    """Join those of the n things that are equal; an empty one is equal to nothing."""
    first: dict[Hashable, int] = {}
    for i, thing in enumerate(things):
        if thing and (same := first.setdefault(thing, i)) != i:
            forest.join(same, i)


def unrelated_groups(references: Sequence[Reference], pixels: torch.Tensor) -> torch.Tensor:
    """[n] labels: references with one caption, or that are one picture, share theirs; `pixels` are of `tiled_l2`."""
    forest = Forest(len(references))
    join_equal(forest, (r.text for r in references))
    join_equal(forest, _thumbnails(pixels))
    return torch.from_numpy(forest.roots(np.arange(len(references))))


def grouped(references: Sequence[Reference], groups: Iterable[Ids]) -> list[Reference]:
    """The references, each with the file name of the first member of its group; groups hold places in `references`."""
    first = {int(i): references[int(members[0])].file_name for members in groups for i in members}
    return [r.model_copy(update={"group": first.get(i, "")}) for i, r in enumerate(references)]


def representatives(references: Iterable[Reference]) -> dict[str, str]:
    """File name → the file name that stands for its group, its own if it is alone."""
    return {r.file_name: r.group or r.file_name for r in references}


def sizes(references: Iterable[Reference]) -> Counter[str]:
    """Number of members by the name that stands for the group; 1 for those that are alone."""
    return Counter(representatives(references).values())


def _thumbnails(pixels: torch.Tensor) -> Iterator[bytes]:
    return (blake2b(row.numpy(), digest_size=16).digest() for row in pixels)


def _blocks(n: int) -> Iterator[tuple[Ids, Ids]]:
    """Row and column places that cover every pair of n things."""
    for row in range(0, n, ROWS):
        for column in range(row, n, COLUMNS):
            yield np.arange(row, min(row + ROWS, n)), np.arange(column, min(column + COLUMNS, n))


class _Test(NamedTuple):
    """A measure, features of all things, and the value that makes a pair pass."""

    measure: Measure
    features: torch.Tensor
    threshold: float

    def passing(self, thing: int, others: Ids) -> Ids:
        """Those of `others` that pass together with `thing`."""
        if not len(others):
            return others
        there = self.features[others]
        values = self.measure.pair(self.features[thing].expand_as(there), there)
        close = values >= self.threshold if self.measure.higher_is_closer else values <= self.threshold
        passing: Ids = others[close.numpy()]
        return passing


def _link_by_pixels(
    forest: Forest, measure: Measure, threshold: float, own: torch.Tensor, pixels: torch.Tensor
) -> None:
    """Compare what may be near, the cheapest comparison first, and leave out what is one group already."""
    tiled, colours = TiledL2(), _colours(pixels)
    decides = measure.name == tiled.name
    tests = [_Test(tiled, colours, COLOUR), _Test(tiled, pixels, threshold if decides else tiled.threshold)]
    tests += [] if decides else [_Test(measure, own, threshold)]
    means = colours.flatten(1) / colours.shape[1] ** 0.5  # at this scale no farther apart than the farthest tile
    for rows, columns in _blocks(len(pixels)):
        near = (torch.cdist(means[rows], means[columns]) <= COLOUR + SLACK).numpy()
        for thing, candidates in zip(rows.tolist(), near, strict=True):
            places = columns[candidates & (columns > thing)]
            for start in range(0, len(places), PAIRS):
                _join_passing(forest, thing, places[start : start + PAIRS], tests)


def _join_passing(forest: Forest, thing: int, others: Ids, tests: Iterable[_Test]) -> None:
    others = others[forest.roots(others) != forest.roots(np.array([thing]))]
    for test in tests:
        others = test.passing(thing, others)
    for other in others.tolist():
        forest.join(thing, other)


def _colours(pixels: torch.Tensor) -> torch.Tensor:
    """[n, tiles, 3] mean colours, scaled so that a tile's distance is a root mean square; from those of `tiled_l2`."""
    channels = pixels.reshape(*pixels.shape[:2], 3, -1)
    means: torch.Tensor = channels.mean(3) * channels.shape[3] ** 0.5
    return means
