"""What the answer of a denoiser means: conversions between noise, velocity, flow and the clean picture.

A noisy point is m = γz + σε, with `signal` γ and `noise` σ: √ᾱ_t and √(1-ᾱ_t) for diffusion, 1-t and t for flow.
Shapes: points and pictures [n, C, h, w]; `signal` and `noise` [n].
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
