"""Counts of a source: what was seen is what was used and what was passed over."""

from memfix.inputs.tally import LOUD, PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows


def test_what_was_seen_was_used_or_passed_over() -> None:
    tally = Tally()
    tally.use(3)
    tally.pass_over(PassedOver.NO_PICTURE, "a.parquet:2")
    tally.pass_over(PassedOver.FRAMES, "a.gif", 4)
    tally.pass_over(PassedOver.OTHER, "b.gif", 0)
    tally.alter("options were cut off", "a.txt:1")
    record = tally.record("train")
    assert (record.seen, record.used) == (8, 3)
    assert record.passed_over == {str(PassedOver.FRAMES): 4, str(PassedOver.NO_PICTURE): 1}
    assert record.altered == {"options were cut off": 1}


def test_what_may_be_a_training_image_is_warned_of() -> None:
    assert PassedOver.FRAMES in LOUD and PassedOver.NO_PICTURE not in LOUD
    tally = Tally()
    tally.pass_over(PassedOver.FRAMES, "a.gif", 4)
    tally.pass_over(PassedOver.NO_PICTURE, "a.parquet:2")
    (line,) = tally.warnings()
    assert "(4), a.gif among them" in line


def test_wrong_rows_are_counted() -> None:
    tally, wrong = Tally(), WrongRows(skip=True)
    with tally.wrong(wrong):
        wrong.add("a.csv:1", "says nothing", "Write a text.")
        wrong.add_picture("a.png", "is broken", "Replace it.")
    assert tally.passed_over == {PassedOver.WRONG: 1, PassedOver.BROKEN: 1}
