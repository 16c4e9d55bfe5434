"""Which files of a diffusers folder are in use, and in which variant."""

import shutil
from pathlib import Path

import pytest
import torch

from memfix.errors import MemfixError
from memfix.models import loading
from tests.conftest import tiny_pipeline


def test_files_that_are_not_used_change_nothing(model_folder: Path, tmp_path: Path) -> None:
    """A checkpoint of a trainer, a second variant, a file for another tool."""
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    before = loading.locate(str(model))
    weights = "diffusion_pytorch_model.safetensors"
    shutil.copytree(model / "unet", model / "checkpoint-500/unet")
    shutil.copy(model / "unet" / weights, model / "whole.safetensors")
    (model / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another variant")
    (model / "safety_checker").mkdir()
    (model / "safety_checker/model.safetensors").write_bytes(b"not used")
    after = loading.locate(str(model))
    assert (after.sha256, after.config_sha256) == (before.sha256, before.config_sha256)
    assert loading.locate(str(model), variant="fp16").sha256 != before.sha256
    for file in ("tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json", "unet/config.json"):
        told = (model / file).read_text()
        (model / file).write_text(told + " ")
        assert loading.locate(str(model)).config_sha256 != before.config_sha256
        (model / file).write_text(told)


def test_a_single_variant_needs_no_flag(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "m", variant="fp16")
    source = loading.locate(str(tmp_path / "m"))
    assert source.variant == "fp16"
    found = loading.load(source)._pipe
    assert torch.equal(found.unet.conv_in.weight, pipe.unet.conv_in.weight)
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        weights = tmp_path / "m" / part / f"{stem}.fp16.safetensors"
        for name in ("one", "two"):
            shutil.copy(weights, weights.with_name(f"{stem}.{name}.safetensors"))
        weights.unlink()
    with pytest.raises(MemfixError, match="several variants: one, two"):
        loading.locate(str(tmp_path / "m"))


def test_weights_that_are_pickles_alone_are_refused_with_how_to_convert_them(
    model_folder: Path, tmp_path: Path
) -> None:
    """In a model and in a donor; an optimizer's state beside safetensors says nothing."""
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    (model / "unet/optimizer.bin").write_bytes(b"")
    (model / "vae/diffusion_pytorch_model.bin").write_bytes(b"")
    assert loading.locate(str(model)).sha256 == loading.locate(str(model_folder)).sha256
    (model / "vae/diffusion_pytorch_model.safetensors").unlink()
    for given in ({"model": str(model)}, {"model": str(model_folder), "donors": {"vae": str(model)}}):
        with pytest.raises(MemfixError, match=rf"weights in {model / 'vae'} are pickles \(diffusion_py") as told:
            loading.locate(**given)
        assert "use_safetensors=False" in told.value.hint
