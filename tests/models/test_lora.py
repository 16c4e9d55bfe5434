"""Round trips of weights through diffusers: what was trained is what is loaded."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models import lora, pipeline


def answer(pipe) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 16, generator=generator)
    with torch.no_grad():
        return pipe.unet(x, torch.tensor([10, 700]), context).sample


@pytest.fixture(params=[False, True], ids=["lora", "dora"])
def trained(model_folder: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """A pipeline with an adapter of random weights, its answer, and the folder it was saved to."""
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    before = answer(pipe)
    torch.manual_seed(1)
    for parameter in lora.add(pipe.unet, 2, dora=request.param):
        torch.nn.init.normal_(parameter, std=0.3)
    lora.save(pipe, tmp_path)
    assert (answer(pipe) - before).abs().max() > 0.1
    return answer(pipe), tmp_path


def test_lora_through_memfix(model_folder: Path, trained) -> None:
    wanted, folder = trained
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    lora.load(pipe, folder)
    torch.testing.assert_close(answer(pipe), wanted, atol=1e-5, rtol=1e-5)


def test_lora_through_diffusers_alone(model_folder: Path, trained) -> None:
    wanted, folder = trained
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    pipe.load_lora_weights(folder)
    torch.testing.assert_close(answer(pipe), wanted, atol=1e-5, rtol=1e-5)


def test_full_weights_through_diffusers(model_folder: Path, tmp_path: Path) -> None:
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter.add_(0.01)
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    torch.testing.assert_close(answer(StableDiffusionPipeline.from_pretrained(tmp_path)), answer(pipe))


def test_names_that_are_not_taken_up_are_an_error(model_folder: Path, trained) -> None:
    """Files that mix two naming schemes load in part, without a word; such a model would only look unlearned."""
    _, folder = trained
    state = load_file(folder / lora.FILE)
    mixed = {
        k.replace("lora_A", "lora.down").replace("lora_B", "lora.up") if ".attn" in k else k: v
        for k, v in state.items()
    }
    save_file(mixed, folder / lora.FILE)
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    with pytest.raises(MemfixError, match=r"Only .* could be loaded"):
        lora.load(pipe, folder)


def test_lost_lengths_are_an_error(model_folder: Path, tmp_path: Path) -> None:
    """Without the lengths of its rows, DoRA would be loaded as another adapter."""
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    lora.add(pipe.unet, 2, dora=True)
    lora.save(pipe, tmp_path)
    state = load_file(tmp_path / lora.FILE)
    lengths = next(k for k in state if "magnitude" in k)
    save_file(
        {k: v for k, v in state.items() if k != lengths} | {lengths + ".other": state[lengths]}, tmp_path / lora.FILE
    )
    with pytest.raises(MemfixError):
        lora.load(pipeline.load(pipeline.locate(str(model_folder))), tmp_path)


def test_adapters_are_a_function_of_their_seed(model_folder: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.rand(1)
        pipe = pipeline.load(pipeline.locate(str(model_folder)))
        made.append(torch.cat([p.detach().flatten() for p in lora.add(pipe.unet, 2, seed)]))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_missing_and_broken_files(model_folder: Path, tmp_path: Path) -> None:
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    with pytest.raises(MemfixError, match="no LoRA"):
        lora.load(pipe, tmp_path)
    (tmp_path / lora.FILE).write_bytes(b"not safetensors")
    with pytest.raises(MemfixError, match="does not fit"):
        lora.load(pipe, tmp_path)
