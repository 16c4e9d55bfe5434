"""CLIP through open_clip: what a picture is of. It finds candidates and says whether a picture fits its prompt.

No criterion for copies: two photographs of the same kind of scene are alike to CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError

from memfix.errors import ExitCode, MemfixError
from memfix.measures.weights import Weights
from memfix.models.device import device

BATCH = 64


class Clip:
    """Descriptors of pictures and of texts in one space. `model` is open_clip's NAME/TAG, or NAME/PATH of a checkpoint.

    Checkpoints must be safetensors; open_clip's own tags come as such from the hub. `identity` names architecture,
    contents of the weights and preprocessing, so that a replaced checkpoint is another model and a moved one is not.
    """

    name = "clip"

    def __init__(self, model: str) -> None:
        import open_clip

        name, _, tag = model.partition("/")
        if name not in open_clip.list_models():
            raise MemfixError(f"open_clip has no model {name}.", "Write NAME/TAG, as in ViT-B-32/laion2b_s34b_b79k.")
        if not tag:
            raise MemfixError(
                f"The CLIP model {model} does not name its weights.", _forms(open_clip, name), ExitCode.USAGE
            )
        if tag.endswith((".pt", ".pth", ".bin", ".ckpt")):
            raise MemfixError(f"{tag} is a pickle file, which memfix does not load.", "Give a .safetensors checkpoint.")
        try:
            self.weights = _weights(open_clip, name, tag)
            self._network, _, self._transform = open_clip.create_model_and_transforms(
                name, pretrained=tag, device=device()
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise MemfixError(
                f"The CLIP model {model} cannot be loaded: {str(error).strip().splitlines()[0]}",
                _forms(open_clip, name),
            ) from None
        self._network.eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self.identity = f"{family(model)}, sha256 {self.weights.sha256}, {_preprocessing(self._network)}"
        self.dimension = int(self.texts([""]).shape[1])

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        parts = []
        for start in range(0, len(images), BATCH):
            batch = torch.stack([self._transform(image.convert("RGB")) for image in images[start : start + BATCH]])
            parts.append(F.normalize(self._network.encode_image(batch.to(device())).float(), dim=1).cpu())
        return torch.cat(parts) if parts else torch.empty(0, self.dimension)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[n, dimension] of texts: the cosine with a picture says how well it fits."""
        tokens = self._tokenizer(list(texts)).to(device())
        return F.normalize(self._network.encode_text(tokens).float(), dim=1).cpu()


def family(model: str) -> str:
    """How the identity of a model begins, whatever its weights."""
    return f"open_clip {model.partition('/')[0]}"


def tag_of(model: str) -> str | None:
    """The pretrained tag, as open_clip spells it; None if it is a path, as no tag has a dot or a slash."""
    tag = model.partition("/")[2]
    return None if not tag or set("./\\") & set(tag) else tag.lower().replace("-", "_")


def _weights(library: Any, name: str, tag: str) -> Weights:
    """The file of a tag, downloaded once, or of a path."""
    known = library.get_pretrained_cfg(name, tag)
    path = Path(library.download_pretrained(known) if known else tag)
    if not path.is_file():
        raise FileNotFoundError(f"{tag} is neither a tag of {name} nor a file")
    return Weights.of(path, f"{name}/{tag if known else path.absolute()}")


def _preprocessing(network: Any) -> str:
    """Size, scaling and normalisation of its pictures: a tag may have its own, a file has those of its architecture."""
    c = network.visual.preprocess_cfg
    mean, std = (" ".join(f"{x:.4g}" for x in c[key]) for key in ("mean", "std"))
    size = c["size"] if isinstance(c["size"], int) else "x".join(map(str, c["size"]))
    return f"{size}, {c['resize_mode']}, {c['interpolation']}, mean {mean}, std {std}"


def _forms(library: Any, name: str) -> str:
    tags = library.list_pretrained_tags_by_model(name)
    path = f"{name}/PATH of a .safetensors checkpoint"
    return f"Give {name}/TAG with one of: {', '.join(tags)}; or {path}." if tags else f"It has no tags: give {path}."
