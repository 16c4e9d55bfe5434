"""Several adapters as one: the same answers as with all of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.models import loading, lora
from memfix.models.adapters import Factors
from memfix.models.context import ContextEdit, build_in
from memfix.models.model import DiffusionModel


def answer(unet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 16, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor([10, 700]), context).sample


def loaded(model_folder: Path, *paths: Path) -> DiffusionModel:
    model = loading.load(loading.locate(str(model_folder)))
    model.adapters.fuse(*paths)
    return model


def answer_of(model_folder: Path, *paths: Path) -> torch.Tensor:
    return answer(loaded(model_folder, *paths).denoiser.module)


@pytest.fixture
def two(model_folder: Path, tmp_path: Path) -> list[Path]:
    """One of memfix, wider where text is read; one of another tool, on attention alone, at half strength."""
    own, other = tmp_path / "own", tmp_path / "other"
    torch.manual_seed(1)
    model = loaded(model_folder)
    model.adapters.add(2)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.2)
    model.adapters.save(own, ContextEdit(0.1 * torch.randn(3, 16), 0.1 * torch.randn(16, 3)))
    model = loaded(model_folder)
    config = LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_k"])
    model.denoiser.module.add_adapter(config, adapter_name=lora.ADAPTER)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.2)
    model.adapters.save(other)
    return [own, other]


def test_the_same_adapter_has_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    """A run knows weights by the hash of their file."""
    model = loaded(model_folder)
    model.adapters.add(2)
    found = set[bytes]()
    for i in range(8):
        model.adapters.save(tmp_path / f"{i}")
        found.add((tmp_path / f"{i}" / lora.FILE).read_bytes())
    assert len(found) == 1
    with safe_open(tmp_path / "0" / lora.FILE, "pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
    assert told["unet.target_modules"] == sorted(lora.TARGETS)  # peft has them in a set


@pytest.mark.slow
def test_adapters_are_known_by_their_contents_wherever_they_lie(two: list[Path], tmp_path: Path) -> None:
    """They add up, so that neither their names nor their order say anything of the weights."""
    first = lora.adapters_sha256(two)
    moved = [Path(shutil.move(path, tmp_path / name)) for path, name in zip(two, ("b", "a"), strict=True)]
    assert lora.adapters_sha256(moved) == lora.adapters_sha256(reversed(moved)) == first
    alone = {lora.adapters_sha256([path]) for path in moved}
    assert alone == {sha256([path / lora.FILE]) for path in moved}
    several = {lora.adapters_sha256([moved[i] for i in places]) for places in ((0, 1), (0, 0), (1, 1), (0, 1, 1))}
    assert len(several) == 4 and not several & alone


def test_the_order_of_adapters_counts_where_one_is_dora(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    """It scales the weights that it is put on, those of the other adapter among them."""
    model, dora = loaded(model_folder), tmp_path / "dora"
    model.adapters.add(2, dora=True)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.2)
    model.adapters.save(dora)
    orders = [[dora, two[0]], [two[0], dora]]
    answers = [answer_of(model_folder, *order) for order in orders]
    assert (answers[0] - answers[1]).abs().max() > 1e-3
    assert len({lora.adapters_sha256(order) for order in orders}) == 2


def test_a_broken_adapter_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"broken")
    with pytest.raises(MemfixError, match=r"a\.safetensors cannot be read") as caught:
        lora.adapters_sha256([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert caught.value.hint


def test_merged_adapters_answer_as_all_of_them(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    wanted = answer_of(model_folder, *two)
    for path in two:
        assert (answer_of(model_folder, path) - wanted).abs().max() > 0.02
    model = loaded(model_folder)
    before = answer(model.denoiser.module)
    model.adapters.save_sum(tmp_path / "merged", two)
    assert torch.equal(answer(model.denoiser.module), before)  # it only lent its layers
    torch.testing.assert_close(answer_of(model_folder, tmp_path / "merged"), wanted, atol=1e-5, rtol=1e-5)
    alone = StableDiffusionPipeline.from_pretrained(model_folder)
    alone.load_lora_weights(tmp_path / "merged")
    torch.testing.assert_close(answer(alone.unet), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_merged_adapter_may_take_the_place_of_one_of_its_parts(model_folder: Path, two: list[Path]) -> None:
    wanted = answer_of(model_folder, *two)
    loaded(model_folder).adapters.save_sum(two[1], two)
    torch.testing.assert_close(answer_of(model_folder, two[1]), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_an_edit_is_one_more_change(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(3)
    edit = ContextEdit(0.3 * torch.randn(2, 16), 0.3 * torch.randn(16, 2))
    model = loaded(model_folder, *two)
    model.adapters.save_sum(tmp_path / "edited", two, edit)
    build_in(model.denoiser.module, edit)
    torch.testing.assert_close(
        answer_of(model_folder, tmp_path / "edited"), answer(model.denoiser.module), atol=1e-5, rtol=1e-5
    )
    assert (answer(model.denoiser.module) - answer_of(model_folder, *two)).abs().max() > 0.02


@pytest.mark.slow
def test_what_does_not_add_up_is_refused(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    state = load_file(two[0] / lora.FILE)
    save_file({**state, "text_encoder.a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "texts.safetensors")
    with pytest.raises(MemfixError, match="no layer of the model"):
        loaded(model_folder).adapters.read(tmp_path / "texts.safetensors")
    model, config = loaded(model_folder), LoraConfig(r=2, target_modules=["to_q"], use_dora=True)
    model.denoiser.module.add_adapter(config, adapter_name=lora.ADAPTER)
    model.adapters.save(tmp_path / "dora")
    with pytest.raises(MemfixError, match="cannot be merged"):
        loaded(model_folder).adapters.read(tmp_path / "dora")


@pytest.mark.slow
def test_factors_are_the_change_that_fusing_makes(model_folder: Path, two: list[Path]) -> None:
    """Of an adapter at half strength as well, and the model that lent its layers is as it was."""
    before = {name: p.clone() for name, p in loaded(model_folder).denoiser.module.named_parameters()}
    for path in two:
        model = loaded(model_folder)
        found = model.adapters.read(path)["unet"]
        assert found and all(isinstance(factors, Factors) for factors in found.values())
        assert not model.adapters.present
        model.adapters.fuse(path)
        for name, weight in model.denoiser.module.named_parameters():
            factors = found.get(name.removesuffix(".weight"))
            if factors is None:
                assert torch.equal(weight, before[name]), name
            elif factors.down.ndim == 2:
                torch.testing.assert_close(weight - before[name], factors.up @ factors.down, atol=1e-5, rtol=1e-4)


def of_texts(layers: range, prefix: str = "text_encoder", name: str = "self_attn.q_proj") -> dict[str, torch.Tensor]:
    """A LoRA of some layers of the tiny text encoder, which has one of width 16."""
    torch.manual_seed(4)
    base = prefix + ".text_model.encoder.layers.{}." + name
    return {
        f"{base.format(i)}.lora_{part}.weight": torch.randn(2, 16) if part == "A" else torch.randn(16, 2)
        for i in layers
        for part in "AB"
    }


def test_a_lora_of_the_text_encoder_alone_changes_what_the_denoiser_is_told(model_folder: Path, tmp_path: Path) -> None:
    save_file(of_texts(range(1)), tmp_path / lora.FILE)
    plain, changed = loaded(model_folder), loaded(model_folder, tmp_path)
    assert torch.equal(answer(plain.denoiser.module), answer(changed.denoiser.module))
    texts = [model.text.encode(["a disc"]).tokens for model in (plain, changed)]
    assert (texts[0] - texts[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (of_texts(range(3)), "of the text encoder in .* only 64 were taken up"),
        (of_texts(range(2), "text_encoder_2"), "of the text encoder in .* only 0 were taken up"),
        (of_texts(range(2), name="attn.q_proj"), "no layer of the model"),
    ],
    ids=["more layers", "another encoder", "other names"],
)
@pytest.mark.parametrize("alone", [True, False])
def test_no_weight_of_a_text_encoder_is_left_out_silently(
    weights: dict[str, torch.Tensor], message: str, alone: bool, model_folder: Path, two: list[Path], tmp_path: Path
) -> None:
    """A detection would judge another model than the one that was meant."""
    whole = weights if alone else load_file(two[0] / lora.FILE) | weights
    save_file(whole, tmp_path / lora.FILE)
    with pytest.raises(MemfixError, match=message):
        loaded(model_folder, tmp_path)


def test_a_lora_that_the_unet_saved_itself_is_taken_up_with_its_scale(model_folder: Path, tmp_path: Path) -> None:
    """Its names have no prefix, and its alpha, here half of the rank, is in the metadata."""
    model = loaded(model_folder)
    unet = model.denoiser.module
    unet.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "conv1"]), adapter_name="own")
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    unet.save_lora_adapter(tmp_path, adapter_name="own")
    assert all(not name.startswith("unet.") for name in load_file(tmp_path / lora.FILE))
    expected = answer(unet)
    assert not torch.allclose(expected, answer_of(model_folder), atol=1e-2)
    torch.testing.assert_close(answer_of(model_folder, tmp_path), expected, rtol=1e-4, atol=1e-4)


def test_what_peft_saved_and_what_holds_nothing_is_refused_by_name(model_folder: Path, tmp_path: Path) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    weights = {f"base_model.model.{layer}.lora_{part}.weight": torch.zeros(1, 1) for part in "AB"}
    for tensors, message in (
        (weights, "begin with base_model.model. as peft writes them"),
        ({}, "contains no weights"),
    ):
        save_file(tensors, tmp_path / lora.FILE)
        with pytest.raises(MemfixError, match=message):
            loaded(model_folder, tmp_path)
