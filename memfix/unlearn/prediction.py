"""What a network should answer at a noisy point, for every prediction type, and how wrong its answer is.

A noisy point is m = γz + σε, with `signal` γ and `noise` σ: √ᾱ_t and √(1-ᾱ_t) for diffusion, 1-t and t for flow.
Shapes: points and pictures [n, C, h, w]; `signal`, `noise` and errors [n].
"""

from __future__ import annotations

import torch


def expand(scale: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number an item, [n], in the shape, precision and place of latents."""
    return scale.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def target(
    m: torch.Tensor, clean: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """What the network should answer at m if m came from `clean`.

    ε-prediction: ε(m; z) = (m - γz)/σ. v-prediction (Salimans and Ho 2022): γ ε(m; z) - σz.
    Flow (Lipman et al. 2023, in the sign of diffusers): ε(m; z) - z. All are affine in z.
    """
    gamma, sigma = expand(signal, m), expand(noise, m)
    eps = (m - gamma * clean) / sigma
    match prediction_type:
        case "epsilon":
            return eps
        case "v_prediction":
            return gamma * eps - sigma * clean
        case "flow_prediction":
            return eps - clean
        case _:
            raise ValueError(f"unknown prediction type {prediction_type!r}")


def implied_noise(
    answer: torch.Tensor, m: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """The ε that a network's answer at m stands for: the answer itself, σm + γv, or m + γv for flow."""
    gamma, sigma = expand(signal, answer), expand(noise, answer)
    match prediction_type:
        case "epsilon":
            return answer
        case "v_prediction":
            return sigma * m.to(answer) + gamma * answer
        case "flow_prediction":
            return m.to(answer) + gamma * answer
        case _:
            raise ValueError(f"unknown prediction type {prediction_type!r}")


def implied_clean(
    answer: torch.Tensor, m: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """The picture that a network's answer at m stands for, the z of which `target` is that answer."""
    gamma, sigma = expand(signal, m), expand(noise, m)
    answer = answer.to(m)
    match prediction_type:
        case "epsilon":
            return (m - sigma * answer) / gamma
        case "v_prediction":
            return gamma * m - sigma * answer
        case "flow_prediction":
            return m - sigma * answer
        case _:
            raise ValueError(f"unknown prediction type {prediction_type!r}")


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
