"""Parts that a model is loaded without, or that do nothing here, are in what is saved of it."""

import json
from pathlib import Path

from transformers import CLIPImageProcessor

from memfix.models import folders, loading
from tests.conftest import tiny_pipeline


def test_parts_that_were_saved_already_stay(tmp_path: Path) -> None:
    """Stable Diffusion 1.5 has a feature extractor, which pipelines load and save themselves."""
    pipe = tiny_pipeline()
    pipe.register_modules(feature_extractor=CLIPImageProcessor())
    pipe.save_pretrained(tmp_path / "own")
    loading.load(loading.locate(str(tmp_path / "own"))).save(tmp_path / "new")
    for _ in range(2):
        folders.keep_unused(tmp_path / "own", tmp_path / "new")
    assert (tmp_path / "new/feature_extractor/preprocessor_config.json").is_file()
    told = json.loads((tmp_path / "new" / folders.INDEX).read_text())
    assert told["feature_extractor"][1] == "CLIPImageProcessor"
