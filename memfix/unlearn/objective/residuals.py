"""How wrong a network's answer is, and how much an error counts by its time."""

from __future__ import annotations

import torch


def squared_error(answer: torch.Tensor, wanted: torch.Tensor, low_pass: float | None = None) -> torch.Tensor:
    """‖answer - wanted‖² an item, [n], summed over everything else.

    `low_pass`: only the part of the residual at spatial frequencies up to this share of the highest one that the
    latents can hold, along both axes; 1 is all of it.
    """
    residual = answer.float() - wanted.float()
    if low_pass is None:
        return residual.flatten(1).square().sum(1)
    spectrum = torch.fft.fft2(residual, norm="ortho")  # keeps the sum of squares (Parseval)
    rows, columns = (
        torch.fft.fftfreq(n, device=residual.device).abs() * 2 <= low_pass for n in residual.shape[-2:]
    )  # fmt: skip
    kept = spectrum * (rows[:, None] & columns)
    return torch.view_as_real(kept).flatten(1).square().sum(1)


def min_snr(signal: torch.Tensor, noise: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """The weight min(γ²/σ², `gamma`) of an error of the clean picture, for the error of what the network predicts, [n].

    The error of the picture is that of ε times σ²/γ², and that of v or of a flow times σ². Source: min-SNR-γ (Hang et
    al., ICCV 2023, arXiv 2303.09556), where `gamma` is 5.
    """
    snr = (signal / noise).square()
    from_prediction = 1 / snr.clamp(min=1e-12) if prediction_type == "epsilon" else noise.square()
    return snr.clamp(max=gamma) * from_prediction
