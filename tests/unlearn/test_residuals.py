"""The low-pass on residuals."""

import pytest
import torch

from memfix.unlearn.objective.residuals import squared_error


def test_low_pass_by_hand() -> None:
    flat, checkers = torch.full((1, 1, 4, 4), 2.0), torch.ones(1, 1, 4, 4)
    checkers[..., ::2, 1::2] = checkers[..., 1::2, ::2] = -1  # the highest frequency along both axes
    nothing = torch.zeros(1, 1, 4, 4)
    assert squared_error(flat + checkers, nothing).item() == pytest.approx(64 + 16)
    assert squared_error(flat + checkers, nothing, 0.5).item() == pytest.approx(64)
    assert squared_error(flat + checkers, nothing, 1.0).item() == pytest.approx(80)


def test_low_pass_gradient_is_the_filtered_residual() -> None:
    answer = torch.randn(2, 3, 8, 8, requires_grad=True)
    (whole,) = torch.autograd.grad(squared_error(answer, torch.zeros_like(answer), 1.0).sum(), answer)
    torch.testing.assert_close(whole, 2 * answer, atol=1e-5, rtol=1e-5)
    (low,) = torch.autograd.grad(squared_error(answer, torch.zeros_like(answer), 0.25).sum(), answer)
    spectrum = torch.fft.fft2(low)
    assert spectrum[..., 2:7, :].abs().max() < 1e-4  # frequencies 2, 3, 4 of 4 are gone
    torch.testing.assert_close(spectrum[..., :2, :2], 2 * torch.fft.fft2(answer)[..., :2, :2], atol=1e-4, rtol=1e-4)
