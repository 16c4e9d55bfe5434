"""A LoRA in the words of other tools: every layer is in their key maps, and the fused weights are the same."""

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file

from memfix.errors import MemfixError
from memfix.files import atomic_folder
from memfix.models import kohya, loading, lora
from memfix.models.context import ContextEdit
from memfix.models.model import DiffusionModel
from memfix.models.xl import XLModel
from tests.conftest import tiny_pipeline, tiny_xl
from tests.original_layout import unet_names

FACTORS = (".lora_up.weight", ".lora_down.weight", ".alpha")


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path) -> Path:
    """Of rank 2, and of rank 5 where an edit is on top of it."""
    torch.manual_seed(1)
    model = loading.load(loading.locate(str(model_folder)))
    model.adapters.add(2)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.2)
    with atomic_folder(tmp_path / "model") as folder:
        model.adapters.save(folder, ContextEdit(0.1 * torch.randn(3, 16), 0.1 * torch.randn(16, 3)))
        kohya.write_kohya(folder, folder / "run.kohya.safetensors", model.loaded_by)
    return tmp_path / "model"


def fused(model_folder: Path, *paths: Path) -> dict[str, torch.Tensor]:
    model = loading.load(loading.locate(str(model_folder)))
    model.adapters.fuse(*paths)
    return model.denoiser.module.state_dict()


def comfy_key_map(weights: dict[str, torch.Tensor]) -> dict[str, str]:
    """Names of layers in a LoRA → weights, as ComfyUI builds it of diffusers' names."""
    found = {}
    for layer in (name.removesuffix(".weight") for name in weights if name.endswith(".weight")):
        found[f"lora_unet_{layer.replace('.', '_')}"] = layer
        other = layer.replace(".to_", ".processor.to_")
        other = other.removesuffix(".0") if other.endswith(".to_out.0") else other
        found |= {other: layer, f"unet.{other}": layer}
    return found


def kohya_key_map(pipe: StableDiffusionPipeline) -> dict[str, str]:
    """The same as kohya's networks build it: linear layers and convolutions inside of blocks of these classes."""
    blocks = {"Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"}
    return {
        f"lora_unet_{name}.{child}".replace(".", "_"): f"{name}.{child}"
        for name, module in pipe.unet.named_modules() if type(module).__name__ in blocks
        for child, layer in module.named_modules() if type(layer).__name__ in {"Linear", "Conv2d"}
    }  # fmt: skip


A1111_RESNETS = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1",
                 "conv_shortcut": "skip_connection"}  # fmt: skip


def a1111_name(name: str) -> str:
    """A layer as A1111 looks for it: it takes names of diffusers for those of the original layout, by the numbers of
    blocks that have two layers each, as those of Stable Diffusion 1, 2 and XL have."""
    way, block, kind, place, rest = re.fullmatch(
        r"lora_unet_(down|mid|up)_blocks?_?(\d*)_(attentions|resnets)_(\d+)_(.+)", name
    ).groups()  # fmt: skip
    reads, i = kind == "attentions", int(place)
    where = {
        "down": lambda: f"input_blocks_{1 + 3 * int(block) + i}_{int(reads)}",
        "up": lambda: f"output_blocks_{3 * int(block) + i}_{int(reads)}",
        "mid": lambda: f"middle_block_{1 if reads else 2 * i}",
    }[way]()
    return f"diffusion_model_{where}_{rest if reads else A1111_RESNETS[rest]}"


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_every_layer_is_where_a1111_looks_for_it(make: Callable[[], Any], tmp_path: Path) -> None:
    pipe = make()
    pipe.register_modules(unet=UNet2DConditionModel(**dict(pipe.unet.config) | {"layers_per_block": 2}))
    places = {
        old.removeprefix("model.").removesuffix(".weight").replace(".", "_"): new.removesuffix(".weight")
        for new, old in unet_names(pipe).items() if new.endswith(".weight")
    }  # fmt: skip
    model = (XLModel if hasattr(pipe, "text_encoder_2") else DiffusionModel)(pipe)
    model.adapters.add(2)
    model.adapters.save(tmp_path)
    kohya.write_kohya(tmp_path, tmp_path / "k.safetensors", model.loaded_by)
    names = {name.split(".")[0] for name in load_file(tmp_path / "k.safetensors")}
    assert names
    for name in names:
        assert f"lora_unet_{places[a1111_name(name)].replace('.', '_')}" == name


def added(state: dict[str, torch.Tensor], name: str, like: torch.Tensor) -> torch.Tensor:
    """up · down · alpha / rank, as ComfyUI, A1111 and kohya compute it."""
    up, down, alpha = (state[name + ending] for ending in FACTORS)
    return (up.flatten(1) @ down.flatten(1)).reshape(like.shape) * (float(alpha) / len(down))


@pytest.mark.parametrize("tool", ["comfy", "kohya"])
def test_every_layer_is_in_the_key_map_and_the_weights_are_the_same(
    model_folder: Path, adapter: Path, tool: str
) -> None:
    before, after = fused(model_folder), fused(model_folder, adapter)
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    keys = comfy_key_map(before) if tool == "comfy" else kohya_key_map(pipe)
    state = load_file(adapter / "run.kohya.safetensors")
    names = {name.split(".")[0] for name in state}
    assert names <= keys.keys()
    assert {name + ending for name in names for ending in FACTORS} == state.keys()
    changed = {keys[name]: before[f"{keys[name]}.weight"] for name in names}
    for name in names:
        changed[keys[name]] = changed[keys[name]] + added(state, name, changed[keys[name]])
    for name, weight in after.items():
        layer = name.removesuffix(".weight")
        torch.testing.assert_close(changed.get(layer, before[name]), weight, atol=1e-6, rtol=1e-6)
    assert len(names) == sum(not torch.equal(before[name], after[name]) for name in before)


def test_what_diffusers_names_is_not_all_in_comfys_key_map(model_folder: Path, adapter: Path) -> None:
    """Why there is a second file: attention, and with it every rewording, would be passed over."""
    keys = comfy_key_map(fused(model_folder))
    layers = {name.split(".lora_")[0] for name in load_file(adapter / lora.FILE)}
    passed_over = layers - keys.keys()
    assert passed_over and all(".attn" in layer for layer in passed_over)


def test_it_can_be_read_back_by_diffusers(model_folder: Path, adapter: Path) -> None:
    """Which gives all layers one scale: they have one rank for that."""
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    pipe.load_lora_weights(adapter, weight_name="run.kohya.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    for name, weight in fused(model_folder, adapter).items():
        torch.testing.assert_close(pipe.unet.state_dict()[name], weight, atol=1e-6, rtol=1e-6)
    for name, weight in fused(model_folder, adapter / "run.kohya.safetensors").items():
        torch.testing.assert_close(pipe.unet.state_dict()[name], weight, atol=1e-6, rtol=1e-6)


def test_the_file_tells_its_rank(adapter: Path) -> None:
    with safe_open(adapter / "run.kohya.safetensors", "pt") as file:
        told = file.metadata()
    assert told["ss_network_module"] == "networks.lora" and told["ss_network_dim"] == told["ss_network_alpha"] == "5"


def test_others_may_read_what_was_written(adapter: Path) -> None:
    """As the umask says."""
    (adapter.parent / "usual").write_text("")
    usual = stat.S_IMODE((adapter.parent / "usual").stat().st_mode)
    assert {stat.S_IMODE(file.stat().st_mode) for file in adapter.iterdir()} == {usual}


def test_a_dora_is_refused(model_folder: Path, tmp_path: Path) -> None:
    model: DiffusionModel = loading.load(loading.locate(str(model_folder)))
    model.adapters.add(2, dora=True)
    model.adapters.save(tmp_path)
    with pytest.raises(MemfixError, match="DoRA"):
        kohya.write_kohya(tmp_path, tmp_path / "k.safetensors", model.loaded_by)
