"""LoRAs in the names of many tools: each changes the same layers by the same numbers, or is refused by name."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.lora_names import original_name
from memfix.models.original import PREFIX, unet_names
from tests.conftest import tiny_pipeline, tiny_xl

RANK, ALPHA = 2, 1.0
KOHYA, PEFT = ("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")
OF_TOOLS = {
    "kohya": ("lora_unet_{old}", "lora_te{n}_{texts}", KOHYA, "_"),
    "kohya, SDXL": ("lora_unet_{original}", "lora_te{n}_{texts}", KOHYA, "_"),
    "kohya with points": ("lora_unet.{old}", "lora_te{n}.{texts}", KOHYA, "."),
    "kohya with the factors of peft": ("lora_unet_{old}", "lora_te{n}_{texts}", PEFT, "_"),
    "LyCORIS": ("lycoris_unet_{old}", "lora_te{n}_{texts}", KOHYA, "_"),
    "trainer of ComfyUI": ("diffusion_model.{original}", "text_encoder{m}.{texts}", PEFT, "."),
    "original layout": ("diffusion_model.{original}", "text_encoder{m}.{texts}", KOHYA, "."),
    "peft with the adapter's name": (
        "unet.{old}", "text_encoder{m}.{texts}", ("lora_A.default.weight", "lora_B.default.weight"), ".",
    ),
    "old diffusers": ("unet.{old}", "text_encoder{m}.{texts}", ("lora.down.weight", "lora.up.weight"), "."),
    "no prefix": ("{old}", "text_encoder{m}.{texts}", ("lora.down.weight", "lora.up.weight"), "."),
}  # fmt: skip
"""Tool → how it names layers of the UNet and of text encoders, the two factors, and what parts names."""
LAYERS = ("Linear", "Conv2d")


def layers(pipe) -> dict[str, torch.nn.Module]:
    """Every layer that a LoRA may change, by the name of its part and its own one."""
    parts = [part for part in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipe, part)]
    found = {(part, name): own for part in parts for name, own in getattr(pipe, part).named_modules()}
    return {
        f"{part} {name}": own for (part, name), own in found.items()
        if type(own).__name__ in LAYERS and name != "text_projection"
    }  # fmt: skip


def named(pipe, layer: str, tool: str) -> str:
    part, old = layer.split()
    of_unet, of_texts, _, between = OF_TOOLS[tool]
    if part == "unet":
        return of_unet.format(
            old=old.replace(".", between), original=original_name(old, pipe.unet).replace(".", between)
        )
    texts = f"text_model.{old.removeprefix('text_model.')}".replace(".", between)
    number = ("2" if part.endswith("2") else "1") if hasattr(pipe, "text_encoder_2") else ""
    return of_texts.format(n=number, m="_2" if part.endswith("2") else "", texts=texts)


@pytest.mark.parametrize("tool", OF_TOOLS)
@pytest.mark.parametrize("family", ["sd1", "xl"])
def test_every_layer_is_changed_whatever_tool_named_it(
    model_folder: Path, xl_folder: Path, tmp_path: Path, family: str, tool: str
) -> None:
    model = loading.load(loading.locate(str(xl_folder if family == "xl" else model_folder)))
    state, wanted = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    torch.manual_seed(3)
    for layer, own in layers(model._pipe).items():
        out, inside, *kernel = own.weight.shape
        down, up = 0.2 * torch.randn(RANK, inside, *kernel), 0.2 * torch.randn(out, RANK, *(1 for _ in kernel))
        key, sides = named(model._pipe, layer, tool), OF_TOOLS[tool][2]
        state |= {f"{key}.{sides[0]}": down, f"{key}.{sides[1]}": up, f"{key}.alpha": torch.tensor(ALPHA)}
        change = (up.flatten(1) @ down.flatten(1)).reshape(own.weight.shape) * ALPHA / RANK
        wanted[layer] = own.weight.detach() + change
    save_file(state, file := tmp_path / "own.safetensors")
    model.adapters.fuse(file)
    for layer, own in layers(model._pipe).items():
        torch.testing.assert_close(own.weight, wanted[layer], atol=1e-6, rtol=1e-5, msg=layer)


@pytest.mark.parametrize("made", [tiny_pipeline, tiny_xl])
def test_names_of_the_original_layout_are_those_that_diffusers_reads(made) -> None:
    unet = made().unet
    places = {name: name.rpartition(".") for name in unet.state_dict()}
    names = {f"{PREFIX}{original_name(layer, unet)}.{end}": name for name, (layer, _, end) in places.items()}
    assert unet_names(Path("own.safetensors"), names, unet) == names


def test_names_that_nobody_knows_are_told_with_those_that_are_known(model_folder: Path, tmp_path: Path) -> None:
    save_file(
        {"net.q.lora_A.weight": torch.ones(2, 8), "net.q.lora_B.weight": torch.ones(8, 2)}, tmp_path / "x.safetensors"
    )
    with pytest.raises(MemfixError, match=r"no layer of the model is called as net\.q\.lora_A\.weight") as told:
        loading.load(loading.locate(str(model_folder))).adapters.fuse(tmp_path / "x.safetensors")
    assert "ComfyUI" in told.value.hint


@pytest.mark.parametrize("between", [".", "_"])
@pytest.mark.parametrize(
    "stray",
    [
        {"lora_key": (3,)}, {"lora_unet_foo.lora_down.weight": (2, 8)}, {"lora_unet_foo.alpha": ()},
        {"lora_unet_foo.lora_down.weight": (2, 8), "lora_unet_foo.lora_up.weight": (8, 2)},
        {"lora_te_text_model_encoder_layers_9_mlp_fc1.lora_down.weight": (2, 16)},
        {f"lora_unet_foo{i}.lora_up.weight": (8, 2) for i in range(5)},
    ],
)  # fmt: skip
def test_a_file_with_some_names_of_no_layer_is_refused_by_these_names(
    model_folder: Path, tmp_path: Path, between: str, stray: dict[str, tuple[int, ...]]
) -> None:
    """Whether the rest is in the names of kohya's scripts or in those of diffusers; some tools leave them out."""
    model = loading.load(loading.locate(str(model_folder)))
    layer = {".": "unet.conv_in.", "_": "lora_unet_conv_in."}[between]
    state = {f"{layer}{KOHYA[0]}": torch.ones(2, 4, 3, 3), f"{layer}{KOHYA[1]}": torch.ones(8, 2, 1, 1)}
    save_file(state | {name: torch.ones(shape) for name, shape in stray.items()}, tmp_path / "x.safetensors")
    with pytest.raises(MemfixError, match=re.escape(min(stray))) as told:
        model.adapters.fuse(tmp_path / "x.safetensors")
    if len(stray) > 3:
        assert "and 2 more" in str(told.value)
    if min(stray) != "lora_unet_foo.alpha":
        assert "take them out of the file" in told.value.hint
