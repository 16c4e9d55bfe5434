"""What a threshold sees of altered references, and what it takes unrelated ones for."""

from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.demo import REFERENCES
from memfix.flow.detect import detect
from memfix.inputs.references import read_references
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim
from memfix.measures.structure import Structure
from memfix.references.altered import ALTERATIONS
from memfix.references.background import background
from memfix.references.in_memory import HeldReferences, evenly
from memfix.references.known_copies import known_copies


@pytest.fixture(scope="module")
def references() -> HeldReferences:
    return HeldReferences(read_references(str(REFERENCES), [])[:60], Ssim(), witnesses=[Structure()])


def test_what_the_rule_does_not_see_a_witness_disputes(references: HeldReferences) -> None:
    found = {k.altered: k for k in known_copies(references, CopyRule.default(Ssim()), [CopyRule.default(Structure())])}
    assert found.keys() == ALTERATIONS.keys()
    assert all(k.pictures == 40 and k.seen + k.disputed == pytest.approx(1) for k in found.values())
    assert found["re-encoded"].seen == 1 and found["mirrored"].seen < 0.2 and found["mirrored"].disputed > 0.8
    alone = known_copies(references, CopyRule.default(Ssim()))
    assert [k.seen for k in alone] == [k.seen for k in found.values()] and not any(k.disputed for k in alone)


def test_false_alarms_are_the_share_of_unrelated_references_past_the_threshold(references: HeldReferences) -> None:
    unrelated = background(references)
    values = sorted(unrelated.values)
    loose = CopyRule(Ssim(), values[-3], "test")
    told = unrelated.summary(loose)
    assert told and told.false_alarms == 3 / len(values)
    plain = unrelated.summary()
    assert plain and plain.false_alarms is None


def test_places_are_spread_over_all() -> None:
    assert evenly(10, 4) == [0, 2, 5, 7] and evenly(3, 40) == [0, 1, 2] and evenly(0, 4) == []


@pytest.mark.parametrize("threshold,warned", [(0.9999, False), (0.01, True)])
def test_detect_tells_of_both_and_warns_of_a_threshold_within_reach(
    model_folder: Path, reference_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: float,
    warned: bool,
) -> None:  # fmt: skip
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(reference_folder), num_samples=1, num_inference_steps=1,
        mixed_precision="no", measure="ssim", threshold=threshold,
    )  # fmt: skip
    run = detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk())
    stage = run.header.stages.detect
    assert stage and len(stage.known_copies) == len(ALTERATIONS)
    assert stage.background and stage.background.false_alarms == float(warned)
    said = " ".join(capsys.readouterr().err.split())
    assert f"A copy is past {threshold:.3g} of ssim. Of altered training images it sees: re-encoded" in said
    assert ("is within reach of unrelated training images" in said) is warned
