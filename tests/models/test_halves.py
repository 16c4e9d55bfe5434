"""Frozen weights in half precision change no number of what autocast computes, and come back as they were."""

import pytest
import torch

from memfix.models import lora
from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import network_of
from memfix.models.halves import frozen_in
from tests.conftest import tiny_pipeline, tiny_xl


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_training_step_is_the_same_to_the_bit(make, precision: str, dtype: torch.dtype) -> None:
    unet = make().unet.requires_grad_(False)
    lora.add(unet, 2)
    trained = [p for p in unet.parameters() if p.requires_grad]
    for p in trained:
        torch.nn.init.normal_(p, std=0.1)
    before = {name: p.clone() for name, p in unet.named_parameters()}
    told = Conditioning(torch.randn(3, 16, unet.config.cross_attention_dim))
    if unet.config.addition_embed_type:
        told = Conditioning(told.tokens, torch.randn(3, 12), torch.ones(3, 6))
    noisy, times = torch.randn(3, 4, 8, 8), torch.arange(3) * 300

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        answer = network_of(unet, precision)(noisy, times, told)
        return answer.detach(), list(torch.autograd.grad(answer.square().sum(), trained))

    full = step()
    with frozen_in(unet, dtype):
        weights = {name: p.dtype for name, p in unet.named_parameters()}
        half = step()
    assert torch.equal(full[0], half[0])
    assert all(map(torch.equal, full[1], half[1]))
    assert all(p.dtype == torch.float32 and torch.equal(p, before[n]) for n, p in unet.named_parameters())
    assert {t for n, t in weights.items() if "lora" in n or "norm" in n} == {torch.float32}
    assert {t for n, t in weights.items() if n.endswith("to_q.base_layer.weight")} == {dtype}


def test_full_precision_and_trained_weights_are_left_alone() -> None:
    unet = tiny_pipeline().unet
    with frozen_in(unet.requires_grad_(False), None):
        assert {p.dtype for p in unet.parameters()} == {torch.float32}
    with frozen_in(unet.requires_grad_(True), torch.bfloat16):
        assert {p.dtype for p in unet.parameters()} == {torch.float32}
