"""Whether what a LoRA's file holds is on the model: the same numbers, and no others.

Loaders leave out what they do not know, without a word, and may put numbers by chance in its place.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from peft.utils import get_peft_model_state_dict
from torch import nn

from memfix.errors import MemfixError

TEXT_PREFIXES = ("text_encoder", "lora_te")
ROW_LENGTHS = "lora_magnitude_vector"
"""Of rows, in the names of diffusers' DoRAs and on the layers that have one."""
CHECK = "and check the diffusers and peft versions with 'memfix doctor'."
GIVE_KNOWN = (
    "Give the model it was made for. If that is this one, save it in the names of diffusers, peft, kohya's scripts, "
    "LyCORIS or ComfyUI, which are known; or, if only those few names are no layer's, take them out of the file. "
    "None is passed over, since another model than the file was made for would be looked at."
)
LISTED = 3  # names of weights, in a message
OLD_ROOT = "text_model."
"""Begins names of layers of the text encoder in files; newer transformers leave it out."""


@torch.no_grad()
def give_lengths(held: Mapping[str, torch.Tensor], changed: Mapping[str, nn.Module], name: str) -> None:
    """Give the layers of text encoders the lengths that a DoRA has for them: transformers passes over their names."""
    for part, module in changed.items():
        if not part.startswith(TEXT_PREFIXES):
            continue
        layers = {
            layer.removeprefix(OLD_ROOT): own for layer, own in module.named_modules() if hasattr(own, ROW_LENGTHS)
        }
        for key, lengths in held.items():
            place, found, _ = key.partition(f".{ROW_LENGTHS}")
            layer = layers.get(place.removeprefix(f"{part}.").removeprefix(OLD_ROOT))
            if found and place.startswith(f"{part}.") and layer is not None and name in layer.lora_magnitude_vector:
                own = layer.lora_magnitude_vector[name].weight
                if own.shape == lengths.shape:
                    own.copy_(lengths)


def require_complete(
    path: Path, held: Mapping[str, torch.Tensor], changed: Mapping[str, nn.Module], name: str,
    unknown: Sequence[str] = (),
) -> None:  # fmt: skip
    """Raise MemfixError where a model has not the numbers that a file holds, or has others beside them.

    A loader that skips names would leave the model as it was. The numbers of each weight are compared, not its name,
    since adapters come under several naming schemes. What is left on the meta device has a layer that the file names,
    but no weights. unknown: names of the file that are those of no layer.
    """
    why = f", and no layer of the model is called as {listed_names(unknown)}" if unknown else ""
    for of_texts in (False, True):
        own = _contents(value for key, value in held.items() if key.startswith(TEXT_PREFIXES) is of_texts)
        there = _contents(
            value
            for part, module in changed.items()
            if part.startswith(TEXT_PREFIXES) is of_texts
            for value in get_peft_model_state_dict(module, adapter_name=name).values()
        )
        if own == there:
            continue
        where = " of the text encoder" if of_texts else ""
        if own <= there:
            raise MemfixError(
                f"The model{where} has {_count(there - own):,} weights of {path} that are not in the file.",
                "The file is not whole: its configuration names what its weights do not have. Save it anew.",
            )
        raise MemfixError(
            f"Of {_count(own):,} weights{where} in {path} only {_count(own & there):,} were taken up{why}.",
            GIVE_KNOWN if unknown else f"Give the model it was made for, {CHECK}",
        )


def listed_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(sorted(names)[:LISTED]) + more


Content = tuple[int, str]  # how many numbers a weight has, and a digest of them in fp32


def _contents(weights: Iterable[torch.Tensor]) -> Counter[Content]:
    """Those of more than one number, whatever their shape: loaders make matrices of kernels of one pixel."""
    found = (w for w in weights if w.numel() > 1 and not w.is_meta)
    return Counter((w.numel(), hashlib.sha256(w.detach().float().cpu().numpy().tobytes()).hexdigest()) for w in found)


def _count(contents: Counter[Content]) -> int:
    return sum(size * often for (size, _), often in contents.items())
