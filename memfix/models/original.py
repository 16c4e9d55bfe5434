"""New weights written back into the layout of the single file that a model came from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from memfix.errors import MemfixError
from memfix.files import atomic_file, sort_metadata

GIVE_WHOLE = "Give a whole file of the same kind."
PREFIX = "model.diffusion_model."
"""Begins the names of the UNet."""
OLD_AVERAGES = "model_ema."
"""A second copy of the old UNet that trainers keep, which holds all that was unlearned."""


def unet_names(file: Path, names: Iterable[str], unet: nn.Module) -> dict[str, str]:
    """Name in a file → name in the UNet, of each of its weights.

    The converter of diffusers says so: it is given names in the place of weights. Raises MemfixError where a weight
    of the UNet is not in the file, and where one in the file would be passed over.
    """
    names = list(names)
    told = convert_ldm_unet_checkpoint({name: name for name in names}, unet.config)
    found = {old: new for new, old in told.items() if new in unet.state_dict()}
    if left := sorted(name for name in names if name.startswith(PREFIX) and name not in found):
        raise MemfixError(
            f"{len(left)} weights of the UNet in {file} are in none of its layers: {left[0]}.", GIVE_WHOLE
        )
    if lost := set(unet.state_dict()) - set(found.values()):
        raise MemfixError(f"{len(lost)} weights of the UNet are not in {file}, among them {min(lost)}.", GIVE_WHOLE)
    return found


def write_like(source: Path, unet: nn.Module, file: Path) -> None:
    """Write `source` anew in half precision, with the weights of `unet` in the place of its own.

    All else stays as it is. Averages of the old weights are left out.
    """
    with safe_open(source, "pt") as opened:
        names = [str(key) for key in opened.keys() if not key.startswith(OLD_AVERAGES)]  # noqa: SIM118  # a handle, no dict
        places, weights, metadata = unet_names(source, names, unet), unet.state_dict(), opened.metadata()
        state = {name: _half(weights[places[name]] if name in places else opened.get_tensor(name)) for name in names}
    with atomic_file(file) as written:
        written.write(save(state, metadata))
    sort_metadata(file)


def _half(weight: torch.Tensor) -> torch.Tensor:
    weight = weight.half() if weight.is_floating_point() else weight
    return weight.cpu().contiguous()
