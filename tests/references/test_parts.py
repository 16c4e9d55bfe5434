"""Copies of a part: what stays over samples, and how much of it a reference explains. Worked by hand."""

import pytest
import torch

from memfix.records import Kind, Score
from memfix.references import region
from memfix.references.parts import find_parts, kind_of

SIDE = 8


def pictures(*backgrounds: float, pattern: float = 1.0) -> torch.Tensor:
    """[n, 3, 8, 8]: a checkerboard of 0 and `pattern` in the left half, a plain background in the right one."""
    board = (torch.arange(SIDE)[:, None] + torch.arange(SIDE // 2)[None]) % 2 * pattern
    out = torch.empty(len(backgrounds), 3, SIDE, SIDE)
    out[..., : SIDE // 2] = board
    out[..., SIDE // 2 :] = torch.tensor(backgrounds)[:, None, None, None]
    return out


def score(i: int, copy: bool = False, reference: str = "other") -> Score:
    return Score(
        file_name=f"{i}.png", prompt_id="p", seed=i, reference=reference, measures={}, copy_=copy, detail=0.1
    )  # fmt: skip


def test_fixed_is_where_a_quorum_agrees() -> None:
    found = region.fixed(pictures(0.1, 0.4, 0.7, 1.0))
    assert found[:, :, : SIDE // 2].all() and not found[:, :, SIDE // 2 :].any()
    assert region.quorum(4) == 2 and region.quorum(16) == 4 and region.quorum(32) == 8
    # two that agree all over are not enough for more: each has one other, and two are wanted
    assert not region.fixed(pictures(0.1, 0.1, 0.7, 1.0))[:, :, SIDE // 2 :].any()
    assert region.fixed(pictures(0.1, 0.1, 0.1, 1.0))[0].all()


def test_likeness_by_hand() -> None:
    # checkerboard of 0 and 1: mean .5, contrast .25 a pixel and channel. A reference off by .1 explains 1 - .01/.25
    sample = pictures(0.3)
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[..., : SIDE // 2] = True
    references = torch.cat([pictures(0.9), pictures(0.9) + 0.1, torch.full((1, 3, SIDE, SIDE), 0.5)])
    found = region.likeness(sample, mask, references)
    assert found[0].tolist() == pytest.approx([1, 0.96, 0], abs=1e-5)


def test_what_says_nothing() -> None:
    sample, references = pictures(0.3), pictures(0.3)
    small = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    small[0, 0, :6] = True  # 6 of 64 pixels, less than a tenth
    assert region.likeness(sample, small, references).item() == -torch.inf
    flat = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    flat[..., SIDE // 2 :] = True  # equal, and plain
    assert region.likeness(sample, flat, references).item() == -torch.inf


def test_likeness_equals_a_direct_sum() -> None:
    g = torch.Generator().manual_seed(0)
    x, r = torch.rand(5, 3, 6, 7, generator=g), torch.rand(4, 3, 6, 7, generator=g)
    masks = torch.rand(5, 6, 7, generator=g) < 0.5
    found = region.likeness(x, masks, r)
    for i in range(5):
        for j in range(4):
            inside, other = x[i][:, masks[i]].double(), r[j][:, masks[i]].double()
            error, contrast = (inside - other).square().sum(), (inside - inside.mean(1, keepdim=True)).square().sum()
            assert found[i, j].item() == pytest.approx(float(1 - error / contrast), abs=1e-4)


def test_a_template_shows_several_references_and_a_part_one() -> None:
    samples = pictures(0.05, 0.35, 0.65, 0.95)
    variants = {"red": pictures(0.2)[0], "blue": pictures(0.8)[0]}
    names, references = list(variants), torch.stack(list(variants.values()))
    found = find_parts([score(i) for i in range(4)], samples, names, references)
    assert all(s.copy_ and s.part and s.part.area == 0.5 for s in found)
    assert [s.reference for s in found] == ["other"] * 4 and found[0].shows in names
    whole = [s.model_copy(update={"part": None, "reference": name}) for s, name in zip(found, names * 2, strict=True)]
    assert kind_of(whole, samples, variants) == (Kind.TEMPLATE, 0.5)
    # near-copies of one reference are one: it is copied in part
    twins = {"red": variants["red"], "blue": variants["red"] + 0.01}
    assert kind_of(whole, samples, twins) == (Kind.PARTIAL, 0.5)
    assert kind_of(found, samples, {"red": variants["red"]})[0] is Kind.PARTIAL


def test_copies_that_agree_all_over_are_verbatim() -> None:
    samples = pictures(0.3, 0.3, 0.3, 0.9)
    scores = [score(i, copy=i < 3, reference="r") for i in range(4)]
    assert kind_of(scores, samples, {"r": samples[0]}) == (Kind.VERBATIM, 1.0)
    assert kind_of(scores[3:], samples[3:], {"r": samples[0]}) == (None, None)


def test_parts_that_cover_the_picture_are_verbatim() -> None:
    """Whatever threshold the whole picture fell short of."""
    samples = pictures(0.3, 0.3, 0.3, 0.3, 0.9)
    names, same = ["r"], {"r": pictures(0.3)[0]}
    found = find_parts([score(i) for i in range(5)], samples, names, torch.stack(list(same.values())))
    # the last one has the half with the pattern in common with the others, and is a copy of that part alone
    assert [s.part.area for s in found if s.part] == [1, 1, 1, 1, 0.5]
    assert kind_of(found, samples, same) == (Kind.VERBATIM, 1.0)
    # the region covers the picture, and a reference with another background explains most of it: off by .2 on one half,
    # .02 of the contrast of .135
    other = {"r": pictures(0.5)[0]}
    found = find_parts([score(i) for i in range(5)], samples, names, torch.stack(list(other.values())))
    assert [s.part.area for s in found if s.part] == [1, 1, 1, 1, 0.5]
    assert kind_of(found, samples, other)[0] is Kind.PARTIAL


def test_one_sample_that_shares_a_part_is_no_finding() -> None:
    g = torch.Generator().manual_seed(1)
    samples = torch.rand(8, 3, SIDE, SIDE, generator=g)
    references = samples[:1].clone()
    scores = [score(i) for i in range(8)]
    assert find_parts(scores, samples, ["r"], references) == scores
    assert find_parts(scores[:2], samples[:2], ["r"], references) == scores[:2]
    assert find_parts(scores, samples, [], torch.empty(0, 3, SIDE, SIDE)) == scores


def test_parts_of_different_places_are_no_template() -> None:
    g = torch.Generator().manual_seed(0)
    samples, references = torch.rand(8, 3, 12, 12, generator=g), torch.rand(2, 3, 12, 12, generator=g)
    apart = samples.clone()
    apart[:3, :, :6] = references[0, :, :6]  # three show the upper half of one reference,
    apart[3:6, :, 6:] = references[1, :, 6:]  # three the lower half of another
    shared = samples.clone()
    shared[:3, :, :6] = references[0, :, :6]
    shared[3:6, :, :6] = references[0, :, :6]
    listed = [score(i) for i in range(8)]
    assert [s.copy_ for s in find_parts(listed, shared, ["a", "b"], references)] == [True] * 6 + [False] * 2
    assert not any(s.copy_ for s in find_parts(listed, apart, ["a", "b"], references))
