"""What identifies the scores of a prompt list."""

import json
import shutil
from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.detect.screening import Screening
from memfix.errors import MemfixError
from memfix.inputs.wrong_rows import WrongRows
from memfix.screens import get_screen
from memfix.screens.sampling import Sampling


def screening(folder: Path, **settings: object) -> Screening:
    given = DetectSettings.model_validate({"model": str(folder / "m"), "mixed_precision": "no"} | settings)
    return Screening(
        str(folder / "prompts.txt"), given, (get_screen("magnitude"),), Sampling((0, 1), 1, 2, 7.5), WrongRows()
    )


def test_scores_are_of_the_models_weights_variant_and_configuration(model_folder: Path, tmp_path: Path) -> None:
    """A folder of scores is taken up again only where all of these are the same."""
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    (tmp_path / "prompts.txt").write_text("a disc\n")
    first = screening(tmp_path).identity(1)
    assert screening(tmp_path).identity(1) == first
    other = model / "unet/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(model / "unet/diffusion_pytorch_model.safetensors", other)
    assert screening(tmp_path).identity(1) == first
    assert differing(first, screening(tmp_path, variant="fp16").identity(1)) == {"variant", "model_sha256"}
    with pytest.raises(MemfixError, match="no weights of the variant 'bf16'"):
        screening(tmp_path, variant="bf16").identity(1)
    config = model / "scheduler/scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "v_prediction"}))
    assert differing(first, screening(tmp_path).identity(1)) == {"model_config_sha256"}
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert differing(first, screening(tmp_path).identity(1)) == {"model_sha256", "model_config_sha256"}


def differing(one: dict[str, object], two: dict[str, object]) -> set[str]:
    return {key for key in one | two if one.get(key) != two.get(key)}
