"""Several adapters as one: the same answers as with all of them."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models import adapters, lora, pipeline
from memfix.models.context import ContextEdit, build_in


def answer(pipe) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 16, generator=generator)
    with torch.no_grad():
        return pipe.unet(x, torch.tensor([10, 700]), context).sample


def loaded(model_folder: Path, *paths: Path):
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    lora.load(pipe, *paths)
    return pipe


@pytest.fixture
def two(model_folder: Path, tmp_path: Path) -> list[Path]:
    """One of memfix, wider where text is read; one of another tool, on attention alone, at half strength."""
    own, other = tmp_path / "own", tmp_path / "other"
    torch.manual_seed(1)
    pipe = loaded(model_folder)
    for parameter in lora.add(pipe.unet, 2):
        torch.nn.init.normal_(parameter, std=0.2)
    lora.save(pipe, own, ContextEdit(0.1 * torch.randn(3, 16), 0.1 * torch.randn(16, 3)))
    pipe = loaded(model_folder)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_k"]), adapter_name=lora.ADAPTER)
    for name, parameter in pipe.unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    lora.save(pipe, other)
    return [own, other]


def test_merged_adapters_answer_as_all_of_them(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    wanted = answer(loaded(model_folder, *two))
    for path in two:
        assert (answer(loaded(model_folder, path)) - wanted).abs().max() > 0.02
    pipe = loaded(model_folder)
    before = answer(pipe)
    adapters.merge(pipe, two, tmp_path / "merged")
    assert torch.equal(answer(pipe), before)  # it only lent its layers
    torch.testing.assert_close(answer(loaded(model_folder, tmp_path / "merged")), wanted, atol=1e-5, rtol=1e-5)
    alone = StableDiffusionPipeline.from_pretrained(model_folder)
    alone.load_lora_weights(tmp_path / "merged")
    torch.testing.assert_close(answer(alone), wanted, atol=1e-5, rtol=1e-5)


def test_a_merged_adapter_may_take_the_place_of_one_of_its_parts(model_folder: Path, two: list[Path]) -> None:
    wanted = answer(loaded(model_folder, *two))
    adapters.merge(loaded(model_folder), two, two[1])
    torch.testing.assert_close(answer(loaded(model_folder, two[1])), wanted, atol=1e-5, rtol=1e-5)


def test_an_edit_is_one_more_change(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(3)
    edit = ContextEdit(0.3 * torch.randn(2, 16), 0.3 * torch.randn(16, 2))
    pipe = loaded(model_folder, *two)
    adapters.merge(pipe, two, tmp_path / "edited", edit)
    build_in(pipe.unet, edit)
    torch.testing.assert_close(answer(loaded(model_folder, tmp_path / "edited")), answer(pipe), atol=1e-5, rtol=1e-5)
    assert (answer(pipe) - answer(loaded(model_folder, *two))).abs().max() > 0.02


def test_what_does_not_add_up_is_refused(model_folder: Path, two: list[Path], tmp_path: Path) -> None:
    state = load_file(two[0] / lora.FILE)
    save_file({**state, "text_encoder.a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "texts.safetensors")
    pipe = loaded(model_folder)
    with pytest.raises(MemfixError, match=r"cannot be merged|does not fit"):
        adapters.read_adapter(pipe, tmp_path / "texts.safetensors")
    pipe = loaded(model_folder)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], use_dora=True), adapter_name=lora.ADAPTER)
    lora.save(pipe, tmp_path / "dora")
    with pytest.raises(MemfixError, match="cannot be merged"):
        adapters.read_adapter(loaded(model_folder), tmp_path / "dora")
