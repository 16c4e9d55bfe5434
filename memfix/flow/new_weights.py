"""The weights that a re-check is made of: the run's own, an adapter, or another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection, adapters_of
from memfix.flow.weights import rewording_of
from memfix.models import loading, lora
from memfix.models.context import ContextEdit
from memfix.models.model import DiffusionModel
from memfix.run.folder import Run
from memfix.run.inputs import RecheckInputs
from memfix.run.outputs import MODEL


@dataclass(frozen=True)
class NewWeights:
    """What is to be checked: adapters on the run's model, or another model instead of it."""

    adapters: Sequence[Path] = ()
    source: loading.ModelSource | None = None

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
        return cls.in_folder(run.path / MODEL, trained.settings)

    @classmethod
    def in_folder(cls, folder: Path, settings: UnlearnSettings) -> NewWeights:
        """Those that an unlearning with these settings has written to a folder."""
        return cls((), loading.locate(str(folder))) if settings.weights == "full" else cls([folder], None)

    def require_as_trained(self, run: Run) -> None:
        """Raise MemfixError where the run's own weights are not those that its unlearning made.

        Whatever weights are checked, since the run's own tell whether they hold a rewording.
        """
        run.require_intact("unlearn")
        trained = run.header.stages.unlearn
        if trained is None or not run.finished("unlearn") or trained.weights_sha256 is None:
            return
        made = trained.weights_sha256, trained.config_sha256
        own = NewWeights.of(run).inputs
        if made != (own.weights_sha256, own.config_sha256):
            raise MemfixError(
                f"The weights in {run.path / MODEL} are not those that the unlearning made.",
                "Restore them from a copy, or unlearn again with --overwrite.",
            )

    def are_own(self, run: Run) -> bool:
        """Whether they are what the run's unlearning made, by content."""
        return run.finished("unlearn") and (run.path / MODEL).is_dir() and self.inputs == NewWeights.of(run).inputs

    @property
    def inputs(self) -> RecheckInputs:
        """What identifies them."""
        if self.source:
            return RecheckInputs(weights_sha256=self.source.sha256, config_sha256=self.source.config_sha256)
        return RecheckInputs(weights_sha256=lora.adapters_sha256(self.adapters))

    def below(self, detection: Detection) -> list[lora.Adapter]:
        """The adapters that the detection's model had, unless these weights are known to hold it.

        The run's own do. Others hold it if a file says so; where nothing is known it is put below them, since a memory
        that came with it would else go unseen.
        """
        held = frozenset[str]().union(*map(lora.holds, self.adapters))
        if self.are_own(detection.run):
            return []
        return [adapter for adapter in adapters_of(detection.settings) if adapter.digest not in held]

    def load(self, detection: Detection, talk: Talk, asked_in: str = "no") -> DiffusionModel:
        """The model that has these weights, on top of the adapter that the detection had; see `loading.load`.

        It draws pictures of the detection's size, whatever another model's own is: at another one nothing is the same
        noise, and copies may stay away.
        """
        for adapter in (below := self.below(detection)):
            talk.say(f"The adapter of the detection, {adapter.path}, is put on the model as well, below these weights.")
        words = detection.source.embeddings
        source = self.source.knowing(words) if self.source else detection.source
        adapters = [*below, *map(lora.Adapter.of, self.adapters)]
        model = loading.load(source, detection.drawn_size, adapters, asked_in)
        if not self.are_own(detection.run):
            own = [*model.remarks, model.doubt()] if self.source else []
            for warning in filter(None, [*own, self.sampling_doubt(detection, model)]):
                talk.warn(warning)
        return model

    def sampling_doubt(self, detection: Detection, model: DiffusionModel) -> str:
        """Why samples of these weights, on `model`, are not what their users see, where the detection does not say so
        of its own; empty where nothing speaks for that."""
        if self.are_own(detection.run):
            return ""
        given, on_top = detection.settings, [*self.below(detection), *map(lora.Adapter.of, self.adapters)]
        name = (self.source or detection.source).name
        paths = [adapter.path for adapter in on_top]
        return model.ill_sampled(name, given.num_inference_steps, given.guidance_scale, paths)

    def rewording(self, run: Run) -> tuple[ContextEdit | None, Mapping[str, str]]:
        """The edit that the weights hold, where the run's own are among them, and prompt id → what it makes of the
        prompt."""
        trained = run.header.stages.unlearn
        if trained is None or not run.finished("unlearn"):
            return None, {}
        own = NewWeights.of(run)
        if own.source is not None or self.source is not None:
            return rewording_of(run) if own.inputs == self.inputs else (None, {})
        held = {lora.adapters_sha256([path]) for path in self.adapters}
        return rewording_of(run) if lora.adapters_sha256(own.adapters) in held else (None, {})

    def __str__(self) -> str:
        return self.source.name if self.source else ", ".join(map(str, self.adapters))
