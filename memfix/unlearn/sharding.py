"""Full weights that ranks hold in parts, by torch's `fully_shard` (FSDP2). Knows nothing of terms and methods.

Each block of the network is put together where it passes, and taken apart again.
"""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from memfix.config import UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.models.device import device

BLOCKS = (ResnetBlock2D, Transformer2DModel)
WHOLE = ("validation_steps", "checkpointing_steps", "use_8bit_adam", "torch_compile")


def check_sharding(settings: UnlearnSettings, going_on: bool) -> None:
    """Raise MemfixError for what weights in parts cannot do; `going_on`: there is a checkpoint to go on from."""
    if settings.weights == "lora":
        raise MemfixError(
            "FSDP is for full weights only: a LoRA is too small to need sharding.",
            "Launch without FSDP, or give --full.", ExitCode.USAGE,
        )  # fmt: skip
    given = [f"--{name.replace('_', '-')}" for name in WHOLE if getattr(settings, name)]
    if given:
        raise MemfixError(
            f"{', '.join(given)}: this cannot be used with weights that FSDP shards.",
            f"Leave {'it' if len(given) == 1 else 'them'} out, or launch without FSDP.", ExitCode.USAGE,
        )  # fmt: skip
    if going_on:
        raise MemfixError(
            "A training with weights that FSDP shards cannot resume from a checkpoint.",
            "Launch without FSDP to resume, or give --overwrite to start again.", ExitCode.USAGE,
        )  # fmt: skip


def shard(unet: UNet2DConditionModel) -> None:
    """Leave each rank its part of the weights; they must be the same on all, and all call this at the same time."""
    mesh = init_device_mesh(device().type, (distributed.get_world_size(),))
    for module in unet.modules():
        if isinstance(module, BLOCKS):
            fully_shard(module, mesh=mesh)
    fully_shard(unet, mesh=mesh)


def gather(unet: UNet2DConditionModel) -> UNet2DConditionModel | None:
    """An ordinary network with the weights of a sharded one, on the first rank; None on the others. All call this."""
    weights = get_model_state_dict(unet, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not weights:
        return None
    whole: UNet2DConditionModel = UNet2DConditionModel.from_config(unet.config)
    whole.load_state_dict(weights)
    return whole.to(device())
