"""Text encoders and VAEs under the names that other tools write, as a donor and within a model's own file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.models import loading, single_file
from memfix.models.part_names import WRAPPED, encoder_as_read
from tests.conftest import tiny_pipeline, tiny_xl
from tests.original_layout import CLIP, CLIP_OF_XL, OPEN_CLIP_OF_XL, VAE, in_open_clips_words, original_state

State = dict[str, torch.Tensor]
SAID = {"modelspec.prediction_type": "v"}  # of untrained networks
OTHERS = {"logit_scale": torch.ones(()), "vision_model.embeddings.position_embedding.weight": torch.ones(2, 2)}


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture(autouse=True)
def tiny_configs(pipe: StableDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration that memfix brings is that of the large models, and here that of the tiny one."""
    pipe.save_pretrained(tmp_path / "configs/sd1")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")


def written(state: State, file: Path) -> Path:
    save_file({name: weight.contiguous().clone() for name, weight in state.items()}, file, SAID)
    return file


def loaded(file: Path, **donors: Path) -> Any:
    return loading.load(loading.locate(str(file), donors={part: str(d) for part, d in donors.items()}))._pipe


def same(found: Any, wanted: Any) -> bool:
    left, right = found.state_dict(), wanted.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in right)


def inside(state: State) -> State:
    return {f"{WRAPPED}{name}": weight for name, weight in state.items()}


def of_open_clip(state: State) -> State:
    return in_open_clips_words(state, "") | {
        "text_projection": torch.ones(16, 16),
        "visual.conv1.weight": torch.ones(2),
    }


@pytest.mark.parametrize("named", [dict, inside, lambda state: inside(state) | OTHERS, of_open_clip])
def test_a_text_encoder_comes_under_the_names_of_any_tool(
    pipe: StableDiffusionPipeline, tmp_path: Path, named: Callable[[State], State]
) -> None:
    own, donor = tiny_pipeline(), tiny_pipeline()
    for weight in donor.text_encoder.parameters():
        weight.data += 1
    file = written(original_state(own), tmp_path / "own.safetensors")
    other = written(named(donor.text_encoder.state_dict()), tmp_path / "clip_l.safetensors")
    assert same(loaded(file, text_encoder=other).text_encoder, donor.text_encoder)
    assert same(loaded(file).text_encoder, own.text_encoder)


def test_a_file_of_novelais_kind_is_loaded(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    """As A1111 and ComfyUI do."""
    state = {name.replace(f"{CLIP}{WRAPPED}", CLIP): weight for name, weight in original_state(pipe).items()}
    found = loaded(written(state, tmp_path / "nai.safetensors"))
    assert same(found.text_encoder, pipe.text_encoder) and same(found.vae, pipe.vae)


@pytest.mark.parametrize("lost", ["encoder.", "decoder.conv_in.weight", "decoder.mid.attn_1.q.weight"])
def test_what_a_vae_lacks_is_named(pipe: StableDiffusionPipeline, tmp_path: Path, lost: str) -> None:
    state = original_state(pipe)
    less = {name: weight for name, weight in state.items() if not name.startswith(VAE + lost)}
    message = r"\d+ weights of the part vae are not in .*, among them (en|de)coder\."
    with pytest.raises(MemfixError, match=message) as told:
        loaded(written(less, tmp_path / "own.safetensors"))
    assert "--vae" in told.value.hint
    whole = written(state, tmp_path / "whole.safetensors")
    bare = {name.removeprefix(VAE): weight for name, weight in less.items() if name.startswith(VAE)}
    with pytest.raises(MemfixError, match=message):
        loaded(whole, vae=written(bare, tmp_path / "vae.safetensors"))
    assert same(loaded(tmp_path / "own.safetensors", vae=whole).vae, pipe.vae)


def test_a_vae_under_diffusers_names_that_is_not_whole_is_refused(
    pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    whole = written(original_state(pipe), tmp_path / "whole.safetensors")
    assert same(loaded(whole, vae=written(pipe.vae.state_dict(), tmp_path / "vae.safetensors")).vae, pipe.vae)
    less = {name: weight for name, weight in pipe.vae.state_dict().items() if name != "decoder.conv_out.bias"}
    with pytest.raises(
        MemfixError, match=r"1 weights of the part vae are not in .*, among them decoder\.conv_out\.bias"
    ):
        loaded(whole, vae=written(less, tmp_path / "vae.safetensors"))


def test_both_encoders_of_xl_are_told_apart() -> None:
    """In one file, and in files that hold one of them."""
    state = original_state(tiny_xl())
    first = encoder_as_read(state, second=False)
    assert all(name.startswith(f"{CLIP}{WRAPPED}") for name in first)
    assert len(first) == len([name for name in state if name.startswith(CLIP_OF_XL)])
    assert encoder_as_read(state, second=True) is state
    bare = {name.removeprefix(OPEN_CLIP_OF_XL): w for name, w in state.items() if name.startswith(OPEN_CLIP_OF_XL)}
    second = encoder_as_read(bare, second=True)
    assert second.keys() == {f"{OPEN_CLIP_OF_XL}{name}" for name in bare}
