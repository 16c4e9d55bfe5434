"""What a stage read, known by content and never by path, and whether it is still the same."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from memfix.errors import MemfixError
from memfix.records import Record


class Inputs(Record):
    """Base of what identifies the inputs of a stage. `named` says, for an error, what each field is of."""

    named: ClassVar[dict[str, str]] = {}

    def require_unchanged(self, now: Inputs) -> None:
        """Raise MemfixError if anything is not what the stage read; `now` is made the same way from what is there."""
        for field, what in self.named.items():
            if getattr(self, field) != getattr(now, field):
                raise MemfixError(
                    f"{what} changed since the detection.", "Put back what was there, or detect again in a new run."
                )


class DetectInputs(Inputs):
    """What a detection read."""

    named: ClassVar[dict[str, str]] = {
        "prompts": "The prompts of this run", "model_sha256": "The weights of the model",
        "model_config_sha256": "The configuration of the model (scheduler, vocabulary or another file beside weights)",
        "adapter_sha256": "The LoRA on top of the model", "index": "The index of the references",
        "measure": "The weights of the measure", "clip": "The CLIP model",
    }  # fmt: skip

    prompts: str = Field(description="digest of all prompts and controls as they were read")
    model_sha256: str = Field(description="of all weight files")
    model_config_sha256: str = Field(description="of all other files: scheduler, vocabulary, configuration")
    model_revision: str | None = Field(None, description="of a model from the hub")
    adapter_sha256: str | None = Field(None, description="of a LoRA on top of the model")
    references: str | None = Field(description="of the contents of all references that were named; none without any")
    index: str | None = Field(description="folder of the index that holds them, where there is one")
    measure: str = Field(description="weights and preprocessing of the deciding measure")
    clip: str | None = Field(None, description="weights of the CLIP model that gives prompt agreement")


class UnlearnInputs(Inputs):
    """Pictures of the user's own that an unlearning read; none where none were given."""

    keep_pictures: str | None = Field(None, description="of the contents of --keep-folder")
    surrogate_pictures: str | None = Field(None, description="of the contents of --surrogates")


class RecheckInputs(Inputs):
    """The weights that a re-check was made of, and what it asked them besides the run's prompts."""

    weights_sha256: str = Field(description="of the adapters, or of the model's weight files")
    config_sha256: str | None = Field(None, description="of the model's other files; none for adapters")
    paraphrases_sha256: str | None = Field(None, description="of the file given by --paraphrases")

    def of_same_weights(self, other: RecheckInputs) -> bool:
        """Whether the weights are the same, whatever they were asked."""
        return (self.weights_sha256, self.config_sha256) == (other.weights_sha256, other.config_sha256)
