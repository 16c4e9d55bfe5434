"""LoRAs whose layers have ranks and alphas of their own: each arrives at up · down · alpha / rank.

As scripts leave them that resize a LoRA by what each layer needs, and LyCORIS.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models import kohya, loading, lora
from memfix.models.lora import Adapter
from tests.models.test_text_loras import changed, loaded, same

Weights = dict[str, torch.Tensor]
Layers = Callable[[int], tuple[int, float | None]]
"""Number of a layer → its rank and its alpha."""
LAYERS: dict[str, Layers] = {
    "most of them small": lambda i: (8, 8.0) if i % 5 == 0 else (2, 2.0),
    "most of them large": lambda i: (2, 2.0) if i % 5 == 0 else (8, 8.0),
    "all ranks": lambda i: (1 + i % 8, 1.0 + i % 8),
    "one rank, several alphas": lambda i: (4, 4.0 if i % 2 else 1.0),
    "several ranks, one alpha": lambda i: (2 + 2 * (i % 3), 4.0),
    "alpha of some layers alone": lambda i: (4, 2.0 if i % 2 else None),
    "no alpha": lambda i: (1 + i % 4, None),
    "alphas that are no ranks": lambda i: (1 + i % 4, 0.5 + i % 3),
}
FIRST = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_", "text_encoder_2": "lora_te2_text_model_"}


def layers_of(folder: Path, parts: tuple[str, ...]) -> dict[str, Any]:
    """Attention, convolutions and feed-forward layers of a model, by part and name."""
    pipe = loading.load(loading.locate(str(folder)))._pipe
    ends = ("to_q", "to_k", "to_out.0", "conv1", "proj_in", "ff.net.2", "q_proj", "v_proj", "fc1", "fc2")
    return {
        f"{part}.{name}": layer
        for part in parts
        for name, layer in getattr(pipe, part).named_modules()
        if name.endswith(ends) and name.split(".")[0] != "embeddings"
    }


def kohya_weights(folder: Path, of: Layers, parts: tuple[str, ...], seed: int = 0) -> tuple[Weights, Weights]:
    """A file as kohya's scripts write it, and what it adds to each weight by the formula."""
    torch.manual_seed(seed)
    state, added = Weights(), Weights()
    for i, (layer, module) in enumerate(layers_of(folder, parts).items()):
        rank, alpha = of(i)
        out, *inner = module.weight.shape
        down, up = 0.1 * torch.randn(rank, *inner), 0.1 * torch.randn(out, rank)
        part, name = layer.split(".", 1)
        first = "lora_te1_text_model_" if part == "text_encoder" and "text_encoder_2" in parts else FIRST[part]
        key = first + name.removeprefix("text_model.").replace(".", "_")
        state[f"{key}.lora_down.weight"] = down
        state[f"{key}.lora_up.weight"] = up[:, :, None, None] if len(inner) == 3 else up
        if alpha is not None:
            state[f"{key}.alpha"] = torch.tensor(alpha)
        scale = 1 if alpha is None else alpha / rank
        added[f"{layer}.weight"] = (up @ down.flatten(1)).reshape(module.weight.shape) * scale
    return state, added


def times(weight: float, added: Weights) -> Weights:
    return {name: value * weight for name, value in added.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_arrives_at_its_own_strength(model_folder: Path, tmp_path: Path, name: str) -> None:
    state, added = kohya_weights(model_folder, LAYERS[name], ("unet", "text_encoder"))
    file = tmp_path / "own.safetensors"
    save_file(state, file)
    same(changed(model_folder, file), added)
    same(changed(model_folder, Adapter(file, -0.5)), times(-0.5, added))


@pytest.mark.parametrize("parts", [("unet",), ("text_encoder",)])
def test_so_does_each_layer_of_one_part_alone(model_folder: Path, tmp_path: Path, parts: tuple[str, ...]) -> None:
    for name in ("all ranks", "no alpha"):
        state, added = kohya_weights(model_folder, LAYERS[name], parts)
        save_file(state, tmp_path / "own.safetensors")
        same(changed(model_folder, tmp_path / "own.safetensors"), added)


def test_files_of_two_encoders_do_so(xl_folder: Path, tmp_path: Path) -> None:
    parts = ("unet", "text_encoder", "text_encoder_2")
    state, added = kohya_weights(xl_folder, LAYERS["alphas that are no ranks"], parts)
    save_file(state, tmp_path / "own.safetensors")
    pipes = [loading.load(loading.locate(str(xl_folder)))._pipe for _ in range(2)]
    model = loading.load(loading.locate(str(xl_folder)), adapters=[tmp_path / "own.safetensors"])
    for part in parts:
        before = getattr(pipes[0], part).state_dict()
        for key, weight in getattr(model._pipe, part).state_dict().items():
            wanted = added.get(f"{part}.{key}", torch.zeros(()))
            torch.testing.assert_close(weight - before[key], wanted.expand_as(weight), atol=1e-6, rtol=1e-5)


def test_in_half_precision_the_strength_is_not_rounded(model_folder: Path, tmp_path: Path) -> None:
    state, _ = kohya_weights(model_folder, lambda i: (3, 1.0 + i % 2), ("unet", "text_encoder"))
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "half.safetensors")
    rounded = {key: value.half().float() for key, value in state.items()}
    save_file(rounded, tmp_path / "whole.safetensors")
    same(changed(model_folder, tmp_path / "half.safetensors"), changed(model_folder, tmp_path / "whole.safetensors"))


def test_sums_of_them_are_exact_in_diffusers_and_in_kohyas_names(model_folder: Path, tmp_path: Path) -> None:
    """As `unlearn` carries them into the new LoRA, and as `merge` adds them up."""
    wanted = Weights()
    for seed, name in enumerate(("most of them small", "alpha of some layers alone")):
        state, added = kohya_weights(model_folder, LAYERS[name], ("unet", "text_encoder"), seed)
        save_file(state, tmp_path / f"{seed}.safetensors")
        for key, value in times(0.8, added).items():
            wanted[key] = wanted.get(key, 0) + value
    adapters = [Adapter(tmp_path / f"{seed}.safetensors", 0.8) for seed in range(2)]
    same(changed(model_folder, *adapters), wanted)
    model = loaded(model_folder)
    model.adapters.save_sum(tmp_path / "sum", adapters)
    same(changed(model_folder, tmp_path / "sum"), wanted)
    kohya.write_kohya(tmp_path / "sum", tmp_path / "sum.kohya.safetensors", model.loaded_by)
    same(changed(model_folder, tmp_path / "sum.kohya.safetensors"), wanted)
    pipe = StableDiffusionPipeline.from_pretrained(model_folder, safety_checker=None)
    pipe.load_lora_weights(tmp_path, weight_name="sum.kohya.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(
        pipe.unet.state_dict()["mid_block.attentions.0.proj_in.weight"],
        model._pipe.unet.state_dict()["mid_block.attentions.0.proj_in.weight"]
        + wanted["unet.mid_block.attentions.0.proj_in.weight"],
    )


@pytest.mark.parametrize(
    ("prefix", "down", "up"),
    [("unet.", "lora_A", "lora_B"), ("unet.", "lora.down", "lora.up"), ("", "lora_A", "lora_B")],
)
def test_alphas_beside_diffusers_names_count_too(
    model_folder: Path, tmp_path: Path, prefix: str, down: str, up: str
) -> None:
    torch.manual_seed(0)
    state, added = Weights(), Weights()
    for i, (layer, module) in enumerate(layers_of(model_folder, ("unet",)).items()):
        if module.weight.ndim == 2:
            rank, key = 1 + i % 3, prefix + layer.removeprefix("unet.")
            out, width = module.weight.shape
            a, b = 0.1 * torch.randn(rank, width), 0.1 * torch.randn(out, rank)
            state |= {f"{key}.{down}.weight": a, f"{key}.{up}.weight": b, f"{key}.alpha": torch.tensor(2.0)}
            added[f"{layer}.weight"] = b @ a * 2 / rank
    save_file(state, tmp_path / "own.safetensors")
    same(changed(model_folder, tmp_path / "own.safetensors"), added)


def test_what_diffusers_saved_with_ranks_and_alphas_of_its_own_does_so(model_folder: Path, tmp_path: Path) -> None:
    """Its metadata says them."""
    model = loaded(model_folder)
    unet = model._pipe.unet
    ranks = {"attn1.to_q": 6, "attn2.to_k": 2}
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "to_k"], rank_pattern=ranks, alpha_pattern={"attn1.to_q": 3},
    )  # fmt: skip
    unet.add_adapter(config, adapter_name="own")
    added = Weights()
    for name, layer in unet.named_modules():
        if "own" in getattr(layer, "scaling", {}):
            torch.nn.init.normal_(layer.lora_B["own"].weight, std=0.2)
            alpha = 3 if name.endswith("attn1.to_q") else 2
            rank = next((rank for word, rank in ranks.items() if name.endswith(word)), 4)
            added[f"unet.{name}.weight"] = layer.lora_B["own"].weight @ layer.lora_A["own"].weight * alpha / rank
    unet.save_lora_adapter(tmp_path, adapter_name="own")
    same(changed(model_folder, tmp_path), {name: value.detach() for name, value in added.items()})
    assert lora.tells_its_scale(tmp_path / lora.FILE)


def test_without_metadata_ranks_alone_are_full_strength(model_folder: Path, tmp_path: Path) -> None:
    state, added = kohya_weights(model_folder, LAYERS["no alpha"], ("unet",))
    save_file(state, tmp_path / "own.safetensors")
    loaded(model_folder).adapters.save_sum(tmp_path / "sum", [tmp_path / "own.safetensors"])
    save_file(load_file(tmp_path / "sum" / lora.FILE), tmp_path / "bare.safetensors")
    same(changed(model_folder, tmp_path / "bare.safetensors"), added)


def test_an_alpha_of_no_layer_is_named(model_folder: Path, tmp_path: Path) -> None:
    state, _ = kohya_weights(model_folder, LAYERS["all ranks"], ("unet",))
    save_file(state | {"lora_unet_elsewhere.alpha": torch.tensor(1.0)}, tmp_path / "own.safetensors")
    with pytest.raises(MemfixError, match=r"strength of no layer: lora_unet_elsewhere\.alpha"):
        changed(model_folder, tmp_path / "own.safetensors")
