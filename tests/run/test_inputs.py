"""Each input of a detection that is something else now is refused by its name."""

import pytest

from memfix.errors import MemfixError
from memfix.run.inputs import DetectInputs

READ = DetectInputs(
    prompts="p", model_sha256="m", model_config_sha256="c", adapter_sha256="a", references="r", index="i",
    measure="s", clip="k",
)  # fmt: skip
# Of the references the pictures are asked for, wherever they are; what a revision stands for, weights say themselves.
OTHERWISE = {"references", "model_revision"}


def test_every_input_is_looked_at() -> None:
    assert set(DetectInputs.model_fields) == set(DetectInputs.named) | OTHERWISE
    READ.require_unchanged(READ.model_copy(update={"model_revision": "main"}))


@pytest.mark.parametrize("field", sorted(DetectInputs.named))
def test_an_input_that_changed_is_named(field: str) -> None:
    with pytest.raises(MemfixError) as caught:
        READ.require_unchanged(READ.model_copy(update={field: "other"}))
    assert caught.value.message == f"{DetectInputs.named[field]} changed since the detection."
