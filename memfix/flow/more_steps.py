"""More steps for a training that has ended, as the scripts of diffusers take them: from a checkpoint, up to a higher
number."""

from __future__ import annotations

from collections.abc import Iterable

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.files import remove_folder
from memfix.run.folder import Run
from memfix.run.outputs import MODEL

MORE_STEPS = frozenset({"max_train_steps"})
REWORDINGS = ("rewordings.jsonl", "rewording.safetensors")


def goes_on(run: Run, settings: UnlearnSettings, given: Iterable[str]) -> bool:
    """Whether the run's unlearning has ended and is to go on: --resume-from-checkpoint is among the settings that the
    user gave, and there are to be more steps than it took, in an open loop without steps against an attack.

    Raises MemfixError if a re-check tells of the weights that it ended with.
    """
    stage = run.header.stages.unlearn
    if stage is None or not run.finished("unlearn") or "resume_from_checkpoint" not in given:
        return False
    ended, alone = stage.settings, not settings.adapter_per_prompt
    longer = settings.max_train_steps > ended.max_train_steps
    if not (longer and alone) or settings.closed or settings.adversarial_steps or ended.adversarial_steps:
        return False
    if run.header.stages.recheck is not None:
        raise MemfixError(
            f"More steps would change the weights that the re-check of {run.path} tells of.",
            "Give --overwrite, which discards it and trains from the beginning.",
        )
    return True


def open_for_more(run: Run) -> None:
    """Make a finished unlearning one that goes on from its checkpoints. Raises MemfixError if what it left changed."""
    with run.lock():
        run.require_intact("unlearn")
        unfinish(run)


def unfinish(run: Run) -> None:
    """Make of a finished unlearning one that was interrupted before its weights were written. Hold the lock."""
    run.unfinish("unlearn")
    remove_folder(run.path / MODEL)
    for name in REWORDINGS:
        (run.path / name).unlink(missing_ok=True)
