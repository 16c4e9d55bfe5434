"""Another round of a closed loop: it goes on with the prompts that the re-check of its weights still saw copies of."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.config.checks import RecheckSettings
from memfix.console import Talk, counted
from memfix.flow.more_steps import unfinish
from memfix.flow.training import ADVERSARIAL, TRAINING, Phase
from memfix.records import Change, Outcome, Role, Round, Validation
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.unlearn.train.steering import steer


def open_again(run: Run, changes: Sequence[Change], most: int, talk: Talk) -> bool:
    """Make a finished unlearning one that goes on, by the evidence of its re-check; False where that cannot help.

    What the re-check saw becomes a validation of the weights that are kept. Prompts that still give copies are then
    taken up again, and with adversarial steps those that an attack brings back. The results of that re-check are
    discarded but for what `rounds` in the header says of them; the next one draws from other noise.

    Nothing is left to do without copies, for a loop that did not end as it should, or after `most` rounds.
    """
    stage, checked = run.header.stages.unlearn, run.header.stages.recheck
    if stage is None or checked is None or not stage.settings.closed or len(stage.rounds) + 1 >= most:
        return False
    phase = ADVERSARIAL if stage.settings.adversarial_steps else TRAINING
    taken_up = {Outcome.PERSISTENT, Outcome.HIDDEN} if phase is ADVERSARIAL else {Outcome.PERSISTENT}
    back = [c for c in changes if c.role is Role.PROMPT and c.outcome in taken_up]
    validation = _as_validation(run, stage, phase, back)
    if not back or validation is None:
        return False
    talk.say(
        f"The re-check saw copies of {counted(len(back), 'prompt')}, so training goes on with what it saw, "
        f"in round {len(stage.rounds) + 2} of at most {most}.", "title",
    )  # fmt: skip
    round_ = Round(
        step=validation.step, persistent=_ids(changes, Outcome.PERSISTENT), hidden=_ids(changes, Outcome.HIDDEN),
        last_seed=fresh_seeds(run, checked.settings)[-1],
    )  # fmt: skip
    with run.lock():
        stage = run.header.stages.unlearn
        assert stage is not None
        stage.rounds = [*stage.rounds, round_]
        unfinish(run)
    run.discard("recheck")
    run.append(phase.validations, [validation])
    return True


def _as_validation(run: Run, stage: UnlearnStage, phase: Phase, back: Sequence[Change]) -> Validation | None:
    """What the re-check saw, as a validation of the weights that a phase ended with; None if it cannot go on."""
    settings = stage.settings if phase is TRAINING else stage.settings.adversarial()
    validations = run.read(phase.validations, Validation)
    told = {} if stage.ending is None else stage.ending.attacked if phase is ADVERSARIAL else stage.ending.targets
    if not (stage.ending and validations and told and back):
        return None
    before = stage.ending.step if phase is ADVERSARIAL else 0
    heading = steer(validations, settings, list(told), before)
    kept = next(v for v in reversed(validations) if v.step == heading.kept)
    if not heading.ending or heading.ending.reason != "clean" or kept.step >= settings.max_train_steps:
        return None
    copies = {c.prompt_id: max(1, c.copies_same + c.copies_fresh) for c in back}
    return kept.model_copy(
        update={"copies": copies, "samples": back[0].samples_same + back[0].samples_fresh, "seconds": 0.0}
    )


def fresh_seeds(run: Run, settings: RecheckSettings) -> range:
    """Noise for a re-check that neither the first check nor the re-check of an earlier round has drawn."""
    stage = run.header.stages.unlearn
    first = max([settings.fresh_seed, *(r.last_seed + 1 for r in (stage.rounds if stage else ()))])
    return range(first, first + settings.num_fresh)


def _ids(changes: Sequence[Change], outcome: Outcome) -> list[str]:
    return [c.prompt_id for c in changes if c.role is Role.PROMPT and c.outcome is outcome]
