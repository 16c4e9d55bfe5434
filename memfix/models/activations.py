"""What a pass of a network holds in memory beside its weights, counted on any machine, to the byte.

The network is built once more without numbers (fake tensors have a shape and a size only), a pass is taken through it,
and every tensor that is made is counted until it is let go. What libraries take for themselves is not: the context of
CUDA, the workspaces of its kernels, and the gaps that its allocator leaves.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from memfix.models import lora
from memfix.models.halves import is_rounded
from memfix.models.twin import twin_of

TOKENS = 77  # of a text, as all of these models read it


class Way(NamedTuple):
    """What is trained of a denoiser, or the embeddings of its prompts; `dtype` is that of arithmetic, None for fp32.

    halves: whether frozen weights are held in that dtype too, where arithmetic rounds them to it anyway.
    """

    weights: Literal["lora", "full", "prompt"] = "lora"
    dtype: torch.dtype | None = torch.bfloat16
    checkpointing: bool = False
    halves: bool = False
    rank: int = 16
    dora: bool = False


class PassBytes(NamedTuple):
    """Bytes beside weights. kept: between the pass forward and the one backward; peak: the most at any time, gradients
    of trained weights among it."""

    kept: int
    peak: int


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Bytes of all tensors that were made under it and are still there, `now` and at most."""

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        """known: tensors that are not counted, since they were there before."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known = set[int]()
        for tensor in known:
            self._note(tensor, 0)

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Whatever is computed, as it is; what it makes is written down."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor, tensor.untyped_storage().nbytes())
        return made

    def _note(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place not in self._known:  # else it is a view
            self._known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def training_pass(unet: UNet2DConditionModel, way: Way, items: int) -> PassBytes:
    """What a pass of so many items through a denoiser like this one holds, forward and backward."""
    network = _without_numbers(unet)
    if way.weights == "lora":
        lora.add(network, way.rank, 0, way.dora)
    elif way.weights == "full":
        network.requires_grad_(True)
    network.train()
    if way.checkpointing:
        network.enable_gradient_checkpointing()
    with FakeTensorMode():
        _fill(network, way.dtype if way.halves else None)
        return passed(network, way, items)


def passed(network: UNet2DConditionModel, way: Way, items: int) -> PassBytes:
    """The same of the network itself, which is ready to be trained so, and whose gradients it leaves."""
    as_on_gpu(network)
    told = _told(network, items)
    told["encoder_hidden_states"].requires_grad_(way.weights == "prompt")
    ledger = _ledger(network, _tensors(told))
    with ledger:
        with _computing_in(way.dtype):
            answer = network(**told, return_dict=False)[0].float()
        kept = ledger.now
        loss = answer.square().sum()
        torch.autograd.backward(loss)
    return PassBytes(kept, ledger.peak)


def denoising(unet: UNet2DConditionModel, dtype: torch.dtype | None, items: int, halves: bool = False) -> int:
    """The most bytes that a denoising step holds of so many items; guidance makes two of a picture.

    halves: as in `Way`.
    """
    network = _without_numbers(unet).eval()
    as_on_gpu(network)
    with FakeTensorMode(), torch.no_grad():
        _fill(network, dtype if halves else None)
        told = _told(network, items)
        ledger = _ledger(network, _tensors(told))
        with ledger, _computing_in(dtype):
            network(**told, return_dict=False)
    return ledger.peak


def decoding(vae: AutoencoderKL, dtype: torch.dtype | None, shape: tuple[int, ...]) -> int:
    """The most bytes that an autoencoder holds as it decodes latents of this shape, [n, C, h, w]."""
    network = _without_numbers(vae).eval()
    as_on_gpu(network)
    with FakeTensorMode(), torch.no_grad():
        _fill(network, None)
        latents = torch.empty(shape)
        ledger = _ledger(network, [latents])
        with ledger, _computing_in(dtype):
            network.decode(latents)
    return ledger.peak


def as_on_gpu(network: nn.Module) -> None:
    """Let norms compute in full precision, as autocast has them do on GPUs, and not on CPUs."""
    for module in network.modules():
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            module.register_forward_pre_hook(lambda _, given: (given[0].float(),))


def _ledger(network: nn.Module, given: Iterable[torch.Tensor]) -> Ledger:
    """A ledger of a pass of a network, without its weights and what it is given."""
    return Ledger([*network.parameters(), *network.buffers(), *given])


def _computing_in(dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast("cpu", dtype)


def _without_numbers(module: Any) -> Any:
    """A module of the same configuration on the meta device, all of it frozen."""
    with torch.device("meta"):
        return twin_of(module).requires_grad_(False)


def _fill(network: nn.Module, halves: torch.dtype | None) -> None:
    """Turn weights of the meta device into fake ones of the CPU, whose arithmetic autocast knows."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                rounded = halves is not None and not weight.requires_grad and is_rounded(module)
                made = torch.empty(weight.shape, dtype=halves if rounded else weight.dtype)
                module._parameters[name] = nn.Parameter(made, weight.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else torch.empty(buffer.shape, dtype=buffer.dtype)


def _told(unet: UNet2DConditionModel, items: int) -> dict[str, Any]:
    """What a denoiser is called with: noise, times and texts of so many items."""
    config = unet.config
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    told: dict[str, Any] = {
        "sample": torch.zeros(items, config.in_channels, height, width),
        "timestep": torch.zeros(items, dtype=torch.long),
        "encoder_hidden_states": torch.zeros(items, TOKENS, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        sizes = 6
        pooled = config.projection_class_embeddings_input_dim - sizes * config.addition_time_embed_dim
        told["added_cond_kwargs"] = {"text_embeds": torch.zeros(items, pooled), "time_ids": torch.zeros(items, sizes)}
    return told


def _tensors(told: dict[str, Any]) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(told) if isinstance(leaf, torch.Tensor)]
