"""Settings that should fit the cards that users have, each in so much memory and no more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch

from gpu_pieces.internals import DiffusionModel, Training, name, sampled
from gpu_pieces.meters import GIB, fresh, peaks
from gpu_pieces.models import architecture, build
from gpu_pieces.piece import Here, Machine, Piece

CONTEXT = 0.5  # GiB of a card that CUDA itself takes, which the limit of torch's allocator does not count
STEPS = 4  # of denoising; how many there are makes no difference to memory
LIMIT = 90


@dataclass(frozen=True)
class Fit:
    """A setting; `items` of a pass of a training, of which 16 items make a step, or images at once of a sampling."""

    card: int
    """GiB"""
    model: str
    what: str
    """`sample`, `lora` or `full`"""
    items: int
    checkpointing: bool = False
    eight_bit: bool = False

    @property
    def name(self) -> str:
        """Of its piece."""
        marks = [
            "checkpointing" if self.checkpointing else "",
            "8bit" if self.eight_bit else "",
        ]
        size = str(self.items) if self.what == "sample" or self.items == 16 else f"{self.items}x{16 // self.items}"
        return "-".join(filter(None, [f"card{self.card}", self.model, self.what, size, *marks]))


FITS = [
    Fit(12, "sd1", "lora", 2, checkpointing=True),
    Fit(24, "sd1", "full", 2, checkpointing=True, eight_bit=True),
    Fit(48, "sd1", "full", 16, checkpointing=True),
    Fit(12, "sd1", "sample", 8),
    Fit(24, "sd1", "full", 2, checkpointing=True),
    Fit(48, "sd2", "full", 16, checkpointing=True),
    Fit(12, "sd2", "lora", 2, checkpointing=True),
    Fit(24, "sd1", "lora", 16, checkpointing=True),
    Fit(48, "sd1", "sample", 32),
    Fit(12, "sd2", "sample", 4),
    Fit(24, "sd2", "sample", 8),
    Fit(24, "sd2", "lora", 16, checkpointing=True),
]


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
    """Do it under the card's memory. What does not fit raises MemfixError, and the peak is kept all the same."""
    if here.device == "cuda":
        held = (setting.card - CONTEXT) * GIB / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, held))
    try:
        pipe = build(architecture(setting.model, here.tiny), here.device)
        fresh(here.device)
        here.note(limit_gib=setting.card - CONTEXT)
        if setting.what == "sample":
            sampled(DiffusionModel(pipe), [name(i) for i in range(setting.items)], STEPS)
        else:
            passes = 16 // setting.items
            step = Training(pipe, setting.what).siss(
                setting.items, passes, setting.checkpointing, use_8bit_adam=setting.eight_bit
            )
            here.note(loss_keep=[step(), step()][-1][0])  # AdamW makes its state in the first step
    finally:
        here.note(**peaks(here.device))
