"""A finished detection as the later stages read it, and everything it was made of, which must still be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from memfix.config.checks import DetectSettings
from memfix.detect.thumbnails import Thumbnails
from memfix.errors import MemfixError
from memfix.files import digest_of_many, sha256
from memfix.index.store import Store
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.base import Measure
from memfix.measures.clip import Clip
from memfix.measures.clip_score import open_clip_of
from memfix.measures.copy_rule import CopyRule
from memfix.measures.weights import Wanted
from memfix.models import loading, lora
from memfix.models.model import DiffusionModel
from memfix.quality import detail_range
from memfix.records import Label, Prompt, Record, Reference, Role, Sample, Score, Verdict
from memfix.references.appearance import Draw
from memfix.references.indexed_weights import wanted_for
from memfix.references.judge import Judge, known_parts
from memfix.references.kept import FILE as DESCRIBED
from memfix.references.reference_set import ReferenceSet, fingerprint, open_references
from memfix.run.folder import Run
from memfix.run.header import DetectStage
from memfix.run.inputs import DetectInputs
from memfix.run.outputs import BEFORE
from memfix.run.references import recorded_references


@dataclass(frozen=True)
class Detection:
    """What a run's detection read and found. Make it with `Detection.of`, which refuses one that is not finished."""

    run: Run
    stage: DetectStage

    @classmethod
    def of(cls, run: Run) -> Detection:
        """The detection of a run. Raises MemfixError if it is not finished."""
        stage = run.header.stages.detect
        if stage is None or not run.finished("detect"):
            raise MemfixError(
                f"The detection in {run.path} is not finished.", "Run the same 'memfix detect' again to finish it."
            )
        return cls(run, stage)

    # -- what it found --------------------------------------------------------------------------------------------

    @property
    def settings(self) -> DetectSettings:
        """Its settings, as they were resolved."""
        return self.stage.settings

    @property
    def folder(self) -> Path:
        """Where its samples lie."""
        return self.run.path / BEFORE

    @cached_property
    def prompts(self) -> list[Prompt]:
        """All prompts and controls."""
        return self.run.read("prompts.jsonl", Prompt)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One verdict per prompt."""
        return self.run.read(f"{BEFORE}/verdicts.jsonl", Verdict)

    @cached_property
    def samples(self) -> list[Sample]:
        """What was sampled."""
        return self.run.read(f"{BEFORE}/metadata.jsonl", Sample)

    @cached_property
    def scores(self) -> list[Score]:
        """One score per sample."""
        return self.run.read(f"{BEFORE}/scores.jsonl", Score)

    @cached_property
    def detail(self) -> tuple[float, float]:
        """The detail that pictures may have without being blank or noise."""
        return detail_range(self.scores, self.stage.reference_detail)

    @cached_property
    def references(self) -> list[Reference]:
        """The references that are written down: all, or of an index those that came up."""
        return recorded_references(self.run)

    def memorized(self, role: Role) -> list[Prompt]:
        """The memorized ones among the prompts, or among the controls."""
        found = {v.prompt_id for v in self.verdicts if v.verdict is Label.MEMORIZED}
        return [p for p in self.prompts if p.id in found and p.role is role]

    @cached_property
    def shown(self) -> dict[str, Reference]:
        """By memorized prompt, the training image that most of its copies show, if the run has written that down."""
        references = {r.file_name: r for r in self.references}
        memorized = [v for v in self.verdicts if v.verdict is Label.MEMORIZED and v.reference]
        return {v.prompt_id: references[v.reference] for v in memorized if v.reference in references}

    # -- what it was made of: opened again, and refused where it is something else now ------------------------------

    @property
    def index(self) -> Path | None:
        """The index that holds the references, if there is one."""
        return None if self.stage.inputs.index is None else Path(self.stage.inputs.index)

    @cached_property
    def measure(self) -> Measure:
        """The deciding measure."""
        return get_measure(self.settings.deciding, self._wanted())

    @cached_property
    def rule(self) -> CopyRule:
        """The rule of a copy."""
        recorded = self.stage.rule
        assert recorded, "a finished detection has settled its rule"
        return CopyRule(
            self.measure, recorded.threshold, recorded.source, recorded.name, recorded.false_alarm_rate
        )  # fmt: skip

    @cached_property
    def witnesses(self) -> list[CopyRule]:
        """The measures that may dispute what the deciding one calls no copy, as the detection heard them."""
        weights, found = self._wanted(), list[CopyRule]()
        for w in self.stage.witnesses:
            measure = get_measure(w.measure, weights)
            if measure.identity != w.identity:
                raise MemfixError(
                    f"The weights of the measure {w.measure} changed since the detection.",
                    "Put back what was there, or detect again in a new run.",
                )
            found.append(CopyRule(measure, w.threshold, f"witness of the detection: {measure.source}"))
        return found

    @cached_property
    def clip(self) -> Clip | None:
        """The CLIP model that says how well samples fit their prompts; None where nobody asked."""
        if not self.settings.clip_score:
            return None
        return open_clip_of(self._wanted().clip, self.stage.inputs.clip)

    @cached_property
    def source(self) -> loading.ModelSource:
        """The model on this disk."""
        return loading.source_of(self.settings)

    def judge(self, model: DiffusionModel | None = None) -> Judge:
        """The judge of this run's samples, who knows which parts of references its prompts copy.

        References that must be drawn again are drawn by `model`, or by the detection's own, which is loaded for it.
        """
        references = self._reference_set(model)
        odd = {s.prompt_id for s in self.scores if s.part}
        own = [s for s in self.scores if s.prompt_id in odd]
        thumbnails = Thumbnails(self.folder).of([s.file_name for s in own]) if own else None
        parts = {} if thumbnails is None else known_parts(own, thumbnails, references)
        return Judge(references, self.rule, parts, self.witnesses)

    def model(self) -> DiffusionModel:
        """The model as it was detected on, with the adapter that it had, to be trained."""
        return loading.load(self.source, self.settings.picture_size, adapters_of(self.settings))

    def drawn_size(self, own: tuple[int, int]) -> tuple[int, int]:
        """Height and width of its pictures: those of other weights are of this size too, whatever their files say."""
        if not self.samples:
            return self.settings.picture_size(own)
        drawn = open_image(self.folder / self.samples[0].file_name)
        return drawn.height, drawn.width

    def asked_model(self) -> DiffusionModel:
        """The same, only to be asked, in the precision of the detection."""
        s = self.settings
        return loading.load(self.source, s.picture_size, adapters_of(s), asked_in=s.mixed_precision)

    def require_same_model(self) -> None:
        """Raise MemfixError if the model, or the adapter on top of it, is not what it was."""
        now = self.stage.inputs.model_copy(update=identity_of(self.source, self.settings))
        self.stage.inputs.require_unchanged(now)

    def require_unchanged(self) -> None:
        """Raise MemfixError if the model, the references, the prompts or a measure's weights are not what they were.

        Reads all of them once.
        """
        prompts = [p.model_copy(update={"cut_tokens": 0}) for p in self.prompts]
        now = DetectInputs(
            prompts=digest_of(prompts), references=self.stage.inputs.references, index=self.stage.inputs.index,
            measure=self.measure.identity, clip=self.clip.identity if self.clip else None,
            **identity_of(self.source, self.settings),
        )  # fmt: skip
        self.stage.inputs.require_unchanged(now)
        self.run.require_intact("detect")
        self._require_same_references()

    def _require_same_references(self) -> None:
        where = self.index or self.settings.references or "its prompt list"
        hint = "Put back what was there, or detect again in a new run."
        try:
            same = fingerprint(self.references) == self.stage.references_sha256
            if self.index:
                own = read_references(str(self.index), self.prompts, taken=Store.open(self.index))
                same = same and fingerprint(own, self.index) == self.stage.inputs.references
        except OSError as error:
            raise MemfixError(
                f"A training image of this run cannot be read: {error.filename}: {error.strerror}.", hint
            ) from None
        if not same:
            raise MemfixError(f"The training images of this run, in {where}, changed since the detection.", hint)

    def _reference_set(self, model: DiffusionModel | None) -> ReferenceSet:
        weights = self._wanted() if self.index else None
        if not self.references and not self.index:
            raise MemfixError(
                "No training image was given and no prompt was memorized, so there is nothing that samples of other "
                "weights could be held against.", "Detect with --references in a new run.",
            )  # fmt: skip
        return open_references(
            self.references, self.measure, self.index, weights, described=self._described(),
            witnesses=[w.measure for w in self.witnesses], draw=self._draw(model),
        )  # fmt: skip

    def _draw(self, model: DiffusionModel | None) -> Draw | None:
        """How the detection's witnesses saw references, by a model that is loaded, or one that will be if it must."""
        if not self.stage.drawn:
            return None
        return model.latents.drawn if model else lambda images: self._loaded.latents.drawn(images)

    @cached_property
    def _loaded(self) -> DiffusionModel:
        return self.model()

    def _wanted(self) -> Wanted:
        """The weights of measures. A run vouches for none: it may come from anyone."""
        return wanted(self.settings.model_copy(update={"trust_weights": False}), self.index)

    def _described(self) -> Path | None:
        """What the references were described as; None where that is not there, or no longer what was written."""
        file = self.run.path / DESCRIBED
        known = file.is_file() and sha256([file]) == self.stage.described_sha256
        return file if known else None


def wanted(settings: DetectSettings, index: Path | None) -> Wanted:
    """Which weights measures and the descriptor of an index take. Raises MemfixError if they cannot be the index's."""
    if index is not None:
        given = settings.sscd_weights, settings.clip_model, settings.trust_weights
        return wanted_for(index, Store.open(index).manifest, *given)
    usual = Wanted()
    sscd, clip = settings.sscd_weights or usual.sscd, settings.clip_model or usual.clip
    return Wanted(sscd, clip, settings.trust_weights)


def adapters_of(settings: DetectSettings) -> list[lora.Adapter]:
    """What the model has on top of it."""
    return [lora.Adapter.named(words) for words in settings.adapter]


def digest_of(records: Sequence[Record]) -> str:
    """What identifies prompts as they were read, or other records."""
    return digest_of_many(r.model_dump_json() for r in records)


def identity_of(source: loading.ModelSource, settings: DetectSettings) -> dict[str, str | None]:
    """What identifies a model and the adapter on top of it."""
    adapters = adapters_of(settings)
    return {
        "model_sha256": source.sha256, "model_config_sha256": source.config_sha256, "model_revision": source.revision,
        "adapter_sha256": lora.adapters_sha256(adapters) if adapters else None,
    }  # fmt: skip
