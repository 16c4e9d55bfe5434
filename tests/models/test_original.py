"""New weights in the layout of the file that a model came from."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.models.original import write_like
from memfix.models.single_file import load_single_file
from tests.conftest import tiny_pipeline
from tests.original_layout import original_state

METADATA = {"modelspec.title": "tiny", "modelspec.prediction_type": "v"}


def test_only_the_network_is_another_one(model_folder: Path, tmp_path: Path) -> None:
    """All else stays, in half precision; a copy of the old network that a trainer kept does not."""
    pipe, source, file = tiny_pipeline(), tmp_path / "own.safetensors", tmp_path / "new.safetensors"
    state = original_state(pipe)
    averages = {"model_ema.diffusion_modelout2bias": torch.zeros(4), "model_ema.decay": torch.zeros(1)}
    save_file(state | averages | {"step": torch.tensor(7)}, source, METADATA)
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter += 0.1
    write_like(source, pipe.unet, file)
    written, wanted = load_file(file), original_state(pipe)
    assert written.keys() == state.keys() | {"step"} and written["step"] == 7
    for name, weight in wanted.items():
        assert torch.equal(written[name], weight.half()), name
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == METADATA
    found = load_single_file(file, {}, model_folder)
    for name, weight in pipe.unet.state_dict().items():
        torch.testing.assert_close(found.unet.state_dict()[name].float(), weight, atol=1e-6, rtol=1e-3)


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    pipe, source = tiny_pipeline(), tmp_path / "own.safetensors"
    save_file({"conv_in.weight": torch.zeros(1)}, source)
    with pytest.raises(MemfixError, match="weights of the UNet are not in"):
        write_like(source, pipe.unet, tmp_path / "new.safetensors")
