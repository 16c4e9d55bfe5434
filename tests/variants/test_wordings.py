"""Other wordings of a prompt, which targets need them, and which are safe to read a prompt as."""

from collections import Counter

from memfix.records import Pair, Side
from memfix.unlearn.data.pairs import safe_wordings, short_of_keep
from memfix.variants.wordings import (
    MOST_WORDINGS,
    TIMES,
    beginnings,
    echoes,
    framed,
    known_words,
    paddings,
    thinned,
)

TEXT = "owl poster by Ada Venn the elder"


def pair(prompt: str, side: Side, origin: str = "sample", wording: str | None = None) -> Pair:
    return Pair(side=side, path="x.png", text="owl poster by Ada", prompt_id=prompt, origin=origin, wording=wording)


def in_order(words: list[str], text: list[str]) -> bool:
    """Whether the words come in the text in this order."""
    rest = iter(text)
    return all(word in rest for word in words)


def test_shortened_wordings() -> None:
    assert beginnings("owl poster by Ada") == ["owl poster by", "owl poster", "owl"]
    assert beginnings("owl") == []
    long = beginnings(" ".join(str(i) for i in range(40)))
    assert len(long) == MOST_WORDINGS
    assert [len(w.split()) for w in long] == sorted((len(w.split()) for w in long), reverse=True)


def test_thinned_wordings_lack_words_but_are_no_beginnings() -> None:
    found = [w.split() for w in thinned(TEXT)]
    assert found
    assert all(in_order(words, TEXT.split()) for words in found)
    assert [len(words) for words in found] == sorted({len(words) for words in found}, reverse=True)
    assert all(not TEXT.startswith(" ".join(words)) for words in found)
    assert thinned(TEXT) == thinned(TEXT)
    assert thinned("owl") == []


def test_words_are_put_in_between_those_of_the_prompt() -> None:
    known = ["fish", "tree", "sun"]
    for wordings, allowed in ((paddings(TEXT, known), set(known)), (echoes(TEXT), set(TEXT.split()))):
        for times, wording in zip(TIMES, wordings, strict=True):
            words = wording.split()
            assert in_order(TEXT.split(), words)
            more = Counter(words) - Counter(TEXT.split())
            assert more.total() == times
            assert more.keys() <= allowed
    assert paddings(TEXT, known) == paddings(TEXT, known) != paddings(f"{TEXT}s", known)


def test_framed_wordings_hold_the_prompt() -> None:
    assert all(TEXT in wording and wording != TEXT for wording in framed(TEXT))


def test_words_of_a_vocabulary_are_whole_words() -> None:
    assert known_words(["owl</w>", "po", "7</w>", "ster</w>", "</w>"]) == ["owl", "ster"]


def test_targets_short_of_keep_images() -> None:
    rich = [pair("rich", Side.FORGET), *[pair("rich", Side.KEEP)] * 3]
    poor = [pair("poor", Side.FORGET), *[pair("poor", Side.KEEP)] * 2]
    pairs = [*rich, *poor, pair("other", Side.KEEP, "control")]
    assert short_of_keep(pairs, 3) == {"poor": "owl poster by Ada"}
    assert short_of_keep(pairs, 2) == {}


def test_a_wording_is_safe_when_all_its_samples_could_be_kept() -> None:
    def variants(prompt: str, counts: dict[str, int]) -> list[Pair]:
        return [pair(prompt, Side.KEEP, "variant", w) for w, n in counts.items() for _ in range(n)]

    pairs = [
        *variants("a", {"owl poster by": 3, "owl poster": 4, "owl": 4}),  # the longest gave a copy
        *variants("b", {"owl": 3}),
    ]
    assert safe_wordings(pairs, 4) == {"a": "owl poster", "b": None}
