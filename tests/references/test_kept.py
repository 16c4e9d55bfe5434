"""What references were described as is kept exactly, and only taken for the same references and measures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from memfix.measures.base import Measure
from memfix.measures.descriptor import Pixels
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim, TiledL2
from memfix.measures.structure import Structure
from memfix.records import Reference
from memfix.references.in_memory import HeldReferences
from tests.conftest import picture
from tests.counting import Counting


def listed(folder: Path, n: int = 5) -> list[Reference]:
    for i in range(n):
        picture(i, 50 + 13 * i).save(folder / f"{i}.png")
    return [Reference(file_name=f"{i}.png", path=str(folder / f"{i}.png"), text=f"{i}") for i in range(n)]


@pytest.mark.parametrize(
    "measure", [Ssim(), TiledL2(), Structure(), Embedding(Pixels(), 0.9, 0.1, "test")], ids=lambda m: m.name
)
def test_features_are_the_same_to_the_bit_and_no_picture_is_opened(tmp_path: Path, measure: Measure) -> None:
    references = listed(tmp_path)
    first = HeldReferences(references, measure)
    first.keep(tmp_path / "kept")
    for r in references:
        Path(r.path).unlink()
    again = HeldReferences(references, measure, described=tmp_path / "kept")
    assert again.references == references
    assert all(torch.equal(first._features[name], again._features[name]) for name in first._features)
    images = [picture(2, 64), Image.new("RGB", (64, 64))]
    a, b = first.nearest(images), again.nearest(images)
    assert a.names == b.names and all(torch.equal(a.values[name], b.values[name]) for name in a.values)


def test_a_network_describes_references_once(tmp_path: Path) -> None:
    references, counting = listed(tmp_path), Counting()
    HeldReferences(references, Embedding(counting, 0.9, 0.1, "test")).keep(tmp_path / "kept")
    assert counting.seen == 5
    HeldReferences(references, Embedding(counting, 0.9, 0.1, "test"), described=tmp_path / "kept")
    assert counting.seen == 5


class Other(Counting):
    """The same descriptor with other weights, as far as anyone can tell."""

    identity = "other weights"


def test_what_is_of_other_references_or_weights_is_made_anew(tmp_path: Path) -> None:
    references, other = listed(tmp_path), Other()
    HeldReferences(references, Embedding(Pixels(), 0.9, 0.1, "test")).keep(tmp_path / "kept")
    HeldReferences(references, Embedding(other, 0.9, 0.1, "test"), described=tmp_path / "kept")
    assert other.seen == 5
    fewer = HeldReferences(references[1:], Embedding(Pixels(), 0.9, 0.1, "test"), described=tmp_path / "kept")
    assert len(fewer._features["pixels"]) == 4
    (tmp_path / "kept").write_bytes(b"damaged")
    assert len(HeldReferences(references, Ssim(), described=tmp_path / "kept")) == 5
