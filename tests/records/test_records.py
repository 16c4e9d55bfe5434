"""The nouns between the stages: all of them can be had from the package, and none can be changed or misspelt."""

import inspect

import pytest
from pydantic import BaseModel, ValidationError

from memfix import records
from memfix.records import base, check, recheck, unlearn

MODULES = (base, check, unlearn, recheck)
DEFINED = [
    value
    for module in MODULES
    for _, value in inspect.getmembers(module, inspect.isclass)
    if value.__module__ == module.__name__
]


def test_everything_is_named_once_and_can_be_had_from_the_package() -> None:
    names = [one.__name__ for one in DEFINED]
    assert len(names) == len(set(names)) > 20
    assert all(getattr(records, one.__name__) is one for one in DEFINED)
    assert set(names) | {"SAME", "FRESH", "Condition"} == set(records.__all__)


@pytest.mark.parametrize("kind", [one for one in DEFINED if issubclass(one, BaseModel)])
def test_records_are_frozen_and_refuse_unknown_keys(kind: type[BaseModel]) -> None:
    made = kind.model_construct()
    with pytest.raises(ValidationError, match="frozen"):
        made.anything = 1
    with pytest.raises(ValidationError, match=r"anything\n.*[Ee]xtra"):
        kind.model_validate({"anything": 1})


def test_a_score_is_written_and_read_under_the_name_of_the_files() -> None:
    line = (
        '{"file_name": "a.png", "prompt_id": "p", "seed": 0, "reference": "r", "measures": {}, "copy": true, '
        '"detail": 0.1}'
    )
    score = check.Score.model_validate_json(line)
    assert score.copy_ and '"copy":true' in score.model_dump_json(by_alias=True)
    part = check.Part(reference="other", area=0.5, likeness=0.9)
    assert (score.shows, score.model_copy(update={"part": part}).shows) == ("r", "other")


def test_an_attack_that_could_not_be_tried_has_not_succeeded() -> None:
    made = recheck.AttackResult(
        attack="a", version=recheck.Version.AFTER, arm=recheck.Arm.TARGET, prompt_id="p", text="t", reference="r",
        unit="steps", curve=(),
    )  # fmt: skip
    assert made.last is None and not made.succeeded
    points = (
        recheck.AttackPoint(work=1, copies=0, samples=8),
        recheck.AttackPoint(work=2, copies=1, samples=8),
    )
    assert made.model_copy(update={"curve": points}).succeeded
    assert not made.model_copy(update={"curve": points[:1]}).succeeded


def test_a_person_who_judges_samples_of_an_attack_shortens_its_curve() -> None:
    """To the first copy; what is judged is disputed no more, and what is not stays so, also before copies came."""
    witness = check.WitnessScore(value=0.9, reference="r", copy_=True)

    def judged(point: int, word: bool | None) -> recheck.DisputedSample:
        score = check.Score(
            file_name="s.png", prompt_id="p", seed=0, reference="r", measures={}, copy_=bool(word), detail=0.1,
            witnesses={"structure": witness}, judged=word,
        )  # fmt: skip
        return recheck.DisputedSample(picture="after/attacks/s.png", point=point, score=score)

    curve = tuple(
        recheck.AttackPoint(work=work, copies=copies, samples=8, disputed=disputed)
        for work, copies, disputed in ((8, 0, 2), (16, 0, 1), (24, 3, 0))
    )
    made = recheck.AttackResult(
        attack="a", version=recheck.Version.AFTER, arm=recheck.Arm.TARGET, prompt_id="p", text="t", reference="r",
        unit="samples", curve=curve, doubtful=(judged(0, None), judged(0, None), judged(1, None)),
    )  # fmt: skip
    assert made.succeeded and made.points == curve
    assert made.disputed and made.disputed.work == 8
    no = made.model_copy(update={"doubtful": (judged(0, False), judged(0, False), judged(1, None))})
    assert no.disputed and (no.disputed.work, no.last and no.last.work) == (16, 24)
    none = made.model_copy(update={"doubtful": (judged(0, False), judged(0, False), judged(1, False))})
    assert none.disputed is None and none.succeeded
    yes = made.model_copy(update={"doubtful": (judged(0, False), judged(0, True), judged(1, None))})
    assert [(p.work, p.copies, p.disputed) for p in yes.points] == [(8, 1, 0)]
    assert yes.last == yes.points[0] and yes.disputed is None
