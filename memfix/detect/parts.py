"""Copies of a part, and what kind of copies a prompt gives. After all samples of a prompt are there: scores in, scores out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from memfix.measures import region
from memfix.records import Kind, Part, Score

VERBATIM_AREA = 0.9  # copies that agree on more of the picture than this are one picture


def find_parts(
    scores: Sequence[Score], samples: torch.Tensor, names: Sequence[str], references: torch.Tensor
) -> list[Score]:
    """The scores of one prompt, those of copies of a part among them marked.

    `samples` [n, 3, h, w] belong to `scores`, `references` [m, 3, h, w] to `names`. A region that only one or two
    samples have in common with a reference is no finding: there must be as many as it takes to call it fixed.
    """
    if len(scores) <= region.FEWEST or not names:
        return list(scores)
    regions = region.fixed(samples)
    best, nearest = region.likeness(samples, regions, references).max(1)
    copied = best >= region.LIKENESS
    if copied.sum() <= region.quorum(len(scores)):
        return list(scores)
    areas = regions.float().mean((1, 2))
    return [
        score if score.copy_ or not copied[i] else score.model_copy(update={"copy_": True, "part": Part(
            reference=names[int(nearest[i])], area=round(float(areas[i]), 4), likeness=round(float(best[i]), 4),
        )})
        for i, score in enumerate(scores)
    ]  # fmt: skip


def kind_of(scores: Sequence[Score], samples: torch.Tensor) -> tuple[Kind | None, float | None]:
    """What kind of copies these are, and the share of the picture in which they agree; none without copies.

    Copies that agree all over are `verbatim`. Those that agree on a part are a `template` if they are near several
    references, which then have that part in common, and else `partial`: one reference is copied in part. Without
    further references of a template nobody can tell the two apart.
    """
    chosen = [i for i, score in enumerate(scores) if score.copy_]
    if not chosen:
        return None, None
    area = region.common_area(samples[chosen])
    if area >= VERBATIM_AREA and not all(scores[i].part for i in chosen):
        return Kind.VERBATIM, round(area, 4)
    several = len({scores[i].shows for i in chosen}) > 1
    return Kind.TEMPLATE if several else Kind.PARTIAL, round(area, 4)
