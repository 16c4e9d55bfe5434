"""A CLIP model of open_clip's, small enough to make and run in milliseconds; its weights are random."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

NAME = "tiny-clip"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def make(folder: Path, seed: int = 0) -> str:
    """Its NAME/PATH: open_clip knows the architecture from now on, and a checkpoint lies in `folder`."""
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(seed)
    state = open_clip.create_model(NAME).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "weights.safetensors")
    return f"{NAME}/{folder / 'weights.safetensors'}"
