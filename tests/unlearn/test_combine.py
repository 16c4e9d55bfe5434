"""Combiners by hand."""

import pytest
import torch

from memfix.unlearn.combine import global_norm, rescale


def test_rescale_by_hand() -> None:
    # ‖keep‖ = 5, ‖forget‖ = 10, ρ = 0.1 → s = 0.05
    keep, forget = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([6.0]), torch.tensor([-8.0])]
    combined = rescale(keep, forget, 0.1)
    assert combined == pytest.approx((5.0, 10.0, -0.05))
    torch.testing.assert_close(torch.cat(forget), torch.tensor([3 - 0.05 * 6, 4 + 0.05 * 8]))


def test_forget_part_has_the_asked_share_of_the_keep_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    keep = [torch.randn(5, 3, generator=generator), torch.randn(7, generator=generator)]
    forget = [1e4 * torch.randn(5, 3, generator=generator), torch.randn(7, generator=generator)]
    rescale(keep, forget, 0.1)
    part = [f - k for f, k in zip(forget, keep, strict=True)]
    assert global_norm(part) / global_norm(keep) == pytest.approx(0.1, rel=1e-4)


def test_no_forget_gradient_leaves_the_keep_gradient() -> None:
    keep, forget = [torch.tensor([1.0, 2.0])], [torch.zeros(2)]
    assert rescale(keep, forget, 0.1).scale == 0
    torch.testing.assert_close(forget[0], keep[0])
