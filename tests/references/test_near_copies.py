"""Near-copies among references against all pairs compared one by one, and what must not be called a near-copy."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse.csgraph import connected_components

from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures import PIXEL_MEASURES, get_measure
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import Pixels
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import to_tensor
from memfix.records import Reference
from memfix.references import near_copies as module
from memfix.references.groups import representatives, sizes
from memfix.references.in_memory import HeldReferences
from memfix.references.near_copies import COLOUR, grouped, near_copies, siblings
from tests.conftest import picture

COSINE = Embedding(Pixels(), 0.95, 0.1, "a test")


def features(images: list[Image.Image], measure: Measure) -> dict[str, torch.Tensor]:
    return {name: m.features(images) for name, m in {**PIXEL_MEASURES, measure.name: measure}.items()}


def jpeg(image: Image.Image, quality: int = 75) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def found(images: list[Image.Image], measure: Measure, threshold: float) -> list[list[int]]:
    return [g.tolist() for g in siblings(CopyRule(measure, threshold, "test"), features(images, measure))]


def components(n: int, close: Callable[[int, int], bool]) -> list[list[int]]:
    graph = np.array([[close(i, j) for j in range(n)] for i in range(n)])
    _, label = connected_components(graph, directed=False)
    groups = [np.flatnonzero(label == c).tolist() for c in np.unique(label) if (label == c).sum() > 1]
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def crowd() -> list[Image.Image]:
    """60 pictures, some of them as JPEG, halved or a little lighter, and discs on backgrounds that change by steps."""
    images: list[Image.Image] = [picture(i, 64) for i in range(24)]
    images += [jpeg(picture(i, 64), 60) for i in range(0, 24, 2)]
    images += [picture(i, 64).resize((32, 32), Image.Resampling.BOX) for i in range(0, 24, 3)]
    images += [picture(i, 64).point(lambda v: min(255, v + 8)) for i in range(0, 24, 4)]
    images += [Image.new("RGB", (64, 64), (20 * i, 90, 120)) for i in range(10)]
    return images


@pytest.mark.parametrize(("name", "threshold"), [("ssim", 0.72), ("ssim", 0.9), ("tiled_l2", 0.15), ("tiled_l2", 0.04)])
@pytest.mark.slow
def test_pixels_against_all_pairs(monkeypatch: pytest.MonkeyPatch, name: str, threshold: float) -> None:
    for block, size in (("ROWS", 7), ("COLUMNS", 20), ("PAIRS_AT_ONCE", 3)):
        monkeypatch.setattr(module, block, size)
    images, measure, tiled = crowd(), PIXEL_MEASURES[name], PIXEL_MEASURES["tiled_l2"]
    held = features(images, measure)
    tiles = to_tensor(images).unflatten(2, (4, 16)).unflatten(4, (4, 16)).mean((3, 5))  # [n, 3, 4, 4]

    def close(i: int, j: int) -> bool:
        if (tiles[i] - tiles[j]).square().mean(0).sqrt().max() > COLOUR:
            return False
        distance, own = (
            m.pair(held[m.name][i : i + 1], held[m.name][j : j + 1]).item() for m in (tiled, measure)
        )  # fmt: skip
        if measure is tiled:
            return own <= threshold
        return distance <= tiled.threshold and own >= threshold

    expected = components(len(images), close)
    assert found(images, measure, threshold) == expected
    assert len(expected) > 5


def test_embedding_against_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    for block, size in (("ROWS", 7), ("COLUMNS", 20)):
        monkeypatch.setattr(module, block, size)
    images = crowd()[:-10]
    vectors = COSINE.features(images)
    cosines = vectors @ vectors.T
    expected = components(len(images), lambda i, j: bool(cosines[i, j] >= 0.95))
    assert found(images, COSINE, 0.95) == expected
    assert len(expected) > 5


@pytest.mark.parametrize("measure", [*PIXEL_MEASURES.values(), COSINE], ids=lambda m: m.name)
def test_one_picture_many_times_is_one_group(measure: Measure) -> None:
    images = [picture(i) for i in range(30)]
    places = np.random.default_rng(0).permutation(150)[:100]
    crowd = [images[i % 30] for i in range(150)]
    for place in places:
        crowd[place] = jpeg(picture(99, 128), 60 + int(place) % 35)
    biggest = found(crowd, measure, measure.threshold)[0]
    assert set(biggest) >= set(places.tolist())
    # equal pictures are one picture, whatever a threshold or rounding says
    never = 2.0 if measure.higher_is_closer else -1.0
    assert found([images[0], images[1], images[0], images[0]], measure, never) == [[0, 2, 3]]


@pytest.mark.parametrize("measure", [*PIXEL_MEASURES.values(), COSINE], ids=lambda m: m.name)
def test_pair_by_pair_as_all_at_once(measure: Measure) -> None:
    images = crowd()
    held = features(images, measure)
    first, second = (held.copy() for _ in range(2))
    i, j = np.triu_indices(len(images), 1)
    for name, rows in held.items():
        first[name], second[name] = rows[i], rows[j]
    close = near_copies(CopyRule.default(measure), first, second).numpy()
    linked = {*zip(i[close].tolist(), j[close].tolist(), strict=True)}
    assert components(len(images), lambda a, b: (a, b) in linked or (b, a) in linked) == found(
        images, measure, measure.threshold
    )


def test_a_chain_of_near_copies_is_a_group() -> None:
    chain = [Image.new("RGB", (64, 64), (v, v, v)) for v in range(60, 180, 10)]
    assert found(chain, PIXEL_MEASURES["tiled_l2"], 11 / 255) == [list(range(12))]
    assert found(chain, PIXEL_MEASURES["tiled_l2"], 9 / 255) == []


@pytest.mark.parametrize("name", ["ssim", "tiled_l2"])
def test_variants_of_a_template_are_no_near_copies(name: str) -> None:
    """Twelve backgrounds each behind five drawings: SSIM alone would call every second pair a copy."""
    references = read_references("demo", [])
    rule = CopyRule.default(get_measure(name))
    assert not any(r.group for r in HeldReferences(references, rule.measure).recorded(rule))
    drawing = [open_image(r.path) for r in references if r.file_name.startswith("bus-poster")]
    ssim = PIXEL_MEASURES["ssim"]
    described = ssim.features(drawing)
    assert sum(ssim.pair(described[:1].expand_as(described[1:]), described[1:]) >= ssim.threshold) >= 5
    # their re-encoded copies are
    again = [jpeg(image, 90) for image in drawing]
    assert len(found(drawing + again, PIXEL_MEASURES[name], PIXEL_MEASURES[name].threshold)) == 12


def test_groups_by_hand() -> None:
    references = [Reference(file_name=name, path=f"/{name}") for name in "abcde"]
    held = grouped(references, [np.array([1, 3, 4])])
    assert [r.group for r in held] == ["", "b", "", "b", "b"]
    assert representatives(held) == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "b"}
    assert sizes(held) == {"b": 3, "a": 1, "c": 1}
