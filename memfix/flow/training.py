"""One training in a run folder: steps, validations and checkpoints written down as they come, and how it ended."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import torch

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk, counted
from memfix.files import atomic_folder
from memfix.flow.detection import Detection
from memfix.flow.monitors import new_monitor, to_be_noised
from memfix.flow.trackers import trackers
from memfix.flow.watching import ClosedLoop, OpenLoop, ValidationLog, Watch
from memfix.models.device import autocast_dtype
from memfix.models.finite import first_broken_weight
from memfix.models.model import DiffusionModel
from memfix.models.room import Room
from memfix.records import Ending, Pair, Role, Side, Step, Validation
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.run.outputs import MODEL
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.data.encode import with_texts
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.objective.methods import Method
from memfix.unlearn.train.adversary import Adversary
from memfix.unlearn.train.attacked import AttackMonitor, ToBeNoised
from memfix.unlearn.train.checkpoint import LATEST, Checkpoints
from memfix.unlearn.train.ranks import Ranks
from memfix.unlearn.train.trainer import Trainer
from memfix.unlearn.train.validation import Monitor

K = TypeVar("K", Step, Validation)
STEPS, VALIDATIONS, CHECKPOINTS, APART = "training.jsonl", "validations.jsonl", "checkpoints", "adapters"


class Phase(NamedTuple):
    """A part of a training, and where it is written down in the run."""

    steps: str
    validations: str
    checkpoints: str


TRAINING = Phase(STEPS, VALIDATIONS, CHECKPOINTS)
ADVERSARIAL = Phase("adversarial.jsonl", "adversarial_validations.jsonl", f"{CHECKPOINTS}/adversarial")


@dataclass(frozen=True)
class Training:
    """One training of the denoiser of the sampler's model: on what, how, and the run that it is written down in, which
    may be another one than that of the detection."""

    run: Run
    sample: Sampler
    bank: Bank
    method: Method
    settings: UnlearnSettings
    detection: Detection

    @property
    def precision(self) -> str:
        """Of the network while it is trained."""
        return self.settings.mixed_precision or self.sample.settings.mixed_precision

    def __call__(self) -> Ending:
        """Take all steps. What was killed before goes on from its newest checkpoint."""
        run, settings, model, ranks = self.run, self.settings, self.sample.model, Ranks.here()
        ranks.shared(Work(self.bank.targets, self.bank.prior, self.bank.frames, run.path))
        trainer = _trainer(model, self.bank, self.method, settings, self.precision, ranks)
        monitor, given = None, ToBeNoised()
        if settings.closed or settings.validation_steps:
            monitor = new_monitor(self.detection, self.sample, self.bank, self._ids(), settings, self.precision)
        if monitor and settings.closed and settings.adversarial_steps:
            given = to_be_noised(self.detection, monitor, self._ids(), settings)
        alike = autocast_dtype(self.precision) is autocast_dtype(self.sample.settings.mixed_precision)
        with _lightly(model, settings, self.precision if alike else "no"):
            return self._phases(trainer, monitor, ranks, given)

    def _phases(self, trainer: Trainer, monitor: Monitor | None, ranks: Ranks, given: ToBeNoised) -> Ending:
        """The training, and after it the steps against an attack, if there are to be any."""
        settings, talk = self.settings, self.sample.talk
        watch = self._watch(TRAINING, trainer, monitor, ranks, settings.resume_from_checkpoint)
        ending = self._train(TRAINING, f"Unlearning {counted(len(self.bank.targets), 'prompt')}", trainer, watch, ranks)
        _tell(talk, ending, watch.validations, self._seconds(TRAINING))
        if not settings.adversarial_steps:
            return ending
        if not ranks.shared(ending.reason != "rolled back"):
            talk.warn("The adversarial steps are left out, because training was stopped.")
            return ending
        rate = settings.resolved_learning_rate() * trainer.rate
        return self._against_attack(ending, rate, trainer, monitor, ranks, given)

    def _against_attack(
        self, ending: Ending, rate: float, before: Trainer, monitor: Monitor | None, ranks: Ranks,
        given: ToBeNoised,
    ) -> Ending:  # fmt: skip
        """Take further steps, under embeddings that an adversary optimizes; how all of the training ended.

        `rate` is the learning rate that the steps `before` them came to.
        """
        settings, model = self.settings.adversarial(ranks.shared(rate)), self.sample.model
        trainer = _adversarial(model, self.bank, self.method, settings, self.precision, before, ranks)
        under = None
        if monitor and settings.closed:
            network = before.room.network(model.denoiser.network(self.precision))
            own = Adversary(self.bank, network, settings.train_batch_size)
            first, usual = self.settings.max_train_steps + 1, settings.num_validation_images
            under = AttackMonitor(monitor, own, self._ids(), first, given, usual)
        watch = self._watch(ADVERSARIAL, trainer, under, ranks, before=ending.step)
        then = self._train(ADVERSARIAL, "Unlearning what an attack brings back", trainer, watch, ranks)
        if under is None:
            return ending.model_copy(update={"copies": None, "samples": None})  # these weights were not validated
        both = {"attacked": then.targets, "copies": then.copies, "samples": then.samples}
        stopped = {"reason": then.reason} if then.reason == "rolled back" else {}
        attacked = ending.model_copy(update=both | stopped)
        _tell(self.sample.talk, attacked, watch.validations, self._seconds(ADVERSARIAL))
        return attacked

    def _seconds(self, phase: Phase) -> float:
        """That all steps of a phase took."""
        return sum(step.seconds for step in self.run.read(phase.steps, Step))

    def _watch(
        self, phase: Phase, trainer: Trainer, monitor: Monitor | AttackMonitor | None, ranks: Ranks,
        step: str = LATEST, before: int = 0,
    ) -> Watch:  # fmt: skip
        """What looks after a phase of the training, which goes on from a checkpoint: the newest, or that of a step.

        So many steps were taken `before` it.
        """
        run, most = self.run, self.settings.checkpoints_total_limit
        checkpoints = Checkpoints(run.path / phase.checkpoints, trainer, most)
        done = ranks.shared(checkpoints.restore(step))
        if done:
            self.sample.talk.say(f"Training continues after step {done}.")
        ranks.wait()  # while the others read the checkpoint, it stays
        _cut(run, phase.steps, Step, done)
        seen = ValidationLog(run, phase.validations, _cut(run, phase.validations, Validation, done) if monitor else [])
        if monitor and trainer.settings.closed:
            return ClosedLoop(seen, trainer, monitor, checkpoints, self._ids(), before)
        return OpenLoop(seen, trainer, monitor if isinstance(monitor, Monitor) else None, checkpoints)

    def _train(self, phase: Phase, title: str, trainer: Trainer, watch: Watch, ranks: Ranks) -> Ending:
        """Take all steps of a phase, and leave the model with the weights that are kept."""
        model, run = self.sample.model, self.run
        settings = self.settings.model_dump(mode="json")
        tracked = trackers(self.settings.report_to, run.path, Path(phase.steps).stem, settings)
        with self.sample.talk.progress(title, trainer.settings.max_train_steps) as bar, tracked as told:
            decision = watch()
            for step in trainer if decision.ending is None else ():
                if finite := _finite(step):
                    run.append(phase.steps, [step])
                    told.log(step)
                decision = watch() if finite else watch.diverged(_broken(model))
                bar.at(step.step, f"{_losses(step)}{watch.note}")
                if decision.ending:
                    break
        ranks.shared(None)
        ending = decision.ending or Ending(
            reason="forgotten" if trainer.reached else "all steps", step=trainer.step, taken=trainer.step
        )
        watch.take_up(ending.step)
        if saved := _short_of_memory(trainer.room):
            self.sample.talk.say(saved)
        _finish(model, trainer, ranks)
        return ending

    def apart(self, entry: UnlearnStage, pairs: Sequence[Pair]) -> list[Path]:
        """Train one adapter per target, each in `adapters/<prompt id>` as the whole is in a run.

        The model has all of them then. Where one is trained, the pictures of the other targets are neither forgotten
        nor kept. `entry` of the stage has under `endings` how each training ended, by prompt id.
        """
        run, model, bank, folders, steps = self.run, self.sample.model, self.bank, list[Path](), list[Step]()
        ids = dict.fromkeys(p.prompt_id for p in pairs if p.side is Side.FORGET)
        for i, target in zip(ids, bank.targets, strict=True):
            part = Run(run.path / APART / i, run.header)
            if not (part.path / MODEL).exists():
                part.path.mkdir(parents=True, exist_ok=True)
                entry.endings[i] = replace(self, run=part, bank=bank.of([target]))()
                run.save()
                with atomic_folder(part.path / MODEL) as folder:
                    model.adapters.save(folder)
                model.adapters.remove()
            folders.append(part.path / MODEL)
            steps += part.read(STEPS, Step)
        run.write(STEPS, (s.model_copy(update={"step": n}) for n, s in enumerate(steps, 1)))
        model.adapters.fuse(*folders)
        return folders

    def _ids(self) -> list[str]:
        """Of the prompts of the bank's targets, in their order."""
        ids = {p.text: p.id for p in self.detection.prompts if p.role is Role.PROMPT}
        return [ids[target.text] for target in self.bank.targets]


def begun(run: Run) -> bool:
    """Whether a training of this run has taken a step."""
    parts = [run, *(Run(path, run.header) for path in (run.path / APART).glob("*"))]
    return any(part.read(STEPS, Step) for part in parts)


def clear(run: Run) -> None:
    """Remove what a training without any step has left: it may have been begun with other settings."""
    for name in (CHECKPOINTS, APART):
        shutil.rmtree(run.path / name, ignore_errors=True)
    for phase in (TRAINING, ADVERSARIAL):
        (run.path / phase.validations).unlink(missing_ok=True)


class Work(NamedTuple):
    """A training as the first rank tells the others of it: items, and where it is written."""

    targets: Sequence[Target]
    prior: Sequence[tuple[str, torch.Tensor]]
    frames: Sequence[torch.Tensor]
    folder: Path


@contextmanager
def _lightly(model: DiffusionModel, settings: UnlearnSettings, precision: str) -> Iterator[None]:
    """A model for as long as it is trained: what no pass reads is off the GPU, and frozen weights of a LoRA are held as
    coarsely as passes and samples read them, in `precision`. DoRA reads them in full."""
    rounded = settings.weights == "lora" and not settings.use_dora
    with model.denoiser_alone(), model.denoiser.in_halves(precision if rounded else "no"):
        yield


def follow(ranks: Ranks, model: DiffusionModel, method: Method, settings: UnlearnSettings, precision: str) -> None:
    """Take part in every training of the first rank, until it shares None. Nothing is written, nothing is said."""
    while work := ranks.shared(cast(Work | None, None)):
        bank = with_texts(model, work.targets, work.prior, work.frames)
        trainer = _trainer(model, bank, method, settings, precision, ranks)
        with _lightly(model, settings, precision):
            _follow_phases(ranks, model, bank, method, settings, precision, trainer, work.folder)
        if model.adapters.present:
            model.adapters.remove()


def _follow_phases(
    ranks: Ranks, model: DiffusionModel, bank: Bank, method: Method, settings: UnlearnSettings, precision: str,
    trainer: Trainer, folder: Path,
) -> None:  # fmt: skip
    """The part of this rank in a training, and in the steps against an attack, if there are any."""
    if done := ranks.shared(0):
        Checkpoints(folder / CHECKPOINTS, trainer).restore(str(done))
    ranks.wait()
    trainer.follow()
    _finish(model, trainer, ranks)
    if settings.adversarial_steps and ranks.shared(False):
        own = settings.adversarial(ranks.shared(0.0))
        against = _adversarial(model, bank, method, own, precision, trainer, ranks)
        if done := ranks.shared(0):
            Checkpoints(folder / ADVERSARIAL.checkpoints, against).restore(str(done))
        ranks.wait()
        against.follow()
        _finish(model, against, ranks)


def _trainer(
    model: DiffusionModel, bank: Bank, method: Method, settings: UnlearnSettings, precision: str, ranks: Ranks
) -> Trainer:
    """The trainer of a model, which is made ready for it; ranks that share its weights all come here at once.

    What `prior_target` remembers of the model before training each rank has whole.
    """
    model.denoiser.save_memory(settings.gradient_checkpointing)
    model.prepare_training(settings.weights, settings.rank, settings.train_seed, settings.use_dora)
    held_to_model = settings.prior_target == "model" and settings.prior_batch_size
    room = Room(save=None if settings.gradient_checkpointing else model.denoiser.save_memory)
    held = room.network(model.denoiser.frozen(precision)) if held_to_model else None
    if ranks.sharded:
        model.denoiser.shard()
        room = Room(1)  # for what cannot be split: ranks that share weights must all take the same passes
    network = model.denoiser.network(precision, settings.torch_compile)
    return Trainer(
        network if ranks.sharded else room.network(network), model.denoiser.trained(), bank, method, settings,
        precision, original=held, ranks=ranks, room=room,
    )  # fmt: skip


def _adversarial(
    model: DiffusionModel, bank: Bank, method: Method, settings: UnlearnSettings, precision: str,
    before: Trainer, ranks: Ranks,
) -> Trainer:  # fmt: skip
    """The trainer of the steps against an attack, of a model that another one trained before; ranks all come here at
    once.

    They go on from the first one's weights, which may be those of an earlier step.
    """
    network = before.room.network(model.denoiser.network(precision))
    ranks.spread(p.detach() for p in model.denoiser.trained().values())
    model.denoiser.module.train()
    return Trainer(
        network, model.denoiser.trained(), bank, method, settings, precision, original=before.original, ranks=ranks,
        adversary=Adversary(bank, network, settings.train_batch_size, ranks), room=before.room,
    )  # fmt: skip


def _short_of_memory(room: Room) -> str:
    """What was done where memory did not hold a pass as it is, in words; empty where it did."""
    ways = []
    if room.most:
        ways.append(f"each pass of a step was split into parts of at most {counted(room.most, 'item')}")
    if room.saves:
        ways.append("activations were computed again instead of kept (gradient checkpointing)")
    if not ways:
        return ""
    longer = "two thirds" if len(ways) > 1 else "a third"
    return f"Memory was short, so {' and '.join(ways)}. That takes up to {longer} longer, and changes no result."


def _finish(model: DiffusionModel, trainer: Trainer, ranks: Ranks) -> None:
    """Leave the first rank's model with what was trained: averages if these are kept, and all of the weights."""
    trainer.finish()
    if ranks.sharded:
        model.denoiser.gather()
    model.denoiser.module.eval()


def _finite(step: Step) -> bool:
    """Whether all that was computed in a step is numbers."""
    return math.isfinite(step.loss_keep + step.loss_forget + step.norm_keep + step.norm_forget)


def _broken(model: DiffusionModel) -> str | None:
    """The first weight of the denoiser that is no number."""
    return first_broken_weight({"denoiser": model.denoiser.module})


def _losses(step: Step) -> str:
    return f"keep {step.loss_keep:.1f}  forget {step.loss_forget:.1f}"


def _cut(run: Run, name: str, kind: type[K], step: int) -> list[K]:
    """Drop the lines of steps that come after one, and return the others."""
    kept = [record for record in run.read(name, kind) if record.step <= step]
    run.write(name, kept)
    return kept


def _tell(talk: Talk, ending: Ending, validations: Sequence[Validation], seconds: float) -> None:
    """Say how training ended, loudly where not all is well."""
    if validations:
        taken = sum(validation.seconds for validation in validations)
        talk.say(
            f"{counted(len(validations), 'validation')} took {taken:.0f} s, and the training steps {seconds:.0f} s."
        )
    if ending.sentence:
        (talk.warn if ending.good is False else talk.say)(ending.sentence)
