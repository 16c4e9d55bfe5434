"""Full weights that ranks hold in parts, by torch's `fully_shard` (FSDP2).

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

from memfix.models.device import device
from memfix.models.twin import twin_of

BLOCKS = (ResnetBlock2D, Transformer2DModel)


def shard(unet: UNet2DConditionModel) -> None:
    """Leave each rank its part of the weights; they must be the same on all, and all call this at the same time."""
    mesh = init_device_mesh(device().type, (distributed.get_world_size(),))
    for module in unet.modules():
        if isinstance(module, BLOCKS):
            fully_shard(module, mesh=mesh)
    fully_shard(unet, mesh=mesh)


def unsharded(unet: UNet2DConditionModel) -> UNet2DConditionModel | None:
    """An ordinary network with the weights of a sharded one, on the first rank; None on the others. All call this."""
    weights = get_model_state_dict(unet, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not weights:
        return None
    whole = twin_of(unet)
    whole.load_state_dict(weights)
    return whole.to(device())
