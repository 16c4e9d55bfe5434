"""A descriptor that tests can ask how much it was made to do."""

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.measures.descriptor import Pixels


class Counting(Pixels):
    """The real descriptor, which remembers how many pictures it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.seen += len(images)
        return super().__call__(images)
