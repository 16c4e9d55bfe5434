"""Every way a prompt can end: the rules, in their order."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from memfix.recheck.outcomes import LEAST_CHANGE, Copies, Evidence, file_difference, outcome
from memfix.records import Damage, Label, Outcome, Prompt, Role, Verdict


def verdict(label: Label) -> Verdict:
    return Verdict(
        prompt_id="p", verdict=label, copies=0, samples=16, share=0, interval=(0, 1), confidence=0.95,
        measure="tiled_l2", threshold=0.15, score=0.2, reference="r", reason="because",
    )  # fmt: skip


FINE = Damage(
    drift=0.1, broken=0.0, diversity_before=0.3, diversity_after=0.3, distance_before=0.4, distance_after=0.4
)  # fmt: skip
BLANK = FINE.model_copy(update={"broken": 1.0})
SAME_AS_BEFORE = FINE.model_copy(update={"drift": LEAST_CHANGE - 0.001})
REDRAWN = FINE.model_copy(update={"drift": 0.29})
MEMORIZED, CLEAN, UNDECIDED = map(verdict, (Label.MEMORIZED, Label.CLEAN, Label.UNDECIDED))
TARGET = Evidence(Prompt(id="p", text="t"), MEMORIZED, CLEAN, Copies(0, 16), Copies(0, 16), FINE)
CONTROL = replace(TARGET, prompt=Prompt(id="p", text="t", role=Role.CONTROL), before=CLEAN)
OTHER = replace(TARGET, before=CLEAN)
ATTACKED, UNTOLD, MODEL = "embedding: 3 of 8", "no control arm", "the model is damaged"


@pytest.mark.parametrize(
    ("of", "evidence", "expected"),
    [
        (TARGET, {}, Outcome.MITIGATED),
        (TARGET, {"after": MEMORIZED}, Outcome.PERSISTENT),
        (TARGET, {"after": UNDECIDED}, Outcome.UNDECIDED),
        (TARGET, {"damage": BLANK}, Outcome.DAMAGED),
        (TARGET, {"damage": REDRAWN}, Outcome.MITIGATED),  # it has to change
        (TARGET, {"model": MODEL}, Outcome.DAMAGED),
        (TARGET, {"brought_back": ATTACKED}, Outcome.HIDDEN),
        (TARGET, {"untold": UNTOLD}, Outcome.UNDECIDED),
        (TARGET, {"disputed": "1 of 48 samples is disputed"}, Outcome.UNDECIDED),
        (TARGET, {"disputed": "1 of 48 samples is disputed", "brought_back": ATTACKED}, Outcome.HIDDEN),
        (TARGET, {"damage": SAME_AS_BEFORE}, Outcome.UNDECIDED),  # what was a copy looks as it did
        (TARGET, {"damage": SAME_AS_BEFORE, "after": MEMORIZED}, Outcome.PERSISTENT),
        (OTHER, {"damage": SAME_AS_BEFORE}, Outcome.UNCHANGED),
        (TARGET, {"wording": "t'"}, Outcome.MITIGATED),
        (TARGET, {"wording": "t'", "after": MEMORIZED, "same": Copies(1, 16)}, Outcome.HIDDEN),
        (TARGET, {"wording": "t'", "reworded": Copies(1, 32)}, Outcome.PERSISTENT),
        # what is worse comes first
        (
            TARGET,
            {"after": MEMORIZED, "fresh": Copies(1, 16), "damage": BLANK, "model": MODEL, "brought_back": ATTACKED},
            Outcome.PERSISTENT,
        ),
        # without references: samples that show one another, and not what they showed before
        (TARGET, {"after": MEMORIZED, "damage": BLANK}, Outcome.DAMAGED),
        (TARGET, {"after": MEMORIZED, "model": MODEL}, Outcome.DAMAGED),
        (TARGET, {"after": MEMORIZED, "wording": "t'"}, Outcome.PERSISTENT),
        (TARGET, {"damage": BLANK, "brought_back": ATTACKED}, Outcome.HIDDEN),
        (TARGET, {"damage": BLANK, "after": UNDECIDED}, Outcome.DAMAGED),
        (TARGET, {"model": MODEL, "untold": UNTOLD}, Outcome.DAMAGED),
        (OTHER, {}, Outcome.UNCHANGED),
        (OTHER, {"before": UNDECIDED}, Outcome.UNDECIDED),
        (OTHER, {"after": MEMORIZED}, Outcome.CHANGED),
        (OTHER, {"damage": REDRAWN}, Outcome.DAMAGED),
        (CONTROL, {}, Outcome.UNCHANGED),
        (CONTROL, {"after": MEMORIZED}, Outcome.CHANGED),
        (CONTROL, {"before": UNDECIDED}, Outcome.UNCHANGED),
        (CONTROL, {"before": UNDECIDED, "after": MEMORIZED}, Outcome.CHANGED),
        (CONTROL, {"damage": BLANK}, Outcome.DAMAGED),
        (CONTROL, {"damage": REDRAWN}, Outcome.DAMAGED),
        (CONTROL, {"before": MEMORIZED, "after": MEMORIZED}, Outcome.UNCHANGED),
        (CONTROL, {"before": MEMORIZED, "after": CLEAN, "damage": REDRAWN}, Outcome.CHANGED),
    ],
)
def test_outcomes(of: Evidence, evidence: dict[str, object], expected: Outcome) -> None:
    reached, reason = outcome(replace(of, **evidence))
    assert reached is expected
    assert reason


def test_a_reason_says_what_was_seen() -> None:
    assert outcome(TARGET)[1] == "no copy is left: none of 16 with same seeds, none of 16 with fresh seeds"
    reworded = replace(TARGET, wording="shorter")
    assert outcome(reworded)[1].endswith("with its rewording taken off")
    hidden = replace(reworded, after=MEMORIZED, same=Copies(5, 16))
    assert "only its rewording hides it; without it, copies are 5 of 16" in outcome(hidden)[1]


def test_rms_difference_by_hand(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "b.png")
    assert file_difference(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx((1 / 3) ** 0.5)
