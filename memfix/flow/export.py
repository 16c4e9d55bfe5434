"""`memfix export`: the new weights of a run as files for other tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from memfix.console import Talk
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.files import atomic_folder
from memfix.flow.detection import Detection, adapters_of
from memfix.flow.new_weights import NewWeights
from memfix.flow.weights import save_whole
from memfix.models import kohya, lora, original
from memfix.run.folder import Run
from memfix.run.outputs import MODEL

FORMS = ["diffusers", "kohya", "checkpoint"]


def export(run: Run, form: str, out: Path, talk: Talk) -> Path:
    """Write the run's new weights: a whole diffusers folder, a LoRA for other tools, or one file like the user's own.

    Raises MemfixError where that cannot be had of these weights, or where they are no longer what was trained.
    """
    if form not in FORMS:
        raise MemfixError(f"There is no format '{form}'.", did_you_mean(form, FORMS), ExitCode.USAGE)
    if out.exists():
        raise MemfixError(f"{out} exists already.", "Give another path to --out.")
    run.require_intact("detect", "unlearn")
    detection, weights = Detection.of(run), NewWeights.of(run)
    if form == "kohya":
        if weights.source:
            raise MemfixError("All weights were trained, so there is no LoRA.", "Use --format checkpoint or diffusers.")
        detected = run.header.stages.detect
        kohya.write_kohya(run.path / MODEL, out, detected.loaded_by if detected else None)
        return out
    source = detection.source
    if form == "checkpoint" and not source.path.is_file():
        raise MemfixError(
            f"The model of this run, {detection.settings.model}, is no single file whose layout could be kept.",
            "Use --format diffusers, or --format kohya for a LoRA.",
        )
    if form == "checkpoint" and (elsewhere := _not_of_the_file(detection)):
        raise MemfixError(
            f"The {elsewhere} of this run's model is not that of {source.path}, which a checkpoint would have.",
            "Use --format diffusers, which has all of it.",
        )
    detection.require_same_model()
    model = weights.load(detection, talk)
    if form == "checkpoint":
        original.write_like(source.path, model.denoiser.module, out)
        return out
    with atomic_folder(out) as folder:
        save_whole(model, source.path, folder)
    return out


def copy_weights(run: Run, out: Path) -> None:
    """Write what the run's unlearning made to a folder, as it is."""
    with atomic_folder(out) as folder:
        shutil.copytree(run.path / MODEL, folder, dirs_exist_ok=True)


def _not_of_the_file(detection: Detection) -> str | None:
    """A part beside the UNet that a run's model does not have from its file as it is; None without one."""
    if any(lora.changes_texts(lora.file_of(adapter.path)) for adapter in adapters_of(detection.settings)):
        return "text encoder"
    return next((part.replace("_", " ") for part in detection.source.donors), None)
