"""How sharply the pull of the prompt itself changes along the way it pulls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.nn.attention import SDPBackend, sdpa_kernel

from memfix.models.model import DiffusionModel
from memfix.screens.base import mean_over_seeds, norms, start
from memfix.screens.sampling import Sampling


@torch.no_grad()
def curvature(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """Mean over seeds of ‖J_d(x_T) d(x_T)‖₂, where d(x) = ε_θ(x, c) - ε_θ(x, ∅) and J_d is its Jacobian in x; [P].

    Jeon et al., Understanding and Mitigating Memorization in Generative Models via Sharpness of Probability
    Landscapes, ICML 2025: ‖H_Δ(x_T) s_Δ(x_T)‖, with s_Δ the difference of the scores with and without the prompt and
    H_Δ that of their Hessians. Scores are -ε/σ and σ ≈ 1 at T, so that this is theirs in units of ε.

    One Jacobian-vector product in forward mode, exact, at the sampler's first timestep. 4 UNet evaluations, of which
    two carry a tangent and cost about twice as much. Always in full precision, since autocast has no
    forward derivative; nor have fused attention kernels, and the plain one is forced.
    """
    pull, noise, times = start(model, prompts, sampling)
    plain = sdpa_kernel(SDPBackend.MATH), torch.autocast(noise.device.type, enabled=False)
    with model.denoiser.in_full(), plain[0], plain[1]:
        direction = pull(noise, times[0])
        with dual_level():
            dual = make_dual(noise, direction)  # type: ignore[no-untyped-call]  # torch leaves these two untyped
            answer = pull(dual, times[0])
            product: torch.Tensor = unpack_dual(answer).tangent  # type: ignore[no-untyped-call]  # untyped too
    return mean_over_seeds(norms(product), len(sampling.seeds))
