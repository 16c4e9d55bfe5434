"""Round trips of weights through diffusers: what was trained is what is loaded."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models import loading, lora
from memfix.models.model import DiffusionModel


def answer(unet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 16, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor([10, 700]), context).sample


def loaded(folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(folder)))


@pytest.fixture(params=[False, True], ids=["lora", "dora"])
def trained(model_folder: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """A model with an adapter of random weights, its answer, and the folder it was saved to."""
    model = loaded(model_folder)
    before = answer(model.denoiser.module)
    torch.manual_seed(1)
    model.adapters.add(2, dora=request.param)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.3)
    model.adapters.save(tmp_path)
    now = answer(model.denoiser.module)
    assert (now - before).abs().max() > 0.1
    return now, tmp_path


@pytest.mark.slow
def test_lora_through_memfix(model_folder: Path, trained) -> None:
    wanted, folder = trained
    model = loaded(model_folder)
    model.adapters.fuse(folder)
    torch.testing.assert_close(answer(model.denoiser.module), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_lora_through_diffusers_alone(model_folder: Path, trained) -> None:
    wanted, folder = trained
    pipe = StableDiffusionPipeline.from_pretrained(model_folder)
    pipe.load_lora_weights(folder)
    torch.testing.assert_close(answer(pipe.unet), wanted, atol=1e-5, rtol=1e-5)


def test_full_weights_through_diffusers(model_folder: Path, tmp_path: Path) -> None:
    model = loaded(model_folder)
    with torch.no_grad():
        for parameter in model.denoiser.module.parameters():
            parameter.add_(0.01)
    model.save(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    alone = StableDiffusionPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(answer(alone.unet), answer(model.denoiser.module))


@pytest.mark.slow
def test_a_file_of_two_naming_schemes_is_read_whole_and_names_that_nobody_knows_are_an_error(
    model_folder: Path, trained, tmp_path: Path
) -> None:
    """Loaded in part, without a word, such a model would only look unlearned."""
    _, folder = trained
    state = load_file(folder / lora.FILE)

    def fused(down: str, up: str) -> torch.Tensor:
        (tmp_path / down).mkdir()
        renamed = {k.replace("lora_A", down).replace("lora_B", up) if ".attn" in k else k: v for k, v in state.items()}
        save_file(renamed, tmp_path / down / lora.FILE)
        model = loaded(model_folder)
        model.adapters.fuse(tmp_path / down)
        return torch.cat([p.detach().flatten() for p in model.denoiser.module.parameters()])

    assert torch.equal(fused("lora.down", "lora.up"), fused("lora_A", "lora_B"))
    with pytest.raises(MemfixError):
        fused("lora_first", "lora_second")


def test_lost_lengths_are_an_error(model_folder: Path, tmp_path: Path) -> None:
    """Without the lengths of its rows, DoRA would be loaded as another adapter."""
    model = loaded(model_folder)
    model.adapters.add(2, dora=True)
    model.adapters.save(tmp_path)
    state = load_file(tmp_path / lora.FILE)
    lengths = next(k for k in state if "magnitude" in k)
    save_file(
        {k: v for k, v in state.items() if k != lengths} | {lengths + ".other": state[lengths]}, tmp_path / lora.FILE
    )
    with pytest.raises(MemfixError):
        loaded(model_folder).adapters.fuse(tmp_path)


def test_adapters_are_a_function_of_their_seed(model_folder: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        torch.rand(1)
        model = loaded(model_folder)
        model.adapters.add(2, seed)
        made.append(torch.cat([p.detach().flatten() for p in model.denoiser.trained().values()]))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_missing_and_broken_files(model_folder: Path, tmp_path: Path) -> None:
    model = loaded(model_folder)
    with pytest.raises(MemfixError, match="no LoRA"):
        model.adapters.fuse(tmp_path)
    (tmp_path / lora.FILE).write_bytes(b"not safetensors")
    with pytest.raises(MemfixError, match="cannot be read"):
        model.adapters.fuse(tmp_path)


@pytest.mark.parametrize("weight", ["0", "0,5", "nan", "inf", "-inf", "strong", ""])
def test_what_is_no_strength_is_refused(tmp_path: Path, weight: str) -> None:
    file = tmp_path / "style.safetensors"
    file.touch()
    with pytest.raises(MemfixError, match=f"strength '{weight}'") as caught:
        lora.Adapter.named(f"{file}:{weight}")
    assert f"{file}:0.5" in caught.value.hint
    assert lora.Adapter.named(f"{file}:-0.5") == lora.Adapter(file, -0.5)
    assert lora.Adapter.named(str(file)) == lora.Adapter(file)
