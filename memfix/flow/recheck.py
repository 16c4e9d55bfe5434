"""`memfix recheck`: the same check on the new weights, from the same and from fresh noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.config.checks import RecheckSettings
from memfix.console import Talk
from memfix.detect.check import Check, names
from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.flow.detect import write_clip_scores
from memfix.flow.detection import Detection
from memfix.flow.memory import sampling_memory
from memfix.measures.quality import detail_range
from memfix.models import loading, lora
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.recheck.outcomes import change, file_difference
from memfix.records import FRESH, SAME, Change, Prompt, Sample, Score, Verdict
from memfix.references.judge import Judge
from memfix.run.folder import AFTER, MODEL, Run
from memfix.run.header import RecheckStage
from memfix.run.inputs import RecheckInputs


class NewWeights(NamedTuple):
    """What is to be checked: adapters on the run's model, or another model instead of it."""

    adapters: Sequence[Path]
    source: loading.ModelSource | None

    @classmethod
    def of(cls, run: Run, adapters: Sequence[Path] = (), model: Path | None = None) -> NewWeights:
        """Those that are given, else the run's own. Raises MemfixError if it has none."""
        if model is not None:
            return cls((), loading.locate(str(model)))
        if adapters:
            return cls(adapters, None)
        trained = run.header.stages.unlearn
        if trained is None or not run.finished("unlearn"):
            raise MemfixError(
                f"There is no unlearned model in {run.path}.", "Run 'memfix unlearn' first, or give --lora or --model."
            )
        own = run.path / MODEL
        return cls((), loading.locate(str(own))) if trained.settings.weights == "full" else cls([own], None)

    @property
    def inputs(self) -> RecheckInputs:
        """What identifies them."""
        if self.source:
            return RecheckInputs(weights_sha256=self.source.sha256, config_sha256=self.source.config_sha256)
        return RecheckInputs(weights_sha256=sha256(map(lora.file_of, self.adapters)))

    def load(self, detection: Detection) -> DiffusionModel:
        """The model that has these weights. Adapters go on the run's model alone: they hold what it had before."""
        if self.source:
            return loading.load(self.source)
        model = loading.load(detection.source, detection.settings.variant)
        model.adapters.fuse(*self.adapters)
        return model

    def __str__(self) -> str:
        return self.source.name if self.source else ", ".join(map(str, self.adapters))


def recheck(
    run: Run, settings: RecheckSettings, argv: list[str], talk: Talk, adapters: Sequence[Path] = (),
    model: Path | None = None,
) -> list[Change]:  # fmt: skip
    """Repeat the check on the new weights, with the same and with fresh noise; say what became of each prompt.

    Raises MemfixError where anything that the detection read is not what it was.
    """
    detection = Detection.of(run)
    weights = NewWeights.of(run, adapters, model)
    detection.require_unchanged()
    memory = sampling_memory(detection.settings, later=True)
    with run.lock(), run.stage(RecheckStage, settings, weights.inputs, argv) as entry, memory:
        entry.checked = str(weights)
        if (run.path / "changes.jsonl").exists():
            talk.say(f"The re-check in {run.path} is already complete, so there is nothing to do.")
            return run.read("changes.jsonl", Change)
        sampled = {sample.prompt_id for sample in detection.samples}
        prompts = [p for p in detection.prompts if p.id in sampled]
        judge = detection.judge()
        check = Check(run, AFTER, weights.load(detection), detection.rule, judge, detection.settings)
        plan = [*detection.samples, *_fresh(prompts, detection, settings)]
        with talk.progress("Sampling again", len(plan)) as bar:
            for done in check.sample(plan):
                bar.at(done)
        after = check.conclude(plan)
        _name_references(detection, judge)
        if detection.clip:
            write_clip_scores(run, AFTER, detection.clip, prompts)
        run.write(f"{AFTER}/verdicts.jsonl", after)
        changes = _changes(detection, prompts, after)
        run.write("changes.jsonl", changes)
    return changes


def _fresh(prompts: Sequence[Prompt], detection: Detection, settings: RecheckSettings) -> list[Sample]:
    """Samples from noise that the first check did not use."""
    seeds, first = range(settings.fresh_seed, settings.fresh_seed + settings.num_fresh), detection.settings
    return plan_samples(
        prompts, seeds, steps=first.num_inference_steps, guidance=first.guidance_scale, condition=FRESH
    )  # fmt: skip


def _name_references(detection: Detection, judge: Judge) -> None:
    """Write down the references that came up in either check; of an index, only those are listed."""
    if detection.index is None:
        return
    listed = [r.file_name for r in detection.references]
    after = detection.run.read(f"{AFTER}/scores.jsonl", Score)
    detection.run.write("references.jsonl", judge.recorded([*listed, *names(after)]))


def _changes(detection: Detection, prompts: Sequence[Prompt], after: Sequence[Verdict]) -> list[Change]:
    before = {v.prompt_id: v for v in detection.verdicts}
    now = {v.prompt_id: v for v in after}
    scores = detection.run.read(f"{AFTER}/scores.jsonl", Score)
    detail = detail_range(detection.scores)
    changes = []
    for prompt in prompts:
        own = [s for s in scores if s.prompt_id == prompt.id]
        drifts = [
            file_difference(detection.folder / s.file_name, detection.run.path / AFTER / s.file_name)
            for s in own if s.condition == SAME
        ]  # fmt: skip
        drift = sum(drifts) / len(drifts)
        changes.append(change(prompt, before[prompt.id], now[prompt.id], own, drift, detail))
    return changes
