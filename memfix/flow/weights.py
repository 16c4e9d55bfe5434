"""The new weights of a run, written as one model or one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.files import atomic_folder
from memfix.flow.detection import Detection, adapters_of
from memfix.models import kohya
from memfix.models.context import ContextEdit, build_in
from memfix.models.folders import keep_unused
from memfix.models.model import DiffusionModel
from memfix.records import Rewording
from memfix.run.folder import Run, slug
from memfix.run.outputs import MODEL

REWORDING = "rewording.safetensors"


def check_adds_up(model: DiffusionModel, detected: DetectSettings, settings: UnlearnSettings) -> None:
    """Refuse, before anything is trained, adapters that could not be saved as one with what the model has."""
    below = adapters_of(detected) if settings.weights == "lora" else []
    if below and settings.use_dora:
        raise MemfixError("A DoRA adapter cannot be added to other adapters.", "Leave out --use-dora.", ExitCode.USAGE)
    for adapter in below:
        model.adapters.read(adapter)


def rewording_of(run: Run) -> tuple[ContextEdit | None, dict[str, str]]:
    """The edit that the weights of a run hold, and prompt id → the wording that the prompt reads like by it.

    Both are as unlearning left them: a re-check asks for that first.
    """
    applied = {r.prompt_id: r.wording or "" for r in run.read("rewordings.jsonl", Rewording) if r.applied}
    return (ContextEdit.load(run.path / REWORDING), applied) if applied else (None, {})


def save(
    detection: Detection, model: DiffusionModel, settings: UnlearnSettings, edit: ContextEdit | None,
    apart: Sequence[Path],
) -> None:  # fmt: skip
    """Write the weights; the model folder is whole or absent.

    Adapters trained apart, and one that the model had before, become one with what was trained.
    """
    model.require_finite_weights("The trained model")
    if edit is not None:
        edit.save(detection.run.path / REWORDING)
    with atomic_folder(detection.run.path / MODEL) as folder:
        if settings.weights == "lora":
            below = adapters_of(detection.settings)
            if apart:
                model.adapters.save_sum(folder, [*below, *apart], edit)
            elif below:
                model.adapters.save(folder, edit)
                model.adapters.remove()
                model.adapters.save_sum(folder, [*below, folder])
            else:
                model.adapters.save(folder, edit)
            if kohya.is_plain(folder):
                file = folder / f"{slug(detection.run.path.name)}{kohya.ENDING}"
                kohya.write_kohya(folder, file, model.loaded_by)
        else:
            if edit is not None:
                build_in(model.denoiser.module, edit)
            save_whole(model, detection.source.path, folder)


def save_whole(model: DiffusionModel, source: Path, folder: Path) -> None:
    """Write a model with the parts of its source that it was loaded without, such as a safety checker."""
    model.save(folder)
    if source.is_dir():
        keep_unused(source, folder)
