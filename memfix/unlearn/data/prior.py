"""Pictures of prompts that have nothing to do with what is forgotten, where the list has too few of them to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.console import counted
from memfix.files import errors_of
from memfix.records import Pair, Score, Side
from memfix.unlearn.data.sampler import Asked, Sampler

EACH = 2  # pictures of a prompt
NAMED = 3  # prompts that a warning names
ORDINARY = (
    "a photo of a dog", "a cat on a windowsill", "a bowl of fruit on a wooden table", "a red car on a street",
    "a mountain lake in the morning", "a portrait of an old man", "a woman with a hat, oil painting",
    "a city street at night", "an abstract painting", "a logo with a leaf", "a drawing of a tree",
    "a house with a garden", "a cup of coffee", "a ship on the sea, watercolor", "a children's book illustration",
    "a black and white photograph of a bridge", "a vase of flowers", "a bird on a branch", "a pair of shoes",
    "a living room with a sofa", "a poster of a concert", "a robot, digital art", "a pattern of circles",
    "a plate of pasta",
)  # fmt: skip
"""Texts of every kind that a model may be asked for; they name nobody, no work and no brand."""


class Prior(NamedTuple):
    """Keep images that were made; prompts that gave copies or disputed samples, each with the training image."""

    pairs: list[Pair]
    copied: dict[str, str]


def prior_pictures(
    sample: Sampler, known: Iterable[str], captions: Sequence[str], distinct: Callable[[Score], bool], wanted: int,
    folder: Path,
) -> Prior:  # fmt: skip
    """Keep images, in `folder`, of so many further prompts.

    The prompts are `captions` of training images first, from all over them, and ordinary texts then, but for those that
    the list, `known`, has itself: what is memorized or undecided there must not be held to what it was. One that gives
    a copy, or a disputed sample, is left out and told of: nobody knew that it is memorized.
    """
    read_alike = {_as_read(text) for text in known}
    texts = [t for t in dict.fromkeys((*captions, *ORDINARY)) if _as_read(t) not in read_alike][:wanted]
    folder.mkdir(exist_ok=True)
    asked = [Asked(f"prior{n:04d}", text) for n, text in enumerate(texts, 1)]
    made, copied = list[Pair](), dict[str, str]()
    for drawn, image, score in sample(asked, EACH, "Sampling other prompts to keep"):
        if score.copy_ or score.accused:
            copied.setdefault(drawn.text, score.reference)
        if distinct(score):
            path = (folder / drawn.file_name).resolve()
            with errors_of(path):
                image.save(path, compress_level=1)
            made.append(
                Pair(side=Side.KEEP, path=str(path), text=drawn.text, prompt_id=drawn.prompt_id, origin="prior")
            )
    if copied:
        named = "; ".join(f"'{text}' of {reference}" for text, reference in list(copied.items())[:NAMED])
        further = f"; {len(copied) - NAMED} more" if len(copied) > NAMED else ""
        sample.talk.warn(
            f"{counted(len(copied), 'prompt')} that the list does not have gave copies, or what a witness takes for "
            f"them: {named}{further}. They are not kept. Detect with them in the list to unlearn them as well."
        )
    return Prior([pair for pair in made if pair.text not in copied], copied)


def _as_read(text: str) -> str:
    """A text as CLIP reads it, which knows neither capitals nor how wide a space is."""
    return " ".join(text.lower().split())
