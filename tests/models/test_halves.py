"""Frozen weights in half precision change no number of what autocast computes, and come back as they were."""

import numpy as np
import pytest
import torch

from memfix.models import loading, lora
from memfix.models.conditioning import Conditioning
from memfix.models.context import ContextEdit
from memfix.models.denoiser import network_of
from memfix.models.halves import FullWeights, frozen_in
from memfix.models.model import DiffusionModel
from memfix.models.replicas import copied
from memfix.models.sampling import plan_samples
from memfix.models.xl import XLModel
from memfix.records import Prompt
from memfix.screens import SCREENS
from memfix.screens.sampling import Sampling
from tests.conftest import picture, tiny_pipeline, tiny_xl

PLAN = plan_samples([Prompt(id="p", text="a cat")], [3, 4], steps=4, guidance=3.0)


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


def pixels(model: DiffusionModel, precision: str) -> np.ndarray:
    """Samples from noise, and from pictures."""
    drawn = [*model.sample(PLAN, precision), *model.sample_from([picture(1)] * 2, PLAN, 0.5, precision)]
    return np.stack([np.asarray(image) for image in drawn])


def models(kind: str) -> tuple[DiffusionModel, DiffusionModel]:
    """Twice the same."""
    first, second = (XLModel(tiny_xl()) if kind == "xl" else DiffusionModel(tiny_pipeline()) for _ in range(2))
    for model in (first, second):
        model.denoiser.module.requires_grad_(False).eval()
    return first, second


@pytest.mark.parametrize("kind", ["sd", "xl"])
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_samples_are_the_same_to_the_bit_however_weights_are_held(
    kind: str, precision: str, dtype: torch.dtype
) -> None:
    full, held = models(kind)
    held.denoiser.hold_in(dtype)
    assert held.denoiser.module.conv_in.weight.dtype == dtype
    assert np.array_equal(pixels(full, precision), pixels(held, precision))
    assert np.array_equal(pixels(full, precision), pixels(copied(held, torch.device("cpu")), precision))
    assert full.doubt() == held.doubt() and held.count_bytes(halves=True) < 4 * held.count_weights()
    size = sum(p.numel() * p.element_size() for module in held.modules() for p in module.parameters())
    assert held.count_bytes(halves=True) == size


def test_full_weights_come_back_for_a_while_and_what_is_made_of_them_is_undone() -> None:
    full, held = models("sd")
    held.denoiser.hold_in(torch.bfloat16)
    before = pixels(held, "bf16")
    with held.denoiser.in_full(), held.denoiser.in_full():
        for name, weight in held.denoiser.module.named_parameters():
            assert torch.equal(weight, full.denoiser.module.get_parameter(name))
        assert np.array_equal(pixels(full, "fp16"), pixels(held, "fp16"))
        with torch.no_grad():
            held.denoiser.module.conv_out.weight.zero_()
    assert held.denoiser.module.conv_in.weight.dtype == torch.bfloat16
    assert np.array_equal(before, pixels(held, "bf16"))
    generator = torch.Generator().manual_seed(0)
    edit = ContextEdit(torch.randn(2, 16, generator=generator), torch.randn(16, 2, generator=generator))
    with full.without(edit), held.without(edit):
        assert np.array_equal(pixels(full, "bf16"), pixels(held, "bf16"))
    assert not copied(held, torch.device("cpu")).denoiser._full


@pytest.mark.parametrize("name", ["curvature", "magnitude", "bright_ending"])
def test_screens_see_the_same(name: str) -> None:
    full, held = models("sd")
    held.denoiser.hold_in(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        scores = [SCREENS[name](m, ["a cat", "dog"], Sampling((0, 1), 2, 3, 3.0)) for m in (full, held)]
    assert torch.equal(*scores)


def test_a_model_that_is_only_asked_is_held_so_with_its_adapters(
    model_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what becomes part of the weights does so in full, before they are rounded."""
    source = loading.locate(str(model_folder))
    trained = loading.load(source)
    trained.adapters.add(2)
    for weight in trained.denoiser.trained().values():
        torch.nn.init.normal_(weight, std=0.2)
    trained.adapters.save(tmp_path)
    full = loading.load(source, adapters=[tmp_path])
    monkeypatch.setattr(loading, "held_dtype", lambda precision: torch.bfloat16 if precision == "bf16" else None)
    held = loading.load(source, adapters=[tmp_path], asked_in="bf16")
    assert held.denoiser.module.conv_in.weight.dtype == torch.bfloat16
    assert loading.load(source).denoiser.module.conv_in.weight.dtype == torch.float32
    assert np.array_equal(pixels(full, "bf16"), pixels(held, "bf16"))


def test_a_copy_of_full_weights_is_empty() -> None:
    import copy

    weight = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    assert copy.deepcopy(FullWeights([(weight, torch.ones(2))])) == []
