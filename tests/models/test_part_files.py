"""Parts of a model that are not whole are refused by name, wherever they come from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from memfix.errors import MemfixError
from memfix.models import loading
from tests.conftest import tiny_pipeline, tiny_xl

State = dict[str, torch.Tensor]


def first_of_a_layer(state: State) -> str:
    return next(name for name in state if name.endswith(("q_proj.weight", "to_q.weight")))


def without_one(state: State) -> State:
    return {name: weight for name, weight in state.items() if name != first_of_a_layer(state)}


def compiled(state: State) -> State:
    return {f"_orig_mod.{name}": weight for name, weight in state.items()}


def wrapped_by_peft(state: State) -> State:
    layer = first_of_a_layer(state)
    return {name.replace("weight", "base_layer.weight") if name == layer else name: w for name, w in state.items()}


def weights_of(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def rewrite(file: Path, edit: Callable[[State], State]) -> None:
    save_file(edit(load_file(file)), file, {"format": "pt"})


@pytest.mark.parametrize("edit", [without_one, compiled, wrapped_by_peft])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_folder_of_which_a_part_is_not_whole_is_refused(
    xl_folder: Path, tmp_path: Path, part: str, edit: Callable[[State], State]
) -> None:
    folder = Path(shutil.copytree(xl_folder, tmp_path / "m"))
    rewrite(weights_of(folder, part), edit)
    with pytest.raises(MemfixError, match=rf"\d+ weights of the part {part} are not in {folder / part}, among") as told:
        loading.load(loading.locate(str(folder)))
    assert ("--text-encoder" in told.value.hint) is part.startswith("text_encoder")
    with pytest.raises(MemfixError, match=f"{part} are not in"):
        loading.load(loading.locate(str(folder), donors={} if part == "vae" else {"vae": str(xl_folder)}))


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_donor_that_is_not_whole_is_refused_and_one_that_is_takes_the_parts_place(
    model_folder: Path, tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "m"))
    rewrite(weights_of(folder, part), without_one)
    for donor in (folder, folder / part):
        with pytest.raises(MemfixError, match=f"1 weights of the part {part} are not in"):
            loading.load(loading.locate(str(model_folder), donors={part: str(donor)}))
    assert loading.load(loading.locate(str(folder), donors={part: str(model_folder)}))


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_donor_is_known_by_the_part_that_is_used(model_folder: Path, tmp_path: Path, part: str) -> None:
    """As a whole model and as a folder of its own; its configuration is a part of it."""
    donor = Path(shutil.copytree(model_folder, tmp_path / "donor"))

    def known() -> list[str]:
        return [loading.locate(str(model_folder), donors={part: str(d)}).sha256 for d in (donor, donor / part)]

    before = known()
    (donor / "README.md").write_text("x")
    (donor / part / "checkpoint-500").mkdir()
    (donor / part / "checkpoint-500/model.safetensors").write_bytes(b"x")
    rewrite(weights_of(donor, "unet"), lambda state: {name: weight + 1 for name, weight in state.items()})
    assert known() == before
    config = donor / part / "config.json"
    config.write_text(config.read_text() + "\n")
    assert all(a != b for a, b in zip(known(), before, strict=True))
    changed = known()
    rewrite(weights_of(donor, part), lambda state: {name: weight + 1 for name, weight in state.items()})
    assert all(a != b for a, b in zip(known(), changed, strict=True))


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_donor_in_half_precision_alone_is_loaded(model_folder: Path, tmp_path: Path, part: str) -> None:
    tiny_pipeline().to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    wanted = getattr(tiny_pipeline(), part).half().state_dict()
    for donor in (tmp_path / "half", tmp_path / "half" / part):
        found = loading.load(loading.locate(str(model_folder), donors={part: str(donor)}))._pipe
        state = getattr(found, part).state_dict()
        assert all(torch.equal(weight.float(), state[name].float()) for name, weight in wanted.items())


def test_parts_of_another_family_are_refused_by_name(model_folder: Path, xl_folder: Path, tmp_path: Path) -> None:
    """Before anything is sampled: a text encoder of another width, and a VAE of other latents."""
    own = CLIPTextConfig.from_pretrained(model_folder / "text_encoder").to_dict()
    CLIPTextModel(CLIPTextConfig(**own | {"hidden_size": 24, "num_attention_heads": 3})).save_pretrained(
        tmp_path / "wide"
    )
    vae = AutoencoderKL.load_config(model_folder / "vae")
    AutoencoderKL.from_config({**vae, "latent_channels": 16}).save_pretrained(tmp_path / "deep")
    for model, told in (
        (model_folder, r"16 numbers a token, .* 24 \(text_encoder\)"),
        (xl_folder, "40 numbers a token"),
    ):
        with pytest.raises(MemfixError, match=told) as caught:
            loading.load(loading.locate(str(model), donors={"text_encoder": str(tmp_path / "wide")}))
        assert "--text-encoder" in caught.value.hint
    with pytest.raises(MemfixError, match="latents of 4 channels, and its vae has 16") as caught:
        loading.load(loading.locate(str(model_folder), donors={"vae": str(tmp_path / "deep")}))
    assert "--vae" in caught.value.hint


@pytest.mark.parametrize("shards", ["10GB", "20KB"])
def test_a_variant_that_some_parts_have_is_taken_of_these(tmp_path: Path, shards: str) -> None:
    """Whole, also in several files; and refused where a weight of it is lacking."""
    pipe, folder = tiny_xl(), tmp_path / "m"
    pipe.save_pretrained(folder)
    pipe.text_encoder.half().save_pretrained(folder / "text_encoder", variant="fp16")
    for name in ("unet", "vae"):
        shutil.rmtree(folder / name)
        getattr(pipe, name).half().save_pretrained(folder / name, variant="fp16", max_shard_size=shards)
    assert len(list((folder / "unet").glob("*fp16*.safetensors"))) > (1 if shards == "20KB" else 0)
    found = loading.load(loading.locate(str(folder), variant="fp16"))._pipe
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        own, other = getattr(pipe, name).state_dict(), getattr(found, name).state_dict()
        assert own.keys() == other.keys() and all(torch.equal(own[key].float(), other[key]) for key in own)
    rewrite(folder / "text_encoder/model.fp16.safetensors", without_one)
    with pytest.raises(MemfixError, match="text_encoder are not in"):
        loading.load(loading.locate(str(folder), variant="fp16"))


def test_an_adapter_that_lies_beside_the_weights_of_a_part_is_not_passed_over(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    rewrite(
        weights_of(tmp_path, "unet"), lambda state: state | {"mid_block.processor.to_q_lora.up.weight": torch.ones(1)}
    )
    with pytest.raises(MemfixError, match=r"unet in .* holds an adapter .* mid_block.processor.to_q_lora.up.weight"):
        loading.load(loading.locate(str(tmp_path)))


def test_quantized_weights_in_a_folder_are_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "m"))
    rewrite(
        weights_of(folder, "unet"),
        lambda state: state | {first_of_a_layer(state).replace("weight", "weight_scale"): torch.ones(1)},
    )
    with pytest.raises(MemfixError, match=r"quantized weights, .*weight_scale"):
        loading.load(loading.locate(str(folder)))


def test_names_that_older_versions_wrote_are_those_of_the_weights(model_folder: Path, tmp_path: Path) -> None:
    """As Stable Diffusion 1.5 was published: `text_model.`, the numbers of positions, the VAE's attention."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "m"))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str) -> str:
        return next((name.replace(new, word) for new, word in old.items() if new in name), name)

    rewrite(weights_of(folder, "vae"), lambda state: {renamed(name): weight for name, weight in state.items()})
    assert any("proj_attn" in name for name in load_file(weights_of(folder, "vae")))
    rewrite(
        weights_of(folder, "text_encoder"),
        lambda state: (
            {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in state.items()}
            | {"text_model.embeddings.position_ids": torch.arange(16)[None]}
        ),
    )
    found, own = (loading.load(loading.locate(str(where)))._pipe for where in (folder, model_folder))
    for part in ("vae", "text_encoder"):
        state = getattr(own, part).state_dict()
        assert all(torch.equal(weight, state[name]) for name, weight in getattr(found, part).state_dict().items())
