"""What to lower where a GPU has too little memory to sample."""

from __future__ import annotations

from contextlib import AbstractContextManager

from memfix.config.checks import DetectSettings
from memfix.models.device import memory_for

LARGER = "Close other programs that use the GPU, or take a larger one."


def sampling_memory(detected: DetectSettings, later: bool = False) -> AbstractContextManager[None]:
    """A block that samples as a detection does, or, `later`, as one did that is finished and keeps its batch size."""
    size = detected.batch_size
    if size == 1:
        hint = LARGER
    elif later:
        hint = f"It samples in batches of the detection: detect in a new run with --batch-size below {size}."
    else:
        hint = f"Lower --batch-size ({size})."
    return memory_for("while sampling" if later else "in the detection", hint)
