"""Combiners by hand."""

import pytest
import torch

from memfix.unlearn.objective.combine import bome, global_norm, inner, project, rescale, weighted_sum


def two(a: float, b: float) -> list[torch.Tensor]:
    """A gradient of two parameters."""
    return [torch.tensor([[float(a)]]), torch.tensor([float(b)])]


def flat(gradient: list[torch.Tensor]) -> list[float]:
    return torch.cat([g.flatten() for g in gradient]).tolist()


def test_rescale_by_hand() -> None:
    # ‖keep‖ = 5, ‖forget‖ = 10, ρ = 0.1 → s = 0.05
    keep, forget = two(3, 4), two(-6, 8)
    assert rescale(keep, forget, 0.1) == pytest.approx((5.0, 10.0, 0.05))
    assert flat(forget) == pytest.approx([3 - 0.05 * 6, 4 + 0.05 * 8])
    assert flat(keep) == [3, 4]


def test_rescale_to_a_fixed_norm_by_hand() -> None:
    keep, forget = two(3, 4), two(-6, 8)
    assert rescale(keep, forget, 0.1, norm=20).scale == pytest.approx(2)
    assert flat(forget) == pytest.approx([3 - 12, 4 + 16])


def test_forget_part_has_the_asked_share_of_the_keep_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    keep = [torch.randn(5, 3, generator=generator), torch.randn(7, generator=generator)]
    forget = [1e4 * torch.randn(5, 3, generator=generator), torch.randn(7, generator=generator)]
    rescale(keep, forget, 0.1)
    part = [f - k for f, k in zip(forget, keep, strict=True)]
    assert global_norm(part) / global_norm(keep) == pytest.approx(0.1, rel=1e-4)


def test_weighted_sum_by_hand() -> None:
    keep, forget = two(3, 4), two(-6, 8)
    assert weighted_sum(keep, forget, 0.5, 0.25) == pytest.approx((5.0, 10.0, 0.25))
    assert flat(forget) == pytest.approx([1.5 - 1.5, 2 + 2])


@pytest.mark.parametrize(
    ("forget", "scale"),
    [
        (two(-6, 8), 0.3 - (-18 + 32) / 100),  # they agree in part: less is needed
        (two(6, 8), 0.0),  # the keep step alone lowers the forget term fast enough: 0.3 - 50/100 < 0
        (two(-6, -8), 0.3 + 50 / 100),  # they disagree
    ],
)
def test_bome_by_hand(forget: list[torch.Tensor], scale: float) -> None:
    keep, original = two(3, 4), flat(forget)
    assert bome(keep, forget, 0.3).scale == pytest.approx(scale)
    assert flat(forget) == pytest.approx([3 + scale * original[0], 4 + scale * original[1]])


def test_bome_lowers_the_forget_term_at_least_at_its_rate() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        keep, forget = ([torch.randn(6, generator=generator)] for _ in range(2))
        before = forget[0].clone()
        bome(keep, forget, 0.5)
        assert torch.dot(forget[0], before) >= 0.5 * before.square().sum() - 1e-4


def test_project_by_hand() -> None:
    # ⟨forget, keep⟩ = -50, ‖keep‖² = 25: forget' = forget + 2·keep = 0 when they are opposed
    opposed = two(-6, -8)
    project(two(3, 4), opposed, 1.0)
    assert flat(opposed) == pytest.approx([3, 4])
    agreeing = two(-6, 8)  # ⟨forget, keep⟩ = 14: nothing is taken out
    project(two(3, 4), agreeing, 0.5)
    assert flat(agreeing) == pytest.approx([3 - 3, 4 + 4])


def test_projected_part_never_works_against_keep() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        keep, forget = ([torch.randn(6, generator=generator)] for _ in range(2))
        project(keep, forget, 2.0)
        assert inner(keep, [forget[0] - keep[0]]) > -1e-4


def test_no_gradient_on_a_side_is_no_division_by_zero() -> None:
    for combiner in (lambda k, f: rescale(k, f, 0.1), lambda k, f: bome(k, f, 0.1), lambda k, f: project(k, f, 1.0)):
        keep, forget = two(1, 2), two(0, 0)
        combiner(keep, forget)
        assert flat(forget) == [1, 2]
    forget = two(1, 2)
    project(two(0, 0), forget, 1.0)
    assert flat(forget) == [1, 2]


def test_nothing_is_copied() -> None:
    """The result lies where `.grad` was, and what the keep side holds is only read."""
    for combiner in (
        lambda k, f: rescale(k, f, 0.1),
        lambda k, f: weighted_sum(k, f, 0.5, 0.5),
        lambda k, f: bome(k, f, 0.1),
        lambda k, f: project(k, f, 1.0),
    ):
        keep, forget = two(3, 4), two(-6, 8)
        places = [g.data_ptr() for g in forget]
        combiner(keep, forget)
        assert [g.data_ptr() for g in forget] == places
        assert flat(keep) == [3, 4]
