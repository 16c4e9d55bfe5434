"""What happens after each step besides training: a validation where one is due, a decision, a checkpoint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from memfix.models.finite import NotFiniteError
from memfix.records import Validation
from memfix.run.folder import Run
from memfix.unlearn.train.attacked import AttackMonitor
from memfix.unlearn.train.checkpoint import Checkpoints
from memfix.unlearn.train.steering import Heading, steer
from memfix.unlearn.train.stopping import Decision, best, decide, diverged
from memfix.unlearn.train.trainer import Trainer
from memfix.unlearn.train.validation import Monitor

LOOKING = 0.2  # of the evaluations of training, for validations of a closed loop; decoding comes on top
LEAST_INTERVAL = 5  # steps: Adam has to get going


@dataclass(frozen=True)
class ValidationLog:
    """Validations as a run has them, under a name. Those from before an interruption are not repeated."""

    run: Run
    name: str
    validations: list[Validation]

    def add(self, validation: Validation) -> None:
        """Write one down."""
        self.validations.append(validation)
        self.run.append(self.name, [validation])


class Watch(ABC):
    """Looks after a training."""

    def __init__(self, seen: ValidationLog, trainer: Trainer, checkpoints: Checkpoints) -> None:
        self._seen, self._trainer, self._checkpoints = seen, trainer, checkpoints

    @property
    def validations(self) -> list[Validation]:
        """All of them, in order of their steps."""
        return self._seen.validations

    @abstractmethod
    def __call__(self) -> Decision:
        """At the step that the trainer stands at."""

    @abstractmethod
    def diverged(self, where: str | None) -> Decision:
        """At a step whose numbers are none; `where`: the first weight that is none."""

    def take_up(self, step: int) -> None:
        """Leave the trainer with the weights of a step that has a checkpoint, if it is not there already."""
        if step != self._trainer.step:
            self._checkpoints.restore(str(step))

    @property
    def note(self) -> str:
        """What the newest validation found, for a progress bar."""
        if not self.validations:
            return ""
        last = self.validations[-1]
        return f"  {last.total} of {last.drawn} copies at step {last.step}"

    def _checkpoint(self, kept: int | None, due: bool = False) -> None:
        """Write one if that is `due` or asked for at this step; that of the step `kept` stays."""
        step, every = self._trainer.step, self._trainer.settings.checkpointing_steps
        if due or (every and step and (step == self._trainer.last or step % every == 0)):
            self._checkpoints.save(kept)


class OpenLoop(Watch):
    """Validates every so many steps, if at all, and says when to end."""

    def __init__(
        self, seen: ValidationLog, trainer: Trainer, monitor: Monitor | None, checkpoints: Checkpoints
    ) -> None:
        super().__init__(seen, trainer, checkpoints)
        self._monitor = monitor

    def __call__(self) -> Decision:
        """Validate where that is due, and decide."""
        step, settings = self._trainer.step, self._trainer.settings
        new = self._monitor is not None and (step == self._trainer.last or step % settings.validation_steps == 0)
        if self._monitor and new and not (self.validations and self.validations[-1].step == step):
            try:
                with self._trainer.finished():
                    self._seen.add(self._monitor(step))
            except NotFiniteError:
                if not self.validations:
                    raise
                return self.diverged(None)
        decision = decide(self.validations, settings, self._trainer.reached)
        self._trainer.cooling = decision.cooling
        kept = best(self.validations, settings).step if self.validations else None
        self._checkpoint(kept, kept == step)
        return decision

    def diverged(self, where: str | None) -> Decision:
        """The end, with the best weights so far."""
        return Decision(ending=diverged(self.validations, self._trainer.settings, self._trainer.step, where))


class ClosedLoop(Watch):
    """Validates so often that it takes `LOOKING` of the time, and steers the training by what it sees.

    `targets` are the ids of the bank's targets, in their order. The validation before the first step looks at all of
    them after steps `before`; without these the first check has. Every validation ends in a checkpoint, from which
    training goes on as it would have.
    """

    def __init__(
        self, seen: ValidationLog, trainer: Trainer, monitor: Monitor | AttackMonitor, checkpoints: Checkpoints,
        targets: Sequence[str], before: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(seen, trainer, checkpoints)
        self._monitor, self._targets, self._before = monitor, targets, before

    def __call__(self) -> Decision:
        """Validate where that is due, and let the trainer go on as the validations say."""
        if not self.validations:
            self._validate(self._targets if self._before else (), 1)
            return self._follow(self._heading())
        heading, step = self._heading(), self._trainer.step
        if step in (self.validations[-1].step, self._due(heading)) or step == self._trainer.last:
            if step != self.validations[-1].step:
                self._validate(heading.looked, heading.each)
            return self._follow(self._heading())
        self._steer(heading)
        self._checkpoint(heading.kept)
        return Decision()

    def diverged(self, where: str | None) -> Decision:
        """Damage like any other: training goes back to good weights."""
        self._note_damage()
        return self._follow(self._heading())

    def _heading(self) -> Heading:
        return steer(self.validations, self._trainer.settings, self._targets, self._before)

    def _due(self, heading: Heading) -> int:
        """The step of the next validation."""
        last, every = self.validations[-1].step, self._trainer.settings.validation_steps
        if heading.cooling:
            return heading.cooling[1]
        cost = self._monitor.evaluations(len(heading.looked), heading.each)
        step = self._trainer.evaluations(len(heading.active))
        return last + (every or max(LEAST_INTERVAL, math.ceil(cost / (LOOKING * step))))

    def _validate(self, looked: Sequence[str], each: int) -> None:
        try:
            with self._trainer.finished():
                self._seen.add(self._monitor(self._trainer.step, looked, each))
        except NotFiniteError:
            if not self.validations:
                raise
            self._note_damage()

    def _note_damage(self) -> None:
        """Write down a validation of weights that give no pictures at all."""
        nothing = {"drift": None, "loss_keep": None, "loss_forget": None, "skew_keep": None, "skew_forget": None}
        broken = {"step": self._trainer.step, "copies": {}, "samples": 1, "broken": 1.0, "broken_targets": 1.0}
        self._seen.add(self.validations[0].model_copy(update={**nothing, **broken, "seconds": 0.0}))

    def _follow(self, heading: Heading) -> Decision:
        """Let the trainer go on as the heading says, from a checkpoint of its own."""
        if heading.ending:
            self._trainer.rate = heading.rate
            if heading.kept == self._trainer.step:
                self._checkpoints.save(heading.kept)
            return Decision(ending=heading.ending)
        if heading.back is not None:
            step = self._trainer.step
            self._checkpoints.restore(str(heading.back))
            self._trainer.step = step
        self._steer(heading)
        self._checkpoint(heading.kept, due=True)
        return Decision()

    def _steer(self, heading: Heading) -> None:
        self._trainer.rate, self._trainer.cooling = heading.rate, heading.cooling
        self._trainer.active = tuple(self._targets.index(i) for i in heading.active)
