"""What an unlearning works with and writes down: pairs, what was sampled for them, steps, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from memfix.records.base import Id, PicturePath, Record, Word


class Side(Word):
    """The two sides of unlearning: A, and what must survive."""

    FORGET = "forget"
    KEEP = "keep"


class Pair(Record):
    """An image and the text it is unlearned from, or kept for."""

    side: Side
    path: PicturePath = Field(description="of the picture; in the folder of the run, from there on")
    content: str = Field("", description="digest of the files that hold its pictures, once it is written down")
    text: str
    prompt_id: Id
    origin: Literal["reference", "sample", "variant", "control", "given", "prior"]
    wording: str | None = Field(
        None, description="the text that a variant was sampled from, where it was another one that gave no copy"
    )
    kind: str | None = Field(None, description="how a variant was made of the prompt")
    reference: str | None = Field(None, description="the reference that an image to forget is, or shows")
    surrogate: PicturePath | None = Field(
        None, description="the picture that an image to forget is denoised to instead"
    )


class Yield(Record):
    """What one kind of variant gave of keep images for one memorized prompt."""

    prompt_id: Id = Field(description="of the memorized prompt")
    text: str = Field(description="of that prompt")
    kind: str = Field(description="kind of variant, by name")
    samples: int = Field(description="samples of its variants")
    kept: int = Field(0, description="samples that became keep images")
    near_copies: int = Field(0, description="samples that were too close to a reference to be kept")
    copies: int = Field(0, description="samples that were copies of a reference")


class Rewording(Record):
    """A memorized prompt that had nothing of its own to keep, and the wording it was made to read like."""

    prompt_id: Id = Field(description="of the memorized prompt")
    text: str = Field(description="of that prompt")
    wording: str | None = Field(description="the text that it was to be read like; none if none was found")
    copies: int = Field(description="copies in samples of the trained weights, before the rewording")
    samples: int = Field(description="those samples")
    applied: bool = Field(description="whether the model now reads the prompt like that wording")
    reason: str = Field(description="why it does, or does not")


class Step(Record):
    """One optimizer step of unlearning; norms are of the whole gradient, losses are summed over a latent."""

    step: int
    loss_keep: float
    loss_forget: float
    norm_keep: float
    norm_forget: float
    scale: float
    learning_rate: float
    seconds: float


class ValidationNumbers(Record):
    """What a few samples say of the weights after a step of training, and what the losses do.

    Losses are per dimension of a latent, over one fixed set of noisy points. Skew: the mean over those points of
    (now - before) / (now + before + 0.001), -1 to 1; what is forgotten rises, what is kept stays at 0.
    """

    step: int = Field(description="optimizer steps that were made before it; 0 for the original weights")
    copies: dict[str, int] = Field(
        description="prompt id → copies among its samples, disputed ones too, for each target that was looked at"
    )
    samples: int = Field(description="samples of each of these targets")
    plain: int | None = Field(
        None, description="how many of these are taken under the target's own prompt; none where all of them are"
    )
    shapeless: dict[str, int] = Field(
        default_factory=dict, description="prompt id → how many plain ones are blank or noise; only where some are"
    )
    drift: float | None = Field(description="mean rms difference of control samples from before, 0 to 1; same noise")
    diversity: float | None = Field(
        None, description="mean rms difference of two samples of a control before, 0 to 1; different noise"
    )
    broken: float | None = Field(description="share of control samples whose detail left the range seen before")
    broken_targets: float = Field(description="share of the targets' samples whose detail left that range")
    loss_keep: float | None = Field(description="none where there is nothing to keep, or the loss is no number")
    loss_forget: float | None = Field(description="none where there is nothing to forget, or the loss is no number")
    skew_keep: float | None = Field(description="change of the keep loss, -1 to 1; none where there is none")
    skew_forget: float | None = Field(description="change of the forget loss, -1 to 1; none where there is none")
    seconds: float = Field(description="wall time that it took")


class Validation(ValidationNumbers):
    """One validation, and what follows from its numbers."""

    @property
    def total(self) -> int:
        """Copies in all samples of all targets."""
        return sum(self.copies.values())

    @property
    def drawn(self) -> int:
        """Samples of all targets."""
        return self.samples * len(self.copies)


class EndingNumbers(Record):
    """When and why training ended."""

    reason: Literal["clean", "forgotten", "all steps", "rolled back"] = Field(
        description="no copies in validations, the forget error at its bound, no step left, or pictures damaged"
    )
    step: int = Field(description="the step whose weights are kept; 0 for the original ones")
    taken: int = Field(description="steps that were made")
    copies: int | None = Field(
        None, description="copies in the validation of the weights that are kept; none without validations"
    )
    samples: int | None = Field(None, description="samples of that validation")
    targets: dict[str, Literal["forgotten", "no pictures", "damage limit", "all steps"]] = Field(
        default_factory=dict,
        description="prompt id → why a closed loop left it: no copies in its last samples, these are blank or noise, "
        "other pictures damaged, or no step left",
    )
    attacked: dict[str, Literal["forgotten", "no pictures", "damage limit", "all steps"]] = Field(
        default_factory=dict,
        description="prompt id → the same of adversarial steps, which are validated under a short attack too",
    )


class Round(Record):
    """A re-check that saw copies, after which a closed loop went on."""

    step: int = Field(description="the step whose weights it checked")
    persistent: list[str] = Field(description="ids of prompts that it found persistent")
    hidden: list[str] = Field(description="ids of prompts that it found hidden")
    last_seed: int = Field(description="the last seed of its fresh noise, after which that of the next one begins")


class Ending(EndingNumbers):
    """How training ended, and what follows from that."""

    @property
    def good(self) -> bool | None:
        """Whether validations found nothing wrong; None without validations."""
        if self.targets:
            done = {*self.targets.values(), *self.attacked.values()} == {"forgotten"}
            return done and self.reason == "clean"
        return None if self.copies is None else self.copies == 0 and self.reason != "rolled back"

    @property
    def sentence(self) -> str:
        """What a user should know of it; empty if it is nothing but that all steps were taken without validations."""
        ended = f"Training ended after step {self.taken}"
        if self.targets:
            if self.reason == "rolled back":
                ended = f"Training damaged pictures again and again, and was stopped after step {self.taken}"
            return f"{ended}. {self._of_targets()}"
        if self.reason == "forgotten":
            ended += ", when the forget error had reached its bound"
        if self.copies is None:
            return f"{ended}." if self.reason == "forgotten" else ""
        seen = f"{self.copies or 'none'} of {self.samples} samples"
        if self.reason == "rolled back":
            kept = f"those of step {self.step}" if self.step else "the original ones: NOTHING IS UNLEARNED"
            return (
                f"Training damaged pictures and was stopped after step {self.taken}. The saved weights are {kept}; "
                f"with these, {seen} reproduced a reference."
            )
        if self.copies:
            return f"{ended}, and the weights are NOT CLEAN: {seen} still reproduce a reference."
        return f"{ended}: {seen} in the last validation reproduces a reference."

    def _of_targets(self) -> str:
        """What a closed loop says of its targets together, and of each that is not forgotten."""
        kept = "" if self.step == self.taken else f" The saved weights are those of step {self.step}."
        if not self.step:
            kept = " The saved weights are the original ones: NOTHING IS UNLEARNED."
        told = [_told(self.targets, "the last samples of {} show no copy", "NOT FORGOTTEN")]
        if self.reason == "all steps" and set(self.targets.values()) == {"forgotten"}:
            told.append("NOT CONFIRMED: no step was left to look at all of them once more.")
        if self.attacked:
            told.append(_told(self.attacked, "a short attack brings back no copy of {}", "IT BRINGS BACK"))
        return f"{' '.join(told)}{kept}"


def _told(reasons: Mapping[str, str], well: str, badly: str) -> str:
    """How many targets ended well, in a sentence, and which others did not, and why."""
    missed = {i: reason for i, reason in reasons.items() if reason != "forgotten"}
    every = "the prompt" if len(reasons) == 1 else f"all {len(reasons)} prompts"
    sentence = well.format(f"{len(reasons) - len(missed)} of {len(reasons)} prompts" if missed else every)
    why = {
        "no pictures": "its samples are blank or noise at every rate that was tried",
        "damage limit": "other pictures were damaged at every rate that was tried", "all steps": "no step was left",
    }  # fmt: skip
    named = [
        f"{', '.join(i for i in missed if missed[i] == reason)} (since {because})"
        for reason, because in why.items() if reason in missed.values()
    ]  # fmt: skip
    return f"{sentence[0].upper()}{sentence[1:]}.{f' {badly}: ' + '; '.join(named) + '.' if named else ''}"
