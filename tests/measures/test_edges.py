"""Structure: what a copy may be altered by, and what it may not be taken for."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from memfix.demo import REFERENCES
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.structure import UNSIGNED, Structure, alike_in_outlines, outlines
from memfix.references.altered import ALTERATIONS
from memfix.references.in_memory import HeldReferences
from tests.conftest import picture

STRUCTURE, RULE = Structure(), CopyRule.default(Structure())


@pytest.fixture(scope="module")
def bundled() -> HeldReferences:
    return HeldReferences(read_references(str(REFERENCES), [])[:80], STRUCTURE)


def value(a: Image.Image, b: Image.Image) -> float:
    first, second = STRUCTURE.features([a]), STRUCTURE.features([b])
    return float(STRUCTURE.pair(first, second))


def drawn(seed: int) -> Image.Image:
    """Blocks of colours, with edges everywhere."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST)


def test_a_picture_is_itself_and_two_drawings_have_nothing_in_common() -> None:
    assert value(drawn(1), drawn(1)) == pytest.approx(1, abs=1e-5)
    assert value(drawn(1), drawn(2)) < 0.7  # though all their edges lie on one grid
    assert value(picture(1), picture(2)) < 0.3
    assert value(Image.new("RGB", (64, 64)), drawn(1)) == 0  # a blank picture has no edges


def test_a_negative_has_the_edges_of_its_picture() -> None:
    assert value(ImageOps.invert(drawn(3)), drawn(3)) == pytest.approx(1 - UNSIGNED, abs=1e-3)


@pytest.mark.parametrize("across,down", [(3, 0), (-2, 1), (0, -3)])
def test_a_shift_within_reach_costs_nothing_in_the_middle(across: int, down: int) -> None:
    moved = Image.new("RGB", (64, 64))
    moved.paste(drawn(4), (across, down))
    assert value(moved, drawn(4)) > 0.9
    assert value(moved, ImageOps.mirror(drawn(4))) > 0.9


def test_tables_of_all_pairs_and_single_pairs_agree() -> None:
    a, b = (STRUCTURE.features([drawn(seed) for seed in seeds]) for seeds in ((1, 2, 3), (3, 4, 1)))
    table = STRUCTURE.compare(a, b)
    assert torch.allclose(table.diagonal(), STRUCTURE.pair(a, b), atol=1e-5)
    assert table[2, 0] == pytest.approx(1, abs=1e-5) and table[0, 2] == pytest.approx(1, abs=1e-5)
    assert STRUCTURE.compare(a[:0], b).shape == (0, 3)


def test_outlines_of_a_mirrored_picture_are_those_of_the_picture() -> None:
    a, b = (outlines(STRUCTURE.features([image])) for image in (picture(2), ImageOps.mirror(picture(2))))
    assert alike_in_outlines(a, b).item() == pytest.approx(1, abs=1e-4)
    assert (a @ b.T).item() < 0.9


@pytest.mark.parametrize("way", ALTERATIONS)
def test_alterations_hide_no_copy_of_a_bundled_reference(bundled: HeldReferences, way: str) -> None:
    pictures = [open_image(r.path) for r in bundled.references]
    near = bundled.nearest([ALTERATIONS[way](image, i) for i, image in enumerate(pictures)])
    found = RULE.copies(near.values["structure"])
    assert found.all()
    texts = {r.file_name: r.text for r in bundled.references}  # pictures of a template differ in their background alone
    assert [texts[name] for name in near.names] == [r.text for r in bundled.references]


def test_unrelated_references_pass_for_no_copies(bundled: HeldReferences) -> None:
    unrelated = bundled.nearest_unrelated(range(len(bundled)))
    assert len(unrelated.values) == 80 and not any(map(RULE.is_copy, unrelated.values))


def test_it_can_decide_and_its_search_is_told() -> None:
    assert get_measure("structure").threshold == 0.7
    references = HeldReferences(read_references(str(REFERENCES), [])[:3], STRUCTURE)
    assert (references.search.by, references.search.candidates, references.search.then) == ("outlines", 8, "structure")
    assert set(references.nearest([picture(1)]).values) == {"structure", "ssim", "tiled_l2"}
