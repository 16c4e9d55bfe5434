"""How a closed loop goes on, by validations made by hand."""

from collections import Counter

import pytest

from memfix.config.unlearn import UnlearnSettings
from memfix.records import Validation
from memfix.unlearn.train.steering import CONFIRMING, MOST_SETBACKS, Heading, steer

SETTINGS = UnlearnSettings(
    loop="closed", max_train_steps=100, num_validation_images=2, clean_validations=2, max_drift=0.5, max_broken=0.25
)
TARGETS = ("p1", "p2")


def seen(
    step: int, drift: float = 0.1, samples: int = 2, broken: float = 0.0, blank: dict[str, int] | None = None,
    **copies: int,
) -> Validation:  # fmt: skip
    """Two samples of controls differ by 0.4, so that the limit of the drift is 0.2."""
    blank, drawn = blank or {}, samples * len(copies)
    return Validation(
        step=step, copies=copies, samples=samples, drift=drift, diversity=0.4, broken=broken,
        broken_targets=sum(blank.values()) / drawn if drawn else 0.0, loss_keep=0.1, loss_forget=0.1, skew_keep=0,
        skew_forget=0, seconds=1, shapeless=blank,
    )  # fmt: skip


def after(*validations: Validation) -> Heading:
    return steer([seen(0, drift=0), *validations], SETTINGS, TARGETS)


def test_it_begins_at_the_rate_that_was_given_with_all_targets() -> None:
    assert after() == Heading(rate=1.0, active=TARGETS, looked=TARGETS, each=1)  # with few samples, since all copy
    assert after(seen(5, p1=1, p2=2)).each == after(seen(5, p1=2, p2=1)).each == 2


def test_the_rate_rises_while_copies_stay_and_not_once_they_become_fewer() -> None:
    stuck = seen(5, p1=2, p2=2)
    assert after(stuck).rate == 2
    assert after(stuck, seen(10, p1=2, p2=2)).rate == 4
    assert after(stuck, seen(10, p1=2, p2=1)).rate == 2  # 3 of 4 as before are few enough
    assert after(stuck, seen(10, p1=1, p2=0), seen(15, p1=1, p2=0)).rate == 4  # and stay
    assert after(seen(5, p1=0, p2=0), seen(10, p1=1, p2=0)).rate == 1  # by chance, so far


def test_a_forgotten_target_is_left_alone() -> None:
    heading = after(seen(5, p1=2, p2=0), seen(10, p1=1, p2=0))
    assert heading.active == heading.looked == ("p1",)
    assert heading.ending is None and heading.cooling is None
    assert after(seen(5, p1=2, p2=0), seen(10, p1=1, p2=1)).active == TARGETS  # samples in a row


def test_once_all_are_forgotten_the_rate_falls_and_more_samples_of_all_are_taken() -> None:
    clean = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0)]
    heading = after(*clean)
    assert heading.cooling == (20, 25)
    assert (heading.active, heading.looked, heading.each) == (TARGETS, TARGETS, 2 * CONFIRMING)
    ending = after(*clean, seen(25, samples=8, p1=0, p2=0)).ending
    assert ending is not None and ending.good
    assert (ending.reason, ending.step, ending.taken, ending.copies, ending.samples) == ("clean", 25, 25, 0, 16)
    assert ending.targets == {"p1": "forgotten", "p2": "forgotten"}
    assert ending.sentence == "Training ended after step 25. The last samples of all 2 prompts show no copy."


def test_the_look_at_all_begins_with_those_that_copied_last() -> None:
    validations = [seen(0, drift=0), seen(10, p1=0, p2=2, p3=1, p4=1), seen(20, p1=0, p2=0, p3=1, p4=0)]
    validations += [seen(25, p2=0, p3=0, p4=0), seen(30, p3=0)]
    assert steer(validations, SETTINGS, ("p1", "p2", "p3", "p4")).looked == ("p3", "p2", "p4", "p1")


def test_a_target_that_a_last_look_did_not_come_to_keeps_what_was_known_of_it() -> None:
    clean = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0)]
    heading = after(*clean, seen(25, samples=8, p1=1))
    assert heading.ending is None and heading.looked == ("p1",)
    again = after(*clean, seen(25, samples=8, p1=1), seen(30, p1=0), seen(35, p1=0))
    assert (again.cooling, again.looked, again.each) == ((35, 40), TARGETS, 2 * CONFIRMING)


def test_a_copy_among_these_takes_a_target_up_again() -> None:
    clean = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0)]
    heading = after(*clean, seen(25, samples=8, p1=0, p2=1))
    assert heading.ending is None and heading.cooling is None
    assert heading.active == heading.looked == ("p2",)
    assert heading.rate == 0.5
    again = after(*clean, seen(25, samples=8, p1=0, p2=1), seen(30, p2=0), seen(35, p2=0))
    assert again.cooling == (35, 40)


def test_steps_that_adversarial_ones_follow_leave_the_last_look_to_them() -> None:
    before = SETTINGS.model_copy(update={"adversarial_steps": 50})
    looks = [seen(0), seen(10, p1=0, p2=0), seen(20, p1=0, p2=1)]
    assert steer(looks, before, TARGETS).ending is None
    ending = steer([*looks, seen(30, p2=0), seen(40, p2=0)], before, TARGETS).ending
    assert ending is not None and ending.good and (ending.step, ending.copies, ending.samples) == (40, 0, 2)


def test_after_steps_at_a_height_the_first_look_at_all_ends_nothing() -> None:
    """The noise of these steps is still in the weights, so the rate falls, over a quarter of them too, and all are
    looked at with more samples."""
    first = seen(0, samples=4, p1=0, p2=0)
    heading = steer([first], SETTINGS, TARGETS, before=40)
    assert (heading.ending, heading.active, heading.cooling, heading.each) == (None, TARGETS, (0, 10), 2 * CONFIRMING)
    ending = steer([first, seen(10, samples=16, p1=0, p2=0)], SETTINGS, TARGETS, before=40).ending
    assert ending is not None and ending.good and ending.step == 10
    some = steer([seen(0, samples=4, p1=0, p2=3)], SETTINGS, TARGETS, before=40)
    assert (some.looked, some.each) == (("p2",), 1)  # on the way one sample under each attack says enough
    assert some.ending is None and some.rate == 1 and some.active == ("p1", "p2")
    clean = [seen(0, samples=4, p1=0, p2=3), seen(20, samples=4, p2=0)]
    assert steer(clean, SETTINGS, TARGETS, before=40).cooling == (20, 35)


def test_against_an_attack_what_is_forgotten_is_held_with_half_of_the_turns() -> None:
    ten = [f"p{i}" for i in range(10)]

    def active(copying: list[str], before: int) -> tuple[str, ...]:
        look = seen(0, samples=4, **{i: int(i in copying) for i in ten})
        return steer([look], SETTINGS, ten, before).active

    three = Counter(active(["p1", "p4", "p7"], before=40))
    assert three == {i: 2 if i in ("p1", "p4", "p7") else 1 for i in ten}  # 6 turns of theirs, 7 of the others
    assert Counter(active(["p3"], before=40)) == {i: 9 if i == "p3" else 1 for i in ten}
    assert active(ten, before=40) == tuple(ten)
    assert active(["p1", "p4", "p7"], before=0) == ("p1", "p4", "p7")  # without an attack they are left alone


def test_a_look_at_all_that_sees_no_pictures_is_no_success() -> None:
    """Blank samples are no copies, also where nothing was trained against an attack yet."""
    lost = [seen(0, samples=4, p1=0, p2=0), seen(10, samples=16, p1=0, p2=0, blank={"p2": 16})]
    heading = steer(lost, SETTINGS, TARGETS, before=40)
    assert heading.ending is None and heading.active == ()


def test_the_rate_falls_over_a_quarter_of_the_steps_since_it_fell_the_last_time() -> None:
    looks = [seen(40, p1=0, p2=0), seen(60, p1=0, p2=0)]
    assert after(*looks).cooling == (60, 75)
    looks += [seen(75, samples=8, p1=0, p2=1), seen(85, p2=0), seen(99, p2=0)]
    assert steer([seen(0), *looks], SETTINGS.model_copy(update={"max_train_steps": 999}), TARGETS).cooling == (99, 105)


def test_what_a_recheck_saw_of_the_same_weights_holds() -> None:
    clean = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0), seen(25, samples=8, p1=0, p2=0)]
    heading = after(*clean, seen(25, samples=32, p2=1))
    assert heading.ending is None and heading.active == heading.looked == ("p2",)
    assert heading.kept == 25 and heading.rate == 1
    on = after(*clean, seen(25, samples=32, p2=1), seen(30, p2=0), seen(35, p2=0))
    assert on.kept == 35 and on.cooling == (35, 40)  # not the weights that were called clean once


@pytest.mark.parametrize("damage", [{"drift": 0.21}, {"broken": 0.3}])
def test_damage_brings_good_weights_back_at_half_the_rate(damage: dict[str, float]) -> None:
    heading = after(seen(5, p1=2, p2=2), seen(10, p1=2, p2=0), seen(15, p1=0, p2=0, **damage))
    assert (heading.back, heading.kept, heading.rate) == (10, 10, 1.0)
    assert heading.active == TARGETS  # what damaged weights show is no evidence
    assert heading.ending is None
    stuck = after(seen(5, p1=2, p2=2), seen(10, p1=2, p2=2, **damage), seen(15, p1=2, p2=2), seen(20, p1=2, p2=2))
    assert (stuck.back, stuck.rate) == (None, 1.0)  # what was too high is not tried again


def test_targets_have_to_be_pictures_at_the_end_only() -> None:
    clean = [seen(10, p1=0, p2=0, blank={"p1": 2}), seen(20, p1=0, p2=0)]
    assert after(*clean).back is None
    lost = seen(25, samples=8, p1=0, p2=0, blank={"p1": 3})
    heading = after(*clean, lost)
    assert (heading.back, heading.rate, heading.ending) == (None, 1.0, None)
    assert (heading.active, heading.cooling) == ((), (25, 30))  # more steps that only keep, from these weights
    ending = after(*clean, lost, seen(30, samples=8, p1=0, p2=0)).ending
    assert ending is not None and ending.good and ending.step == 30
    copies = after(*clean, lost.model_copy(update={"copies": {"p1": 0, "p2": 1}}))
    assert (copies.active, copies.cooling, copies.ending) == (("p2",), None, None)


def test_no_single_target_may_be_without_pictures_at_the_end() -> None:
    """Among many targets one that only gives blanks would not show in a mean, and blanks are no copies."""
    clean = [seen(10, p1=0, p2=0, blank={"p2": 2}), seen(20, p1=0, p2=0, blank={"p2": 2})]
    assert after(*clean).back is None
    few = after(*clean, seen(25, samples=8, p1=0, p2=0, blank={"p2": 2}))
    assert few.ending is not None and few.ending.good
    lost = seen(25, samples=8, p1=0, p2=0, blank={"p2": 3})
    found = [*clean, lost]
    for _ in range(MOST_SETBACKS - 1):
        assert after(*found).ending is None
        cooling = after(*found).cooling
        assert cooling is not None
        found.append(lost.model_copy(update={"step": cooling[1]}))
    ending = after(*found).ending
    assert ending is not None and not ending.good
    assert ending.targets == {"p1": "forgotten", "p2": "no pictures"}
    assert "NOT FORGOTTEN: p2 (since its samples are blank or noise" in ending.sentence


def test_setbacks_count_from_the_last_target_that_was_forgotten() -> None:
    bad = [seen(5 + 5 * i, p1=2, p2=2, drift=0.3) for i in range(MOST_SETBACKS - 1)]
    good = [seen(50, p1=2, p2=0), seen(55, p1=2, p2=0)]
    again = [v.model_copy(update={"step": v.step + 60}) for v in bad]
    assert after(*bad, *good, *again).ending is None
    assert after(*bad, seen(50, p1=2, p2=2), *again).ending is not None


def test_weights_with_more_forgotten_are_better_than_later_ones() -> None:
    clean = [seen(5, p1=2, p2=0), seen(10, p1=1, p2=0)]
    lapsed = [*clean, seen(15, p1=0), seen(20, p1=0), seen(25, samples=8, p1=1, p2=1)]
    assert after(*lapsed).kept == 20
    assert after(*lapsed, seen(30, p1=0, p2=0, drift=0.3)).back == 20


def test_after_several_setbacks_it_ends_with_the_best_weights() -> None:
    good = [seen(5, p1=2, p2=0), seen(10, p1=2, p2=0)]
    bad = [seen(15 + 5 * i, p1=0, drift=0.3) for i in range(MOST_SETBACKS)]
    assert after(*good, *bad[:-1]).ending is None
    ending = after(*good, *bad).ending
    assert ending is not None and not ending.good
    assert (ending.reason, ending.step, ending.taken) == ("rolled back", 10, 25)
    assert ending.targets == {"p1": "damage limit", "p2": "forgotten"}
    assert "The last samples of 1 of 2 prompts show no copy. NOT FORGOTTEN: p1 (since other pictures" in ending.sentence
    assert "The saved weights are those of step 10." in ending.sentence


def test_without_a_step_left_each_target_has_its_reason() -> None:
    ending = after(seen(50, p1=2, p2=0), seen(100, p1=2, p2=0)).ending
    assert ending is not None and not ending.good
    assert ending.targets == {"p1": "all steps", "p2": "forgotten"}
    assert "NOT FORGOTTEN: p1 (since no step was left)" in ending.sentence
    unsure = after(seen(50, p1=0, p2=0), seen(90, p1=0, p2=0), seen(100, samples=8, p1=0, p2=1)).ending
    assert unsure is not None and unsure.step == 90 and not unsure.good and "NOT CONFIRMED" in unsure.sentence
    nothing = after(*(seen(10 * i, p1=0, p2=0, drift=0.3) for i in range(1, 4))).ending
    assert nothing is not None and "NOTHING IS UNLEARNED" in nothing.sentence


def test_without_a_last_look_at_all_of_them_an_ending_is_not_good() -> None:
    ending = after(seen(90, p1=0, p2=0), seen(100, p1=0, p2=0)).ending
    assert ending is not None and not ending.good and ending.reason == "all steps"
    assert "NOT CONFIRMED" in ending.sentence


def test_a_loop_that_only_ever_came_to_shapeless_samples_ends_badly() -> None:
    """Noise shows no copy: samples in a row without one on the way are no success when the end is damaged each time."""
    looks = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0)]
    for _ in range(2 * MOST_SETBACKS + 2):
        heading = after(*looks)
        if heading.ending:
            break
        step = heading.cooling[1] if heading.cooling else looks[-1].step + 5
        looks.append(seen(step, samples=8, p1=0, p2=0, blank={"p1": 8, "p2": 8} if heading.cooling else None))
    ending = after(*looks).ending
    assert ending is not None and ending.reason == "rolled back"
    assert not ending.good and "damaged pictures again and again" in ending.sentence


def test_samples_under_an_attack_do_not_thin_out_shapeless_ones() -> None:
    """Six of sixteen plain samples are too many, whatever comes of eight more under an attack."""
    looks = [seen(10, p1=0, p2=0), seen(20, p1=0, p2=0)]
    fall = after(*looks).cooling
    assert fall is not None
    last = seen(fall[1], samples=24, p1=0, p2=0, blank={"p1": 6})
    assert after(*looks, last).ending is not None
    assert after(*looks, last.model_copy(update={"plain": 16})).ending is None
