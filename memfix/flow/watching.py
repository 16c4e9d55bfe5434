"""What happens after each step besides training: a validation where one is due, a decision, a checkpoint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from memfix.models.finite import NotFiniteError
from memfix.records import Validation
from memfix.run.folder import Run
from memfix.unlearn.train.checkpoint import Checkpoints
from memfix.unlearn.train.steering import Course, steer
from memfix.unlearn.train.stopping import Decision, best, decide, diverged
from memfix.unlearn.train.trainer import Trainer
from memfix.unlearn.train.validation import Monitor

VALIDATIONS = "validations.jsonl"
LOOKING = 0.25  # of the time of training, for validations of a closed loop
LEAST_INTERVAL = 5  # steps: Adam has to get going


class Watch(ABC):
    """Looks after a training whose steps are in a run. `validations` are those before an interruption, which are not
    repeated."""

    def __init__(self, run: Run, trainer: Trainer, checkpoints: Checkpoints, validations: list[Validation]) -> None:
        self._run, self._trainer, self._checkpoints, self.validations = run, trainer, checkpoints, validations

    @abstractmethod
    def __call__(self) -> Decision:
        """At the step that the trainer stands at."""

    @abstractmethod
    def diverged(self, where: str | None) -> Decision:
        """At a step whose numbers are none; `where`: the first weight that is none."""

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
        self, run: Run, trainer: Trainer, monitor: Monitor | None, checkpoints: Checkpoints,
        validations: list[Validation],
    ) -> None:  # fmt: skip
        super().__init__(run, trainer, checkpoints, validations)
        self._monitor = monitor

    def __call__(self) -> Decision:
        """Validate where that is due, and decide."""
        step, settings = self._trainer.step, self._trainer.settings
        new = self._monitor is not None and (step == self._trainer.last or step % settings.validation_steps == 0)
        if self._monitor and new and not (self.validations and self.validations[-1].step == step):
            try:
                with self._trainer.finished():
                    self.validations.append(self._monitor(step))
            except NotFiniteError:
                if not self.validations:
                    raise
                return self.diverged(None)
            self._run.append(VALIDATIONS, self.validations[-1:])
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

    `targets` are the ids of the bank's targets, in their order. Every validation ends in a checkpoint, from which
    training goes on as it would have.
    """

    def __init__(
        self, run: Run, trainer: Trainer, monitor: Monitor, checkpoints: Checkpoints, validations: list[Validation],
        targets: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__(run, trainer, checkpoints, validations)
        self._monitor, self._targets = monitor, targets

    def __call__(self) -> Decision:
        """Validate where that is due, and let the trainer go on as the validations say."""
        if not self.validations:  # the first check has sampled the targets already
            self._validate(looked=(), each=1)
            return self._follow(self._course())
        course, step = self._course(), self._trainer.step
        if step in (self.validations[-1].step, self._due(course)) or step == self._trainer.last:
            if step != self.validations[-1].step:
                self._validate(course.looked, course.each)
            return self._follow(self._course())
        self._steer(course)
        self._checkpoint(course.kept)
        return Decision()

    def diverged(self, where: str | None) -> Decision:
        """Damage like any other: training goes back to good weights."""
        self._note_damage()
        return self._follow(self._course())

    def _course(self) -> Course:
        return steer(self.validations, self._trainer.settings, self._targets)

    def _due(self, course: Course) -> int:
        """The step of the next validation."""
        last, every = self.validations[-1].step, self._trainer.settings.validation_steps
        if course.cooling:
            return course.cooling[1]
        cost = self._monitor.evaluations(len(course.looked), course.each)
        return last + (every or max(LEAST_INTERVAL, math.ceil(cost / (LOOKING * self._trainer.evaluations()))))

    def _validate(self, looked: Sequence[str], each: int) -> None:
        try:
            with self._trainer.finished():
                self.validations.append(self._monitor(self._trainer.step, looked, each))
        except NotFiniteError:
            if not self.validations:
                raise
            self._note_damage()
            return
        self._run.append(VALIDATIONS, self.validations[-1:])

    def _note_damage(self) -> None:
        """Write down a validation of weights that give no pictures at all."""
        nothing = {"drift": None, "loss_keep": None, "loss_forget": None, "skew_keep": None, "skew_forget": None}
        broken = {"step": self._trainer.step, "copies": {}, "samples": 1, "broken": 1.0, "broken_targets": 1.0}
        self.validations.append(self.validations[0].model_copy(update={**nothing, **broken, "seconds": 0.0}))
        self._run.append(VALIDATIONS, self.validations[-1:])

    def _follow(self, course: Course) -> Decision:
        """Let the trainer go on as the course says, from a checkpoint of its own."""
        if course.ending:
            if course.kept == self._trainer.step:
                self._checkpoints.save(course.kept)
            return Decision(ending=course.ending)
        if course.back is not None:
            step = self._trainer.step
            self._checkpoints.restore(str(course.back))
            self._trainer.step = step
        self._steer(course)
        self._checkpoint(course.kept, due=True)
        return Decision()

    def _steer(self, course: Course) -> None:
        self._trainer.rate, self._trainer.cooling = course.rate, course.cooling
        self._trainer.active = tuple(self._targets.index(i) for i in course.active)


def watching(
    run: Run, trainer: Trainer, monitor: Monitor | None, checkpoints: Checkpoints, validations: list[Validation],
    targets: Sequence[str],
) -> Watch:  # fmt: skip
    """What looks after a training, as its settings say."""
    if monitor and trainer.settings.closed:
        return ClosedLoop(run, trainer, monitor, checkpoints, validations, targets)
    return OpenLoop(run, trainer, monitor, checkpoints, validations)
