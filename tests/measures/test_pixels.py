"""Pixel measures against hand-worked numbers and skimage itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from memfix.errors import MemfixError
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim, TiledL2, detail
from tests.conftest import picture


def plain(*color: int, size: int = 64) -> Image.Image:
    return Image.new("RGB", (size, size), color)


def test_tiled_l2_by_hand() -> None:
    measure, spotted = TiledL2(), plain(0, 0, 0)
    # one tile of 16x16 turned to (255, 0, 0): rms over its 3 channels is sqrt(1/3); the other 15 tiles agree
    spotted.paste((255, 0, 0), (0, 0, 16, 16))
    features = measure.features([plain(0, 0, 0), spotted])
    assert measure.pair(features[:1], features[1:]).item() == pytest.approx((1 / 3) ** 0.5, abs=1e-6)
    assert measure.compare(features, features).tolist() == [
        pytest.approx([0, (1 / 3) ** 0.5], abs=1e-3),
        pytest.approx([(1 / 3) ** 0.5, 0], abs=1e-3),
    ]


def test_ssim_is_skimage() -> None:
    a, b = picture(0), picture(1)
    coarse = [np.asarray(x.resize((32, 32), Image.Resampling.BOX)) / 255 for x in (a, b)]
    expected = structural_similarity(
        *coarse, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    features = Ssim().features([a, b])
    assert Ssim().pair(features[:1], features[1:]).item() == pytest.approx(expected, abs=1e-5)
    assert Ssim().compare(features, features)[0].tolist() == pytest.approx([1, expected], abs=1e-5)


@pytest.mark.parametrize("measure", [TiledL2(), Ssim()], ids=lambda m: m.name)
def test_pair_is_the_diagonal_and_batches_do_not_matter(measure) -> None:
    images = [picture(i, 80) for i in range(4)]
    together = measure.features(images)
    one_by_one = torch.cat([measure.features([i]) for i in images])
    assert torch.equal(together, one_by_one)
    table = measure.compare(together, together.flip(0))
    torch.testing.assert_close(table.diagonal(), measure.pair(together, together.flip(0)), atol=1e-5, rtol=1e-5)


def test_resolution_of_the_file_does_not_matter_much() -> None:
    small, large = picture(3, 64), picture(3, 256)
    features = TiledL2().features([small, large])
    assert TiledL2().pair(features[:1], features[1:]).item() < 0.12


def test_sides() -> None:
    assert CopyRule(TiledL2(), 0.15, "test").is_copy(0.1)
    assert not CopyRule(TiledL2(), 0.15, "test").is_copy(0.2)
    assert CopyRule(Ssim(), 0.7, "test").is_copy(0.9)
    assert not CopyRule(Ssim(), 0.7, "test").is_copy(0.5)


def test_detail_tells_blank_picture_noise_apart() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    blank, disc, wild = detail([plain(9, 9, 9), picture(0), noise])
    assert blank == 0
    assert 0 < disc < 0.1 < wild


def test_unknown_measure() -> None:
    with pytest.raises(MemfixError) as caught:
        get_measure("sim")
    assert "ssim" in caught.value.hint
