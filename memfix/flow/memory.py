"""What to do where a GPU has too little memory to sample a single picture; batches that do not fit are split."""

from __future__ import annotations

from contextlib import AbstractContextManager

from memfix.config.checks import DetectSettings
from memfix.models.device import memory_for


def sampling_memory(detected: DetectSettings, later: bool = False) -> AbstractContextManager[None]:
    """A block that samples as a detection does, or, `later`, as one did that is finished."""
    hint = "Close other programs that use the GPU, or take a larger one."
    if not later and detected.mixed_precision == "no":
        hint = "Give --mixed-precision fp16 or bf16. " + hint
    return memory_for("while sampling" if later else "in the detection", hint)
