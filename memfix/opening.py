"""What stages open of a run: its settings, its model, and what samples are compared with. Refuses what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings
from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.index.store import Store
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.agreement import open_clip_of
from memfix.measures.base import Measure
from memfix.measures.clip import Clip
from memfix.measures.index_weights import wanted_for
from memfix.measures.reference_set import ReferenceSet, fingerprint, open_gallery
from memfix.measures.weights import Wanted
from memfix.models import lora, pipeline
from memfix.records import Prompt, Reference
from memfix.runs import MODEL, Run


def detect_settings(run: Run) -> DetectSettings:
    """The settings of a run's detection. Raises MemfixError if it is not finished."""
    settings = run.settings("detect")
    if settings is None or not run.finished("detect"):
        raise MemfixError(
            f"The detection in {run.path} is not finished.", "Run the same 'memfix detect' again to finish it."
        )
    return DetectSettings.model_validate(settings)


def wanted(settings: DetectSettings, index: Path | None) -> Wanted:
    """Which weights measures and the descriptor of an index take. Raises MemfixError if they cannot be the index's."""
    if index is not None:
        given = settings.sscd_weights, settings.clip_model, settings.trust_weights
        return wanted_for(index, Store.open(index).manifest, *given)
    usual = Wanted()
    sscd, clip = settings.sscd_weights or usual.sscd, settings.clip_model or usual.clip
    return Wanted(sscd, clip, settings.trust_weights)


def measure_of(run: Run, detected: DetectSettings) -> Measure:
    """The measure of a run's detection."""
    return get_measure(detected.measure, wanted(detected, _index_of(run)))


def clip_of(run: Run, detected: DetectSettings) -> Clip | None:
    """The CLIP model that says how well samples of the run fit their prompts; None where nobody asked."""
    if not detected.agreement:
        return None
    known = run.header["stages"]["detect"]["inputs"]["clip"]
    return open_clip_of(wanted(detected, _index_of(run)).clip, known)


def _index_of(run: Run) -> Path | None:
    place = run.header["stages"]["detect"]["inputs"]["index"]
    return None if place is None else Path(place)


def gallery_of(run: Run, detected: DetectSettings) -> ReferenceSet:
    """The run's references under the run's measure."""
    index = _index_of(run)
    weights, measure = wanted(detected, index), measure_of(run, detected)
    if measure.identity != run.header["stages"]["detect"]["inputs"]["measure"]:
        raise MemfixError(
            f"The weights of measure {measure.name} have changed since the detection.", "Detect again in a new run."
        )
    entry = run.header["stages"]["detect"]
    references = run.read("references.jsonl", Reference)
    if index is None:
        return open_gallery(references, measure, entry["threshold"])
    own = read_references(str(index), run.read("prompts.jsonl", Prompt))
    if fingerprint(own, index) != entry["inputs"]["reference_files"]:
        raise MemfixError(f"{index} has changed since the detection.", "Detect again in a new run.")
    return open_gallery(references, measure, entry["threshold"], index, weights)


def load(
    run: Run, adapters: Sequence[Path] = (), model: Path | None = None, unlearned: bool = False
) -> StableDiffusionPipeline:
    """The run's model; with `unlearned`, under the run's new weights or the ones given, all adapters together.

    An adapter that the detection was given is a part of the run's model, and saved into its new weights.
    """
    detected = detect_settings(run)
    source = pipeline.locate(detected.model, detected.revision, detected.variant)
    if source.sha256 != run.header["stages"]["detect"]["inputs"]["model_sha256"]:
        raise MemfixError(f"Model {detected.model} has changed since the detection.", "Detect again in a new run.")
    if not unlearned:
        return _with_adapters(run, source, detected)
    if model is not None:
        return pipeline.load(pipeline.locate(str(model)))
    if not adapters and (run.settings("unlearn") or {}).get("weights") == "full":
        return pipeline.load(pipeline.locate(str(run.path / MODEL)))
    pipe = pipeline.load(source, detected.variant)
    lora.load(pipe, *(adapters or [run.path / MODEL]))
    return pipe


def _with_adapters(run: Run, source: pipeline.ModelSource, detected: DetectSettings) -> StableDiffusionPipeline:
    """The model as it was detected on."""
    pipe, adapters = pipeline.load(source, detected.variant), adapters_of(detected)
    known = run.header["stages"]["detect"]["inputs"].get("adapter_sha256")
    if adapters and sha256(map(lora.file_of, adapters)) != known:
        raise MemfixError(f"LoRA {detected.adapter} has changed since the detection.", "Detect again in a new run.")
    lora.load(pipe, *adapters)
    return pipe


def adapters_of(settings: DetectSettings) -> list[Path]:
    """What the model has on top of it."""
    return [Path(settings.adapter)] if settings.adapter else []
