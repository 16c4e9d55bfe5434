"""What is counted without numbers is what a real pass of the same network holds."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from memfix.models import lora
from memfix.models.activations import Ledger, Way, as_on_gpu, decoding, denoising, passed, training_pass
from memfix.models.halves import frozen_in
from tests.conftest import tiny_pipeline, tiny_xl

WAYS = [
    Way(weights, dtype, checkpointing, halves)
    for weights, halves in (("lora", False), ("lora", True), ("full", False), ("prompt", False))
    for dtype in (None, torch.bfloat16)
    for checkpointing in (False, True)
]


def real(unet: UNet2DConditionModel, way: Way) -> UNet2DConditionModel:
    """The network itself, made ready to be trained in this way."""
    unet.requires_grad_(way.weights == "full")
    if way.weights == "lora":
        lora.add(unet, way.rank)
    if way.checkpointing:
        unet.enable_gradient_checkpointing()
    return unet.train()


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_pass_without_numbers_holds_what_a_real_one_does(make, way: Way) -> None:
    unet = make().unet
    counted = training_pass(unet, way, 3)
    with frozen_in(real(unet, way), way.dtype if way.halves else None):
        assert passed(unet, way, 3) == counted
    assert counted.peak >= counted.kept > 0


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("weights", ["lora", "full"])
def test_what_is_kept_is_what_autograd_saves(weights, dtype: torch.dtype | None) -> None:
    """Storages that saved tensors hooks see in a real pass, those of weights and of what the pass is given left out."""
    unet, way = tiny_pipeline().unet, Way(weights, dtype)
    counted = training_pass(unet, way, 2)
    as_on_gpu(real(unet, way))
    given = {"sample": torch.zeros(2, 4, 8, 8), "encoder_hidden_states": torch.zeros(2, 77, 16)}
    there = {t.untyped_storage().data_ptr() for t in (*unet.parameters(), *unet.buffers(), *given.values())}
    saved = dict[int, int]()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    rounded = torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), rounded:
        answer = unet(**given, timestep=torch.zeros(2, dtype=torch.long), return_dict=False)[0].float()
    assert counted.kept == sum(saved.values()) + answer.nbytes


def test_a_ledger_forgets_what_is_let_go_and_counts_views_once() -> None:
    before = torch.zeros(100)
    with Ledger([before]) as ledger:
        made = torch.ones(10)
        view = made[2:].reshape(2, 4)
        assert ledger.now == 40
        before.add_(1)
        assert ledger.now == 40
        del made
        assert ledger.now == 40
        del view
        assert (ledger.now, ledger.peak) == (0, 40)


def test_checkpointing_and_halves_save_what_they_are_for() -> None:
    unet = tiny_pipeline().unet
    plain, again = (training_pass(unet, Way(checkpointing=c), 8) for c in (False, True))
    assert again.kept < plain.kept / 2 and again.peak < plain.peak
    rounded = sum(p.nbytes for name, p in unet.named_parameters() if p.ndim > 1 and "norm" not in name) // 2
    without = training_pass(unet, Way(halves=True), 8)
    assert 0.5 * rounded < plain.kept - without.kept <= rounded  # what backward needs of rounded weights is them


def test_items_add_up() -> None:
    """What a further item takes is the same for all, so that two counts tell of any number."""
    unet = tiny_pipeline().unet
    one, two, nine = (training_pass(unet, Way(), n).peak for n in (1, 2, 9))
    assert one + 8 * (two - one) == pytest.approx(nine, rel=0.02)


def test_sampling_and_decoding_grow_with_pictures() -> None:
    pipe = tiny_pipeline()
    one, two = (denoising(pipe.unet, torch.bfloat16, n) for n in (1, 2))
    assert one < two < 2.1 * one
    shape = (4, 8, 8)
    assert decoding(pipe.vae, None, (1, *shape)) < decoding(pipe.vae, None, (2, *shape))
