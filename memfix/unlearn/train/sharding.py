"""What a training whose weights ranks hold in parts (FSDP) cannot do."""

from __future__ import annotations

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError

NEED_WHOLE = ("adversarial_steps", "validation_steps", "checkpointing_steps", "use_8bit_adam", "torch_compile")


def check_sharding(settings: UnlearnSettings, going_on: bool) -> None:
    """Raise MemfixError for what weights in parts cannot do; `going_on`: there is a checkpoint to go on from."""
    if settings.weights == "lora":
        raise MemfixError(
            "FSDP is for full weights only: a LoRA is too small to need sharding.",
            "Launch without FSDP, or give --full.", ExitCode.USAGE,
        )  # fmt: skip
    given = [f"--{name.replace('_', '-')}" for name in NEED_WHOLE if getattr(settings, name)]
    given += ["--loop closed"] * settings.closed
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
