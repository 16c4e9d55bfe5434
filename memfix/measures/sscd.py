"""SSCD copy detection (Pizzi et al., CVPR 2022, arXiv 2202.10261), and any network exported in its form.

That form: TorchScript, ImageNet-normalised [n, 3, h, w] → [n, d].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from memfix.errors import MemfixError
from memfix.measures.weights import Weights
from memfix.models.device import device

PIXEL_MEAN, PIXEL_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SHORT_SIDE = 288  # the authors' input; they crop nothing
BATCH = 32
FORM = "Give TorchScript in the form of SSCD's: ImageNet-normalised float [n, 3, h, w] of any size → float [n, d]."


class Sscd:
    """Descriptors of pictures, whatever their size; none depends on what it is batched with.

    `side` is the length that the short side is scaled to. `identity` names weights and preprocessing: two descriptors
    compare only if theirs is the same.
    """

    def __init__(self, weights: Weights, name: str = "sscd", side: int = SHORT_SIDE) -> None:
        try:
            with warnings.catch_warnings():  # torch announces the end of TorchScript, in which SSCD is published
                warnings.simplefilter("ignore", FutureWarning)
                network = torch.jit.load(  # type: ignore[no-untyped-call]  # torch leaves load untyped
                    str(weights.path), map_location=device()
                )
        except RuntimeError as error:
            raise MemfixError(
                f"{weights.path} is not a TorchScript file: {str(error).strip().splitlines()[0]}",
                "Give the file ending in .torchscript.pt that the authors of SSCD publish.",
            ) from None
        self._network, self.weights = network.eval(), weights
        self.name, self.side = name, side
        self.identity = (
            f"sha256 {weights.sha256}, short side {side}, long side cut off, bilinear, ImageNet mean and std"
        )
        self.dimension = int(self._describe(torch.zeros(1, 3, side, side)).shape[1])

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        inputs = [self._input(image) for image in images]
        by_shape: dict[torch.Size, list[int]] = {}
        for i, x in enumerate(inputs):
            by_shape.setdefault(x.shape, []).append(i)
        out = torch.empty(len(inputs), self.dimension)
        for places in by_shape.values():
            for start in range(0, len(places), BATCH):
                chosen = places[start : start + BATCH]
                out[chosen] = self._describe(torch.stack([inputs[i] for i in chosen]))
        return out

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a picture is scaled to: as torchvision's Resize, it cuts fractions of a pixel off."""
        short = min(width, height)
        return int(self.side * width / short), int(self.side * height / short)

    def _input(self, image: Image.Image) -> torch.Tensor:
        size = self.input_size(*image.size)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32) / 255
        return ((torch.from_numpy(pixels) - PIXEL_MEAN) / PIXEL_STD).permute(2, 0, 1)

    @torch.no_grad()
    def _describe(self, x: torch.Tensor) -> torch.Tensor:
        try:
            found = self._network(x.to(device()))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AttributeError) as error:  # of the last, where the program has no forward()
            raise MemfixError(
                f"{self.weights.path} fails on a tensor {list(x.shape)}: {_last_line(error)}", FORM
            ) from None
        if not (isinstance(found, torch.Tensor) and found.is_floating_point() and _is_row_each(found, len(x))):
            raise MemfixError(f"{self.weights.path} gives {_words(found)} for a tensor {list(x.shape)}.", FORM)
        return F.normalize(found.float(), dim=1).cpu()


def _is_row_each(found: torch.Tensor, n: int) -> bool:
    return found.ndim == 2 and len(found) == n and found.shape[1] > 0


def _words(found: object) -> str:
    if isinstance(found, torch.Tensor):
        return f"a {str(found.dtype).removeprefix('torch.')} tensor {list(found.shape)}"
    return f"a {type(found).__name__}"


def _last_line(error: Exception) -> str:
    """What went wrong: a TorchScript traceback has it at its end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
