"""Settings that should fit the cards that users have, each in so much memory and no more."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import torch

from gpu_pieces.fits import FITS, Fit
from gpu_pieces.internals import Training, asked_model, name, sampled
from gpu_pieces.meters import GIB, fresh, lacks_memory, peaks
from gpu_pieces.models import architecture, build
from gpu_pieces.piece import Here, Machine, Piece
from memfix.errors import MemfixError

CONTEXT = 0.5  # GiB of a card that CUDA itself takes, which the limit of torch's allocator does not count
STEPS = 4  # of denoising; how many there are makes no difference to memory
LIMIT = 90


def pieces() -> list[Piece]:
    """A piece for each setting."""
    return [Piece(f.name, LIMIT, partial(fit, setting=f), f.card, partial(why_not, setting=f)) for f in FITS]


def why_not(machine: Machine, setting: Fit) -> str:
    """Why a setting is not tried here, if it is not."""
    if machine.device != "cuda":
        return "there is no GPU"
    if machine.memory_gib < setting.card:
        return f"the GPU has {machine.memory_gib:.0f} GiB"
    if setting.eight_bit and find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed"
    return ""


def fit(here: Here, setting: Fit) -> None:
    """Do it under the card's memory. What does not fit raises what memfix raises; that, and the peak, are noted."""
    if here.device == "cuda":
        held = (setting.card - CONTEXT) * GIB / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, held))
    here.note(limit_gib=setting.card - CONTEXT)
    try:
        pipe = build(architecture(setting.model, here.tiny), here.device)
        model = asked_model(pipe) if setting.what == "sample" else None
        fresh(here.device)
        if model is not None:
            sampled(model, [name(i) for i in range(setting.items)], STEPS)
        else:
            passes = 16 // setting.items
            step = Training(pipe, setting.what).siss(
                setting.items, passes, setting.checkpointing, use_8bit_adam=setting.eight_bit
            )
            here.note(loss_keep=[step(), step()][-1][0])  # AdamW makes its state in the first step
    except (torch.OutOfMemoryError, MemfixError) as error:
        if lacks_memory(error):
            here.note(out_of_memory=True)
        raise
    finally:
        here.note(**peaks(here.device))
