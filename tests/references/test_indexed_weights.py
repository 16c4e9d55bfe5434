"""Which weights samples are described with where an index holds the references."""

from pathlib import Path

import pytest

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.index.store import Manifest, Store
from memfix.measures.descriptor import Descriptor, get_descriptor
from memfix.measures.weights import KNOWN, Wanted
from memfix.references.indexed_weights import wanted_for
from tests import tiny_clip

INDEX = Path("some.index")
SSCD = f"sha256 {KNOWN['sscd_disc_mixup'].sha256}, short side 288"


def manifest(descriptor: str, identity: str, weights: str = "") -> Manifest:
    return Manifest(
        descriptor=descriptor, identity=identity, weights=weights, dimension=8, precision=Precision.FLOAT16,
        segment_size=8, folder="pictures",
    )  # fmt: skip


def test_those_of_the_index_unless_the_user_names_others() -> None:
    made = manifest("sscd", "sha256 0123", "/w/own.pt")
    assert wanted_for(INDEX, made, None, None, False) == Wanted(sscd="/w/own.pt")
    assert wanted_for(INDEX, made, "/w/moved.pt", None, False).sscd == "/w/moved.pt"
    made = manifest("clip", "open_clip ViT-B-16, sha256 0123, 224", "ViT-B-16/openai")
    assert wanted_for(INDEX, made, None, None, False) == Wanted(clip="ViT-B-16/openai")
    assert wanted_for(INDEX, made, "demo", None, True) == Wanted(sscd="demo", clip="ViT-B-16/openai", trust=True)
    made = manifest("pixels", "16x16 RGB")
    assert wanted_for(INDEX, made, None, "ViT-L-14/openai", False) == Wanted(clip="ViT-L-14/openai")
    assert wanted_for(INDEX, manifest("sscd", SSCD), None, None, True) == Wanted(trust=True)  # from before names


def test_the_users_word_is_for_the_file_that_he_names() -> None:
    made = manifest("sscd", "sha256 0123", "/w/own.pt")
    assert not wanted_for(INDEX, made, None, None, True).trust
    assert wanted_for(INDEX, made, "/w/own.pt", None, True).trust


def test_published_weights_of_another_hash_are_refused_by_name() -> None:
    assert wanted_for(INDEX, manifest("sscd", SSCD), "sscd_disc_mixup", None, False) == Wanted()
    with pytest.raises(MemfixError, match=r"made with sscd demo \(sha256 0123\), not with sscd_disc_mixup") as caught:
        wanted_for(INDEX, manifest("sscd", "sha256 0123", "demo"), "sscd_disc_mixup", None, False)
    assert "Leave out --sscd-weights" in caught.value.hint
    with pytest.raises(MemfixError, match="not with sscd_disc_mixup"):
        wanted_for(INDEX, manifest("sscd", "sha256 0123"), None, None, False)


@pytest.mark.parametrize("other", ["ViT-B-32/openai", "ViT-B-16/laion2b_s34b_b88k", "ViT-B-32/weights.safetensors"])
def test_another_clip_model_is_refused_by_name(other: str) -> None:
    made = manifest("clip", "open_clip ViT-B-16, sha256 0123, 224", "ViT-B-16/openai")
    with pytest.raises(MemfixError, match=f"made with clip ViT-B-16/openai .*, not with {other}"):
        wanted_for(INDEX, made, None, other, False)


@pytest.mark.parametrize("same", ["ViT-B-16/openai", "ViT-B-16/OpenAI", "ViT-B-16/w.safetensors"])
def test_what_may_be_the_same_clip_model_is_not(same: str) -> None:
    made = manifest("clip", "open_clip ViT-B-16, sha256 0123, 224", "ViT-B-16/openai")
    assert wanted_for(INDEX, made, None, same, False).clip == same


@pytest.mark.parametrize("name", ["pixels", "sscd", "clip"])
def test_an_index_records_what_to_ask_for(name: str, tmp_path: Path) -> None:
    model = tiny_clip.make(tmp_path)
    made = get_descriptor(name, Wanted(sscd="demo", clip=model))
    asked = {"pixels": "", "sscd": "demo", "clip": model}[name]
    store = Store.create(tmp_path / "index", tmp_path, made)
    assert store.manifest.weights == Store.open(tmp_path / "index").manifest.weights == asked


def test_weights_that_were_moved_are_found_where_they_are_now(tmp_path: Path) -> None:
    def made(folder: str) -> Descriptor:
        (tmp_path / folder).mkdir()
        return get_descriptor("clip", Wanted(clip=tiny_clip.make(tmp_path / folder)))

    first, second = made("first"), made("second")
    Store.create(tmp_path / "index", tmp_path, first)
    assert Store.create(tmp_path / "index", tmp_path, second).manifest.weights == second.weights.name
    assert Store.open(tmp_path / "index").manifest.weights.endswith("second/weights.safetensors")
