"""CLIP through open_clip: a real model of random weights, from a checkpoint on disk."""

import hashlib
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from memfix.errors import ExitCode, MemfixError
from memfix.measures.clip import Clip, tag_of
from tests import tiny_clip
from tests.conftest import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip.make(tmp_path_factory.mktemp("clip"))


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


def test_a_model_without_weights_is_a_usage_error(model: str) -> None:
    for name in ("ViT-B-32", "ViT-B-32/"):
        with pytest.raises(MemfixError, match="does not name its weights") as caught:
            Clip(name)
        assert caught.value.exit_code is ExitCode.USAGE
        assert "ViT-B-32/TAG" in caught.value.hint and "laion2b_s34b_b79k" in caught.value.hint
        assert "ViT-B-32/PATH" in caught.value.hint
    with pytest.raises(MemfixError, match="does not name its weights") as caught:
        Clip("tiny-clip")
    assert caught.value.hint == "It has no tags: give tiny-clip/PATH of a .safetensors checkpoint."


def test_a_replaced_checkpoint_is_another_model_and_a_moved_one_is_not(model: str, tmp_path: Path) -> None:
    name, _, path = model.partition("/")
    first = Clip(model)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert first.identity.startswith(f"open_clip tiny-clip, sha256 {digest}, 32x32, shortest, bicubic, mean 0.4815")
    assert first.weights == (Path(path), digest, f"{name}/{path}", Path(path).stat().st_size)
    assert first.weights.record().bytes == Path(path).stat().st_size
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(path).read_bytes())
    assert Clip(f"{name}/{moved}").identity == first.identity
    state = load_file(path)
    state["logit_scale"] += 1
    save_file(state, moved)
    assert Clip(f"{name}/{moved}").identity != first.identity


def test_a_tag_is_hashed_too_and_brings_its_own_preprocessing(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, path = model.partition("/")
    tags = {"own": {"file": path, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
    by_tag, by_path = Clip(f"{name}/own"), Clip(model)
    assert by_tag.weights.sha256 == by_path.weights.sha256
    assert by_tag.weights.name == f"{name}/own"
    assert by_tag.identity != by_path.identity and "mean 0.5 0.5 0.5" in by_tag.identity


def test_no_tag_looks_like_a_path() -> None:
    for name, tag in open_clip.list_pretrained():
        assert tag_of(f"{name}/{tag}") == tag
    assert tag_of("ViT-B-32/laion2b-s34b_b79k") == "laion2b_s34b_b79k"
    for path in ("weights.safetensors", "/a/b", "C:\\b", ""):
        assert tag_of(f"ViT-B-32/{path}") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-model/x", "has no model"),
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
