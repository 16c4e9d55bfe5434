"""The new weights of a run, written as one model or one adapter."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings, UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.models import lora
from memfix.models.adapters import merge, read_adapter
from memfix.models.context import ContextEdit, build_in
from memfix.opening import adapters_of, detect_settings
from memfix.runs import MODEL, Run


def check_adds_up(pipe: StableDiffusionPipeline, detected: DetectSettings, settings: UnlearnSettings) -> None:
    """Refuse, before anything is trained, adapters that could not be saved as one with what the model has."""
    below = adapters_of(detected) if settings.weights == "lora" else []
    if below and settings.use_dora:
        raise MemfixError("A DoRA adapter cannot be added to other adapters.", "Leave out --use-dora.", ExitCode.USAGE)
    for path in below:
        read_adapter(pipe, path)


def save(
    run: Run, pipe: StableDiffusionPipeline, settings: UnlearnSettings, edit: ContextEdit | None, apart: Sequence[Path]
) -> None:
    """Write the weights beside their place, then move them there: a model folder is whole or absent.

    Adapters trained apart, and one that the model had before, become one with what was trained.
    """
    temporary = run.path / f".{MODEL}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    if settings.weights == "lora":
        below = adapters_of(detect_settings(run))
        if apart:
            merge(pipe, [*below, *apart], temporary, edit)
        elif below:
            lora.save(pipe, temporary, edit)
            pipe.unload_lora_weights()
            merge(pipe, [*below, temporary], temporary)
        else:
            lora.save(pipe, temporary, edit)
    else:
        if edit is not None:
            build_in(pipe.unet, edit)
        pipe.save_pretrained(temporary)
    temporary.rename(run.path / MODEL)
