"""Shortened wordings: which are sampled, and which are safe to read a prompt as."""

from memfix.records import Pair, Side
from memfix.unlearn.wordings import ENOUGH_KEEP, MOST_WORDINGS, safe_wordings, shortened, wordings


def pair(prompt: str, side: Side, origin: str = "sample", wording: str | None = None) -> Pair:
    return Pair(side=side, path="x.png", text="owl poster by Ada", prompt_id=prompt, origin=origin, wording=wording)


def test_shortened_wordings() -> None:
    assert shortened("owl poster by Ada") == ["owl poster by", "owl poster", "owl"]
    assert shortened("owl") == []
    long = shortened(" ".join(str(i) for i in range(40)))
    assert len(long) == MOST_WORDINGS
    assert [len(w.split()) for w in long] == sorted((len(w.split()) for w in long), reverse=True)


def test_only_targets_short_of_keep_images_are_sampled_again() -> None:
    rich = [pair("rich", Side.FORGET), *[pair("rich", Side.KEEP)] * ENOUGH_KEEP]
    poor = [pair("poor", Side.FORGET), *[pair("poor", Side.KEEP)] * (ENOUGH_KEEP - 1)]
    found = wordings([*rich, *poor, pair("other", Side.KEEP, "control")])
    assert {i: p.wording for i, p in found.items()} == {
        "poor-v0": "owl poster by", "poor-v1": "owl poster", "poor-v2": "owl",
    }  # fmt: skip
    assert {(p.side, p.text, p.prompt_id, p.origin) for p in found.values()} == {
        (Side.KEEP, "owl poster by Ada", "poor", "variant")
    }


def test_a_wording_is_safe_when_all_its_samples_could_be_kept() -> None:
    def variants(prompt: str, counts: dict[str, int]) -> list[Pair]:
        return [pair(prompt, Side.KEEP, "variant", w) for w, n in counts.items() for _ in range(n)]

    pairs = [
        *variants("a", {"owl poster by": 3, "owl poster": 4, "owl": 4}),  # the longest gave a copy
        *variants("b", {"owl": 3}),
    ]
    assert safe_wordings(pairs, 4) == {"a": "owl poster", "b": None}
