"""Looks under attack: what they count, and when the search for embeddings is left out."""

from collections.abc import Mapping, Sequence

import pytest
from PIL import Image

from memfix.models.conditioning import Conditioning
from memfix.records import Score, Validation
from memfix.unlearn.train.attacked import LOOKED_AT_ONCE, AttackMonitor, ToBeNoised

IDS = ("a", "b")
MANY = tuple(f"p{n:02d}" for n in range(2 * LOOKED_AT_ONCE + 1))
BLACK = Image.new("RGB", (8, 8))


class Seen:
    """A monitor with given copies of one target: plain, from its picture, under an embedding."""

    def __init__(self, plain: int = 0, noised: int = 0, embedded: int = 0, whose: str = "a") -> None:
        self.plain, self.noised, self.embedded, self.whose = plain, noised, embedded, whose
        self.numbers, self.before = list[int](), list[int]()

    def __call__(self, number: int, looked: Sequence[str], each: int, before: int) -> Validation:
        self.numbers.append(number)
        self.before.append(before)
        return Validation(
            step=number, copies=self._copies(looked, self.plain), samples=each, drift=0.1, broken=0.0,
            broken_targets=before / 100, shapeless={looked[0]: 1}, loss_keep=1, loss_forget=1,
            skew_keep=0, skew_forget=0, seconds=1,
        )  # fmt: skip

    def sampled(
        self, number: int, looked: Sequence[str], each: int, instead: Mapping[str, Conditioning] | None = None,
        given: Mapping[str, Image.Image] | None = None, before: int = 0,
    ) -> tuple[dict[str, int], list[Score]]:  # fmt: skip
        self.numbers.append(number)
        self.before.append(before)
        return self._copies(looked, self.noised if given else self.embedded), []

    def _copies(self, looked: Sequence[str], n: int) -> dict[str, int]:
        return {i: n if i == self.whose else 0 for i in looked}

    def evaluations(self, targets: int, each: int) -> int:
        return targets * each


class Searched:
    """An adversary that knows which targets it searched."""

    def __init__(self) -> None:
        self.places: list[list[int]] = []

    def attack(self, places: Sequence[int], draw: object, each: int) -> list[None]:
        self.places.append(list(places))
        return [None for _ in places]


def look(seen: Seen, each: int, given: bool = True, forced: float = 0.0) -> tuple[Validation, int]:
    searched = Searched()
    pictures = ToBeNoised(dict.fromkeys(IDS, BLACK), forced) if given else ToBeNoised()
    monitor = AttackMonitor(seen, searched, IDS, 100, pictures, usual=2)
    return monitor(7, IDS, each), len(searched.places)


def test_copies_of_all_kinds_are_counted_from_noise_of_their_own() -> None:
    seen = Seen(plain=1, noised=2, embedded=3)
    found, searched = look(seen, 2)
    assert (found.step, found.copies, found.samples, found.plain, searched) == (7, {"a": 6, "b": 0}, 8, 4, 1)
    assert sorted(seen.numbers) == [121, 122, 123]
    found, _ = look(Seen(plain=1, noised=2, embedded=3), 2, given=False)
    assert (found.copies, found.samples) == ({"a": 4, "b": 0}, 6)


@pytest.mark.parametrize(("noised", "copies"), [(6, 6), (5, 0), (0, 0)])
def test_of_noised_pictures_only_what_clean_ones_do_not_give_as_well_counts(noised: int, copies: int) -> None:
    found, searched = look(Seen(noised=noised), 8, forced=0.625)
    assert (found.copies["a"], searched) == (copies, copies == 0)


@pytest.mark.parametrize(("seen", "copies", "samples", "searched"), [
    (Seen(plain=1, embedded=5), 1, 24, 0),
    (Seen(noised=2, embedded=5), 2, 24, 0),
    (Seen(embedded=5), 5, 32, 1),
    (Seen(), 0, 32, 1),  # nothing is confirmed without the search
])  # fmt: skip
def test_a_last_look_searches_unless_the_cheap_part_sees_copies(
    seen: Seen, copies: int, samples: int, searched: int
) -> None:
    found, times = look(seen, 8)
    assert (found.copies["a"], found.samples, times) == (copies, samples, searched)


@pytest.mark.parametrize("kind", ["plain", "noised", "embedded"])
@pytest.mark.parametrize(("whose", "looks"), [("p16", 1), ("p08", 2), ("p00", 3), ("none", 3)])
def test_a_last_look_looks_no_further_once_some_targets_copy(kind: str, whose: str, looks: int) -> None:
    seen, adversary = Seen(whose=whose, **{kind: 3}), Searched()
    order, given = MANY[::-1], ToBeNoised(dict.fromkeys(MANY, BLACK), 0.125)
    found = AttackMonitor(seen, adversary, MANY, 100, given, usual=2)(7, order, 8)
    cheap = kind != "embedded" and whose != "none"
    places = [[MANY.index(i) for i in order[n : n + LOOKED_AT_ONCE]] for n in range(0, len(order), LOOKED_AT_ONCE)]
    assert adversary.places == places[: looks - cheap]
    each = [LOOKED_AT_ONCE * n for n in range(looks) for _ in range(3)]
    assert seen.before == each[: len(each) - cheap]  # so that no two targets begin at the same noise
    assert list(found.copies) == list(order[: LOOKED_AT_ONCE * looks])  # the others are not said to be clean
    assert (found.total, found.samples) == (0 if whose == "none" else 3, 24 if cheap else 32)
    assert set(found.shapeless) == {order[LOOKED_AT_ONCE * n] for n in range(looks)}
    sizes = [len(order[n : n + LOOKED_AT_ONCE]) for n in range(0, len(order), LOOKED_AT_ONCE)][:looks]
    shares = [n * LOOKED_AT_ONCE * size / 100 for n, size in enumerate(sizes)]
    assert found.broken_targets == pytest.approx(sum(shares) / sum(sizes))


def test_on_the_way_all_targets_are_searched_at_once() -> None:
    adversary = Searched()
    found = AttackMonitor(Seen(embedded=1, whose="p00"), adversary, MANY, 100, ToBeNoised(), usual=2)(7, MANY, 2)
    assert (len(adversary.places), list(found.copies)) == (1, list(MANY))
