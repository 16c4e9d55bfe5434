"""LoRAs that change the text encoder too, with a strength, several at once: as trainers and sharing sites have them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models import arrived, kohya, loading, lora
from memfix.models.lora import Adapter
from memfix.models.model import DiffusionModel

IN_UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
IN_TEXTS = ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
RANK, ALPHA = 2, 1.0


def loaded(model_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(model_folder)))


def weights(model: DiffusionModel) -> dict[str, torch.Tensor]:
    parts = {"unet": model._pipe.unet, "text_encoder": model._pipe.text_encoder}
    return {f"{part}.{name}": w.clone() for part, module in parts.items() for name, w in module.state_dict().items()}


def changed(model_folder: Path, *adapters: Path | Adapter) -> dict[str, torch.Tensor]:
    """What adapters add to each weight that they change."""
    model = loaded(model_folder)
    before = weights(model)
    model.adapters.fuse(*adapters)
    added = {name: weight - before[name] for name, weight in weights(model).items()}
    return {name: difference for name, difference in added.items() if difference.abs().max() > 0}


def kohya_file(
    model_folder: Path, file: Path, unet: bool = True, seed: int = 0, in_texts: tuple[str, ...] = IN_TEXTS
) -> dict[str, torch.Tensor]:
    """Write a LoRA as kohya's scripts do; what it adds to each weight."""
    torch.manual_seed(seed)
    state, added, whole = dict[str, torch.Tensor](), dict[str, torch.Tensor](), weights(loaded(model_folder))
    layers = {f"text_encoder.encoder.layers.0.{n}": f"lora_te_text_model_encoder_layers_0_{n}" for n in in_texts}
    layers |= {f"unet.{IN_UNET}": f"lora_unet_{IN_UNET}"} if unet else {}
    for layer, name in layers.items():
        out, width = whole[f"{layer}.weight"].shape
        down, up, key = 0.2 * torch.randn(RANK, width), 0.2 * torch.randn(out, RANK), name.replace(".", "_")
        state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}
        added[f"{layer}.weight"] = up @ down * ALPHA / RANK
    save_file(state, file)
    return added


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, difference in wanted.items():
        torch.testing.assert_close(found[name], difference, atol=1e-6, rtol=1e-5)


def test_that_a_lora_changes_texts_is_told(model_folder: Path, tmp_path: Path) -> None:
    kohya_file(model_folder, file := tmp_path / "style.safetensors")
    assert lora.changes_texts(file)
    model = loaded(model_folder)
    model.adapters.save_sum(tmp_path / "sum", [file])
    assert lora.changes_texts(lora.file_of(tmp_path / "sum"))  # in the words of diffusers
    model.adapters.add(2)
    model.adapters.save(tmp_path / "unet")
    assert not lora.changes_texts(lora.file_of(tmp_path / "unet"))


@pytest.mark.parametrize("unet", [True, False], ids=["both", "text encoder alone"])
def test_all_of_it_is_used_at_its_strength(model_folder: Path, tmp_path: Path, unet: bool) -> None:
    file = tmp_path / "style.safetensors"
    added = kohya_file(model_folder, file, unet)
    same(changed(model_folder, file), added)
    same(changed(model_folder, Adapter(file, 0.5)), {name: 0.5 * value for name, value in added.items()})


@pytest.mark.parametrize("unet", [True, False], ids=["both", "text encoder alone"])
@pytest.mark.parametrize("layers", ["q_proj", "q_proj k_proj v_proj", "q_proj fc1", "fc2"])
def test_any_layers_of_the_text_encoder_are_used(model_folder: Path, tmp_path: Path, unet: bool, layers: str) -> None:
    """diffusers knows kohya's names of attention by `out_proj` alone, and of peft's names no layers of `mlp` alone."""
    names = tuple(f"{'mlp' if name.startswith('fc') else 'self_attn'}.{name}" for name in layers.split())
    added = kohya_file(model_folder, file := tmp_path / "style.safetensors", unet, in_texts=names)
    same(changed(model_folder, file), added)
    same(changed(model_folder, Adapter(file, 0.5)), {name: 0.5 * value for name, value in added.items()})


def test_each_encoder_of_xl_has_layers_of_its_own(xl_folder: Path, tmp_path: Path) -> None:
    model, state, wanted = loaded(xl_folder), dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for number, part in (("1", "text_encoder"), ("2", "text_encoder_2")):
        encoder = getattr(model._pipe, part)
        name = next(n for n, _ in encoder.named_modules() if n.endswith("layers.0.self_attn.q_proj"))
        width = encoder.get_submodule(name).weight.shape[0]
        down, up = torch.randn(RANK, width), torch.randn(width, RANK)
        key = f"lora_te{number}_text_model_encoder_layers_0_self_attn_q_proj"
        state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}
        wanted[part] = encoder.get_submodule(name).weight + up @ down * ALPHA / RANK
    save_file(state, tmp_path / "style.safetensors")
    model.adapters.fuse(tmp_path / "style.safetensors")
    for part, weight in wanted.items():
        encoder = getattr(model._pipe, part)
        (found,) = (m.weight for n, m in encoder.named_modules() if n.endswith("layers.0.self_attn.q_proj"))
        torch.testing.assert_close(found, weight)


def test_embeddings_in_the_file_of_a_lora_are_refused_by_name(model_folder: Path, tmp_path: Path) -> None:
    """They would be left out, and prompts with their words mean something else."""
    kohya_file(model_folder, file := tmp_path / "style.safetensors")
    save_file(load_file(file) | {"bundle_emb.face.string_to_param.*": torch.zeros(2, 16)}, file)
    with pytest.raises(MemfixError, match=r"embeddings of textual inversion \(face\)") as caught:
        loaded(model_folder).adapters.save_sum(tmp_path / "sum", [file, file])  # as 'memfix merge' does
    assert "--embedding" in caught.value.hint
    save_file({"emb_params": torch.zeros(2, 16)}, tmp_path / "face.safetensors")
    with pytest.raises(MemfixError, match="is no LoRA"):
        loaded(model_folder).adapters.fuse(tmp_path / "face.safetensors")


def test_the_sum_of_several_holds_what_they_do_to_texts(model_folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    first, second = kohya_file(model_folder, one), kohya_file(model_folder, two, unet=False, seed=1)
    wanted = {name: 0.5 * value + second.get(name, 0) for name, value in first.items()}
    model = loaded(model_folder)
    model.adapters.save_sum(tmp_path / "sum", [Adapter(one, 0.5), two])
    same(changed(model_folder, tmp_path / "sum"), wanted)
    kohya.write_kohya(tmp_path / "sum", tmp_path / "sum.safetensors", None)
    same(changed(model_folder, tmp_path / "sum.safetensors"), wanted)
    assert lora.holds(tmp_path / "sum") >= {Adapter(one, 0.5).digest, Adapter(two).digest}


def test_a_strength_is_part_of_what_an_adapter_is(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    kohya_file(model_folder, file)
    assert Adapter.named(f"{file}:0.8") == (file, 0.8) and Adapter.named(str(file)) == (file, 1.0)
    assert Adapter.named("C:/loras/style.safetensors").path == Path("C:/loras/style.safetensors")
    assert lora.adapters_sha256([file]) == lora.adapters_sha256([Adapter(file)])
    assert len({lora.adapters_sha256([Adapter(file, weight)]) for weight in (1.0, 0.8, 0.5)}) == 3


SIDES = {"lora_down.weight": (2, 8), "lora_up.weight": (8, 2)}
OTHERS = {
    "LoRA with biases": {"lora_A.weight": (2, 8), "lora_B.weight": (8, 2), "lora_B.bias": (8,)},
    "LoHa": {f"hada_{side}": (8, 8) for side in ("w1_a", "w1_b", "w2_a", "w2_b")},
    "LoKr": {"lokr_w1": (2, 2), "lokr_w2": (4, 4)},
    "full difference": {"diff": (8, 8)},
    "IA³": {"weight": (8,), "on_input": (1,)},
    "GLoRA": {"a1.weight": (2, 8), "a2.weight": (8, 2), "b1.weight": (2, 8), "b2.weight": (8, 2)},
    "OFT": {"oft_blocks": (2, 4, 4)},
    "Tucker": {**SIDES, "lora_mid.weight": (2, 2)},
    "DoRA in the names of LyCORIS": {**SIDES, "dora_scale": (8, 1)},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_adapters_are_refused_by_name(model_folder: Path, tmp_path: Path, kind: str) -> None:
    """As LyCORIS writes them; the alpha beside them says nothing."""
    key, file = f"lora_unet_{IN_UNET.replace('.', '_')}", tmp_path / "own.safetensors"
    save_file({f"{key}.{side}": torch.ones(shape) for side, shape in {**OTHERS[kind], "alpha": ()}.items()}, file)
    with pytest.raises(MemfixError, match=f"is a {kind}") as told:
        loaded(model_folder).adapters.fuse(file)
    assert "Build it into" in told.value.hint


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_{}.weight", "flow transformer"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_{}.weight", "flow transformer"),
        ("diffusion_model.double_blocks.0.img_attn.qkv.lora_{}.weight", "flow transformer"),
        ("net.mid.lora_{}.weight", "no layer of the model"),
    ],
)
def test_names_of_other_models_and_of_no_tool_are_told(
    model_folder: Path, tmp_path: Path, layer: str, message: str
) -> None:
    state = {layer.format("down"): torch.ones(2, 8), layer.format("up"): torch.ones(8, 2)}
    save_file(state, tmp_path / "own.safetensors")
    with pytest.raises(MemfixError, match=message):
        loaded(model_folder).adapters.fuse(tmp_path / "own.safetensors")


def test_a_folder_of_peft_is_refused(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "peft").mkdir()
    save_file({"base_model.model.x": torch.zeros(1)}, tmp_path / "peft/adapter_model.safetensors")
    with pytest.raises(MemfixError, match="peft"):
        loaded(model_folder).adapters.fuse(tmp_path / "peft")


def dora_file(model_folder: Path, folder: Path, told: bool) -> dict[str, torch.Tensor]:
    """Write a DoRA of the text encoder as diffusers' training scripts do, with its configuration or without it; the
    weights of the layers that it changes, by its definition: each row of W + BA in the length that it has learned."""
    torch.manual_seed(5)
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    config = LoraConfig(
        r=RANK, lora_alpha=RANK, use_dora=True, target_modules=["q_proj", "fc1"], init_lora_weights=False
    )  # fmt: skip
    inject_adapter_in_model(config, pipe.text_encoder)
    pipe.text_encoder.peft_config = {"default": config}
    for name, weight in pipe.text_encoder.named_parameters():
        if "lora_magnitude" in name:
            weight.data *= 1 + torch.rand_like(weight)
    state, metadata = get_peft_model_state_dict(pipe.text_encoder), dict[str, Any]()
    if told:
        metadata["text_encoder_lora_adapter_metadata"] = config.to_dict() | {"target_modules": ["fc1", "q_proj"]}
    pipe.save_lora_weights(folder, text_encoder_lora_layers=state, **metadata)
    wanted = dict[str, torch.Tensor]()
    for key, lengths in state.items():
        layer = key.removesuffix(".lora_magnitude_vector")
        if layer != key:
            own = pipe.text_encoder.get_submodule(layer).base_layer.weight.detach()
            turned = own + state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
            wanted[layer] = lengths[:, None] * turned / turned.norm(dim=1, keepdim=True)
    return wanted


@pytest.mark.parametrize("told", [True, False], ids=["with its configuration", "without"])
def test_a_dora_of_the_text_encoder_has_the_lengths_of_its_file(model_folder: Path, tmp_path: Path, told: bool) -> None:
    """transformers leaves them out without a word, and puts numbers by chance or those of the model in their place."""
    wanted = dora_file(model_folder, tmp_path, told)
    assert len(wanted) == 2
    for _ in range(2):
        model = loaded(model_folder)
        model.adapters.fuse(tmp_path)
        for layer, weight in wanted.items():
            found = model._pipe.text_encoder.get_submodule(layer).weight
            torch.testing.assert_close(found, weight, atol=1e-6, rtol=1e-5)


def test_lengths_that_only_the_configuration_has_are_an_error(model_folder: Path, tmp_path: Path) -> None:

    dora_file(model_folder, tmp_path, told=True)
    state = load_file(file := tmp_path / lora.FILE)
    with lora.opened_lora(file) as opened:
        metadata = opened.metadata()
    kept = {key: value for key, value in state.items() if "magnitude" not in key}
    save_file(kept, file, metadata)  # the configuration says that there are lengths
    with pytest.raises(MemfixError, match="text encoder"):
        loaded(model_folder).adapters.fuse(file)


def test_other_numbers_on_the_model_than_in_the_file_are_an_error(model_folder: Path, tmp_path: Path) -> None:
    dora_file(model_folder, tmp_path, told=True)
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    pipe.load_lora_weights(tmp_path, adapter_name="own")  # which leaves the lengths out
    held, on = load_file(tmp_path / lora.FILE), {"text_encoder": pipe.text_encoder}
    with pytest.raises(MemfixError, match=r"Of 208 weights of the text encoder in .* only 160 were taken up"):
        arrived.require_complete(tmp_path / lora.FILE, held, on, "own")
    arrived.give_lengths(held, on, "own")
    arrived.require_complete(tmp_path / lora.FILE, held, on, "own")
