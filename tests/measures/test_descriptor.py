"""The descriptor without weights, and the table of names."""

import pytest
import torch
from PIL import Image, ImageOps

from memfix.errors import MemfixError
from memfix.measures.descriptor import get_descriptor
from tests.conftest import picture


def test_pixels_by_hand() -> None:
    half = Image.new("RGB", (64, 32), "black")
    half.paste("white", (0, 0, 32, 32))
    pixels = get_descriptor("pixels")
    row = pixels([half])[0].reshape(3, 16, 16)
    expected = torch.full((3, 16, 16), -(768**-0.5))
    expected[..., :8] = 768**-0.5
    torch.testing.assert_close(row, expected)
    assert float(pixels([half])[0] @ pixels([ImageOps.invert(half)])[0]) == pytest.approx(-1)


def test_pixels_are_of_length_one_and_do_not_depend_on_the_batch() -> None:
    pixels = get_descriptor("pixels")
    images = [picture(i) for i in range(5)] + [Image.new("RGB", (9, 70), c) for c in ("white", "gray", "red")]
    together = pixels(images)
    assert together.shape == (8, pixels.dimension) and together.dtype == torch.float32
    torch.testing.assert_close(torch.linalg.vector_norm(together, dim=1), torch.ones(8))
    assert torch.equal(together, torch.cat([pixels([image]) for image in images]))
    copies = together @ pixels([picture(2, size=200)])[0]
    assert int(copies.argmax()) == 2 and copies[2] > 0.99
    assert torch.allclose(together[5], together[6]) and together[:5] @ together[5] == pytest.approx(0, abs=1e-5)
    assert pixels([]).shape == (0, 768)


def test_unknown_names() -> None:
    with pytest.raises(MemfixError) as caught:
        get_descriptor("pixel")
    assert caught.value.hint == "Did you mean 'pixels'?"
