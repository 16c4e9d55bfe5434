"""`memfix doctor`: what it says of models that a GPU does not hold."""

from memfix.cli.doctor import _fitting, _word


def test_what_does_not_fit_a_card_is_a_warning() -> None:
    words = {work: (found, _word(found, True, "missing")) for work, found in _fitting(8 * 2**30)}
    assert {word for _, word in words.values()} == {"ok", "warning"}
    for found, word in words.values():
        assert (word == "warning") is found.startswith("does not fit")
    assert _word("3.1", False, "missing") == "missing"
