"""Other wordings of memorized prompts, for those that have nothing of their own to keep. Pure: texts in, texts out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

MOST_WORDINGS = 4
TIMES = (1, 2, 4, 8)  # words added, from the wording that is closest to the prompt on
FRAMES = ("a picture of {}", "{}, another version", "art inspired by {}", "something like {}, but different")


def beginnings(text: str) -> list[str]:
    """Beginnings of a text, longest first: wordings that say the same with less, and may not be memorized.

    At most MOST_WORDINGS, spread over its length.
    """
    words = text.split()
    lengths: Sequence[int] = range(len(words) - 1, 0, -1)
    if len(lengths) > MOST_WORDINGS:
        stride = len(lengths) / MOST_WORDINGS
        lengths = [lengths[int(i * stride)] for i in range(MOST_WORDINGS)]
    return [" ".join(words[:n]) for n in lengths]


def thinned(text: str) -> list[str]:
    """The text without one word, without two, and so on: words drawn at random, the same ones each time.

    At most MOST_WORDINGS, each with one word or more. Beginnings of the text are left to `beginnings`.
    """
    words, draw = text.split(), Random(text)
    out = draw.sample(range(len(words)), len(words))
    wordings = []
    for n in range(1, min(len(words), MOST_WORDINGS + 1)):
        wording = " ".join(word for place, word in enumerate(words) if place not in out[:n])
        if not text.startswith(wording):
            wordings.append(wording)
    return wordings


def paddings(text: str, vocabulary: Sequence[str]) -> list[str]:
    """The text with 1, 2, 4 and 8 words of the vocabulary put in at random places (Somepalli et al., NeurIPS 2023)."""
    draw = Random(text)
    return [_inserted(text, draw.choices(vocabulary, k=n), draw) for n in TIMES]


def echoes(text: str) -> list[str]:
    """The text with 1, 2, 4 and 8 of its own words once more, at random places (Somepalli et al., NeurIPS 2023)."""
    draw = Random(text)
    return [_inserted(text, draw.choices(text.split(), k=n), draw) for n in TIMES]


def framed(text: str) -> list[str]:
    """The text in sentences around it."""
    return [template.format(text) for template in FRAMES]


def _inserted(text: str, more: Iterable[str], draw: Random) -> str:
    words = text.split()
    for word in more:
        words.insert(draw.randint(0, len(words)), word)
    return " ".join(words)


def known_words(vocabulary: Iterable[str]) -> list[str]:
    """Whole words of a vocabulary in which a word's last token ends in `</w>`, as CLIP has it; sorted."""
    return sorted(word for token in vocabulary if (word := token.removesuffix("</w>")) != token and word.isalpha())
