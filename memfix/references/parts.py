"""Copies of a part, and what kind of copies a prompt gives; once all samples of it are there. Scores in, scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from memfix.records import Kind, Part, Score
from memfix.references import region

VERBATIM_AREA = 0.9  # copies that agree on this much of the picture are one picture


def find_parts(
    scores: Sequence[Score], samples: torch.Tensor, names: Sequence[str], references: torch.Tensor
) -> list[Score]:
    """The scores of one prompt, those of copies of a part among them marked.

    `samples` [n, 3, h, w] belong to `scores`, `references` [m, 3, h, w] to `names`. A region that only one or two
    samples have in common with a reference is no finding: there must be as many as it takes to call it fixed. And they
    must have it in one place: samples that resemble different references each somewhere else do so by chance.
    """
    if len(scores) <= region.FEWEST or not names:
        return list(scores)
    regions = region.fixed(samples)
    best, nearest = region.likeness(samples, regions, references).max(1)
    copied = best >= region.LIKENESS
    enough = copied.sum() > region.quorum(len(scores))
    if not enough or region.common_area(samples[copied]) < region.LEAST_AREA:
        return list(scores)
    areas = regions.float().mean((1, 2))
    return [
        score if score.copy_ or not copied[i] else score.model_copy(update={"copy_": True, "part": Part(
            reference=names[int(nearest[i])], area=round(float(areas[i]), 4), likeness=round(float(best[i]), 4),
        )})
        for i, score in enumerate(scores)
    ]  # fmt: skip


def kind_of(
    scores: Sequence[Score], samples: torch.Tensor, references: Mapping[str, torch.Tensor]
) -> tuple[Kind | None, float | None]:
    """What kind of copies these are, and the share of the picture in which they agree; none without copies.

    Copies that agree all over are `verbatim`. Those that agree on a part are a `template` if they show several
    references that differ, which then have that part in common, and else `partial`: one reference is copied in part.
    Without further references of a template nobody can tell the two apart.

    A region that covers the picture, and the reference in it all over, is no part: such a sample is a copy as a whole
    that the measure's threshold leaves out.
    """
    copies = [i for i, score in enumerate(scores) if score.copy_]
    if not copies:
        return None, None
    whole = [i for i in copies if _covers(scores[i], samples[i], references)]
    chosen = whole if 2 * len(whole) >= len(copies) else copies  # what most copies are
    area = region.common_area(samples[chosen])
    if area >= VERBATIM_AREA and chosen is whole:
        return Kind.VERBATIM, round(area, 4)
    shown = [references[name] for name in dict.fromkeys(scores[i].shows for i in chosen) if name in references]
    differ = len(shown) > 1 and region.common_area(torch.stack(shown)) < VERBATIM_AREA
    return Kind.TEMPLATE if differ else Kind.PARTIAL, round(area, 4)


def _covers(copy: Score, sample: torch.Tensor, references: Mapping[str, torch.Tensor]) -> bool:
    """Whether a copy shows all of its reference, and not a part of it."""
    if copy.part is None:
        return True
    shown = references.get(copy.part.reference)
    return (
        copy.part.area >= VERBATIM_AREA
        and shown is not None
        and region.common_area(torch.stack([sample, shown])) >= VERBATIM_AREA
    )
