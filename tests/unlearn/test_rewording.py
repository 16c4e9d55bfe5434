"""The closed-form edit that makes one text read like another, and what becomes of it in the weights."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from memfix.models import loading
from memfix.models.context import ContextEdit, build_in, readers
from memfix.unlearn import rewording as reword
from memfix.unlearn.rewording import random_texts, solve


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_few_texts_are_moved_and_others_stay() -> None:
    old, new, others = normal(2, 3, 64), normal(2, 3, 64, seed=1), normal(5, 4, 64, seed=2)
    edit = solve(old, new, others, others)
    assert len(edit.read) <= 6  # no more directions than there are tokens to move
    assert (edit(old) - new).norm() < 0.08 * (old - new).norm()
    assert (edit(others) - others).norm() < 0.02 * others.norm()


def test_least_squares_against_a_plain_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacked, weighted rows through lstsq: min |x D - (y - x)|²/n + 50 |p D|²/m + .1 |q D|²/k, at full rank."""
    monkeypatch.setattr(reword, "ENERGY", 1.0)
    given = normal(9, 5, 8), normal(9, 5, 8, seed=1), normal(4, 5, 8, seed=2), normal(7, 5, 8, seed=3)
    x, y, p, q = (v.double().flatten(0, 1) for v in given)
    a = torch.cat([x / len(x) ** 0.5, p * (50 / len(p)) ** 0.5, q * (0.1 / len(q)) ** 0.5])
    b = torch.cat([(y - x) / len(x) ** 0.5, torch.zeros_like(p), torch.zeros_like(q)])
    wanted = torch.linalg.lstsq(a, b).solution
    edit = solve(*given)
    torch.testing.assert_close((edit.read.T @ edit.write.T).double(), wanted, atol=1e-5, rtol=1e-3)


def test_nothing_to_move_moves_nothing() -> None:
    old, others = normal(2, 3, 16), normal(2, 3, 16, seed=1)
    assert solve(old, old, others, others)(others).equal(others)


def answers(unet, context: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return unet(normal(2, 4, 8, 8), torch.tensor([10, 700]), context).sample


@pytest.fixture
def edit() -> ContextEdit:
    return ContextEdit(0.3 * normal(3, 16), 0.3 * normal(16, 3, seed=1))


def test_full_weights_read_the_edited_text(model_folder: Path, edit: ContextEdit) -> None:
    unet = loading.load(loading.locate(str(model_folder))).denoiser.module
    context = normal(2, 16, 16, seed=4)
    wanted, plain = answers(unet, edit(context)), answers(unet, context)
    assert len(list(readers(unet))) >= 4
    build_in(unet, edit)
    torch.testing.assert_close(answers(unet, context), wanted, atol=1e-5, rtol=1e-4)
    assert (wanted - plain).abs().max() > 1e-3


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("alone", [False, True], ids=["memfix", "diffusers alone"])
@pytest.mark.slow
def test_a_trained_adapter_reads_the_edited_text(
    model_folder: Path, tmp_path: Path, edit: ContextEdit, alone: bool, dora: bool
) -> None:
    model = loading.load(loading.locate(str(model_folder)))
    torch.manual_seed(1)
    model.adapters.add(2, dora=dora)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.3)
    context = normal(2, 16, 16, seed=4)
    wanted = answers(model.denoiser.module, edit(context))
    model.adapters.save(tmp_path, edit)
    if alone:
        pipe = StableDiffusionPipeline.from_pretrained(model_folder)
        pipe.load_lora_weights(tmp_path)
        loaded = pipe.unet
    else:
        again = loading.load(loading.locate(str(model_folder)))
        again.adapters.fuse(tmp_path)
        loaded = again.denoiser.module
    torch.testing.assert_close(answers(loaded, context), wanted, atol=1e-4, rtol=1e-3)


def test_random_texts_are_words_of_the_vocabulary() -> None:
    texts = random_texts({"owl</w>": 0, "cat</w>": 1, "ow": 2, "!</w>": 3, "<|endoftext|>": 4}, count=50, longest=3)
    assert texts == random_texts(["cat</w>", "owl</w>"], count=50, longest=3)
    assert {word for text in texts for word in text.split()} == {"owl", "cat"}
    assert {len(text.split()) for text in texts} == {1, 2, 3}
