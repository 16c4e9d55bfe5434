"""When training ends, and with which weights, by looks made by hand."""

import pytest

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.records import Ending, Validation
from memfix.unlearn.train.stopping import best, decide, diverged

SETTINGS = UnlearnSettings(max_train_steps=100, clean_validations=2, max_drift=0.2, max_broken=0.25)


def validated(
    step: int, copies: int, drift: float | None = 0.05, broken: float | None = 0.0, targets: float = 0.0
) -> Validation:
    """Two targets, three samples each; the copies are the first one's."""
    return Validation(
        step=step, copies={"p1": copies, "p2": 0}, samples=3, drift=drift, diversity=1.0, broken=broken,
        broken_targets=targets, loss_keep=0.1, loss_forget=0.1, skew_keep=0, skew_forget=0, seconds=1,
    )  # fmt: skip


def looks(*copies: int) -> list[Validation]:
    """One every ten steps, from the original weights on."""
    return [validated(10 * i, k) for i, k in enumerate(copies)]


def test_nothing_is_decided_without_looks_or_after_one_clean_one() -> None:
    assert decide([], SETTINGS) == (None, None)
    assert decide(looks(3), SETTINGS) == (None, None)
    assert decide(looks(3, 0), SETTINGS) == (None, None)
    assert decide(looks(3, 0, 1, 0), SETTINGS) == (None, None)
    assert decide(looks(0, 0), SETTINGS) == (None, None)  # the original model is no success


def test_clean_validations_in_a_row_let_the_rate_fall_over_a_quarter_of_the_steps() -> None:
    assert decide(looks(3, 1, 0, 0), SETTINGS).cooling == (30, 38)
    assert decide(looks(3, 1, 0, 0)[:-1], SETTINGS.model_copy(update={"clean_validations": 1})).cooling == (20, 25)
    assert decide([*looks(3, 1, 0, 0), validated(35, 0)], SETTINGS).cooling == (
        30,
        38,
    )  # not put off by further clean ones
    assert decide([*looks(3, 1, 0, 0), validated(35, 1)], SETTINGS) == (None, None)  # taken back


def test_training_ends_where_the_rate_has_fallen() -> None:
    seen = [*looks(3, 1, 0, 0), validated(38, 0)]
    ending = decide(seen, SETTINGS).ending
    assert ending is not None
    assert (ending.reason, ending.step, ending.taken, ending.copies, ending.samples) == ("clean", 38, 38, 0, 6)
    assert ending.good
    assert decide([*seen[:-1], validated(38, 2)], SETTINGS) == (None, None)


def test_without_time_to_cool_the_plan_stays() -> None:
    late = looks(3, 1, 1, 1, 1, 1, 1, 1, 0, 0)
    assert decide(late, SETTINGS) == (None, None)
    ending = decide([*late, validated(100, 0)], SETTINGS).ending
    assert ending is not None
    assert ending.reason == "all steps"
    assert ending.good


def test_what_ends_with_copies_says_so() -> None:
    ending = decide([*looks(3), validated(100, 2)], SETTINGS).ending
    assert ending is not None
    assert not ending.good
    assert "NOT CLEAN: 2 of 6 samples" in ending.sentence


def test_broken_pictures_bring_the_best_weights_back() -> None:
    good = [validated(0, 3), validated(10, 1), validated(20, 1), validated(30, 2)]
    for bad in (validated(40, 0, drift=0.3), validated(40, 0, broken=0.3), validated(40, 0, targets=0.3)):
        ending = decide([*good, bad], SETTINGS).ending
        assert ending is not None
        assert (ending.reason, ending.step, ending.taken, ending.copies) == ("rolled back", 20, 40, 1)
        assert not ending.good
        assert "stopped after step 40. The saved weights are those of step 20" in ending.sentence


def test_the_original_model_is_what_is_left_if_nothing_else_is_whole() -> None:
    ending = decide([validated(0, 3, broken=0.5), validated(10, 0, drift=0.5)], SETTINGS).ending
    assert ending is not None
    assert ending.step == 0
    assert "NOTHING IS UNLEARNED" in ending.sentence


def test_no_control_no_drift() -> None:
    assert decide([validated(0, 3), validated(10, 2, drift=None, broken=None)], SETTINGS).ending is None


def test_best_has_the_fewest_copies_and_of_equals_the_most_steps() -> None:
    seen = [validated(0, 3), validated(10, 1), validated(20, 1), validated(30, 2), validated(40, 0, drift=0.9)]
    assert best(seen, SETTINGS).step == 20


def test_a_loss_that_is_no_number_goes_back_where_there_is_something_to_go_back_to() -> None:
    assert diverged([validated(0, 3), validated(10, 1)], SETTINGS, 14).step == 10
    with pytest.raises(MemfixError, match="loss or the gradient of step 3"):
        diverged([], SETTINGS, 3)


def test_a_method_that_has_come_to_its_bound_ends_at_the_next_look() -> None:
    ending = decide(looks(3, 1), SETTINGS, reached=True).ending
    assert ending is not None
    assert (ending.reason, ending.step, ending.taken, ending.copies, ending.good) == ("forgotten", 10, 10, 1, False)
    assert ending.sentence == (
        "Training ended after step 10, when the forget error had reached its bound, and the weights are NOT CLEAN: "
        "1 of 6 samples still reproduce a reference."
    )
    alone = Ending(reason="forgotten", step=7, taken=7)
    assert alone.good is None
    assert alone.sentence == "Training ended after step 7, when the forget error had reached its bound."
    assert Ending(reason="all steps", step=7, taken=7).sentence == ""
