"""CLIP through open_clip: a real model of random weights, from a checkpoint on disk."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.measures.clip import Clip
from tests.conftest import picture

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import json

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    network = open_clip.create_model("tiny-clip")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
    return f"tiny-clip/{folder / 'weights.safetensors'}"


def test_pictures_and_texts_in_one_space(model: str) -> None:
    clip = Clip(model)
    images = [picture(i) for i in range(5)]
    together = clip(images)
    assert together.shape == (5, clip.dimension) == (5, 16)
    torch.testing.assert_close(together, torch.cat([clip([i]) for i in images]), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.texts(["a disc"]).norm(dim=1), torch.ones(1))


def test_the_weights_on_disk_are_the_ones_used(model: str) -> None:
    name, _, path = model.partition("/")
    network = open_clip.create_model(name, pretrained=path).eval()
    _, _, transform = open_clip.create_model_and_transforms(name, pretrained=path)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(network.encode_image(transform(picture(1))[None]), dim=1)
    torch.testing.assert_close(Clip(model)([picture(1)]), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-model/x", "knows no model"),
        ("ViT-B-32/weights.pt", "pickle"),
        ("ViT-B-32/nonsense", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded(name: str, message: str) -> None:
    with pytest.raises(MemfixError, match=message):
        Clip(name)


def test_a_checkpoint_that_is_none(model: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(MemfixError, match="cannot be loaded"):
        Clip(f"{model.partition('/')[0]}/{tmp_path / 'x.safetensors'}")
