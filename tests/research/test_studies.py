"""The settings that studies name in their tables are settings of memfix: no type check reads these names."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import detection
import digits
import erasures
import unlearning


@pytest.mark.parametrize("name", detection.CASCADES)
def test_cascades_are_detections_behind_a_screen(name: str) -> None:
    assert detection.settings_of(**detection.CASCADES[name]).screen == detection.SCREEN


@pytest.mark.parametrize("variant", unlearning.VARIANT_KINDS, ids=lambda variant: variant.name)
def test_variants_train_with_their_seed(variant: unlearning.Variant) -> None:
    assert unlearning.settings_of(variant, 1).train_seed == 1


@pytest.mark.parametrize("name", [*erasures.DEFAULTS, *erasures.TRAINED])
def test_erasures_but_the_defaults_are_trained_in_an_open_loop(name: str) -> None:
    assert erasures.settings_of(name).closed == (name in erasures.DEFAULTS)


@pytest.mark.parametrize(
    "cell", [c for c in digits.CELLS if c.method not in ("before", "retrained")], ids=lambda c: c.name
)
def test_digits_are_unlearned_by_all_weights(cell: digits.Cell) -> None:
    assert cell.settings.weights == "full"
