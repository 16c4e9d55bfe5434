"""Train a small classifier that names the object on a poster: it tells whether generated posters show what was asked.

Used by the recipe's own checks and by research/demo.py; memfix itself knows nothing of it.
"""

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from posters import Studio
from training import run_in_pieces, train
from vae import to_pixels

BATCH = 96
WEIGHTS = Path(__file__).parent / "recognizer.safetensors"


class Recognizer(nn.Sequential):
    """[n, 3, 64, 64] in -1 … 1 → logits [n, objects]."""

    def __init__(self, objects: int) -> None:
        layers: list[nn.Module] = []
        channels = [3, 32, 64, 128, 192]
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels[-1], objects)]
        super().__init__(*layers)


def augmented(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror, blur, noise and brightness: what a generated poster may differ in from a real one."""
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(-1)
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    amount = torch.rand(len(x), 1, 1, 1, generator=generator)
    x = x + amount * (torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5) * (blurred - x)
    shade = 1 + 0.2 * (torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5)
    return x * shade + 0.04 * torch.randn(x.shape, generator=generator)


def train_recognizer(build: Path, steps: int, minutes: float) -> None:
    studio = Studio(build / "drawings")
    posters = np.load(build / "posters.npy", mmap_mode="r")
    rows = [json.loads(line) for line in (build / "posters.jsonl").read_text().splitlines()]
    labels = torch.tensor([studio.objects.index(r["object"]) for r in rows])
    torch.manual_seed(2)
    model = Recognizer(len(studio.objects))

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(posters), (BATCH,), generator=generator).sort().values
        x = augmented(to_pixels(posters[chosen.numpy()]), generator)
        return F.cross_entropy(model(x).float(), labels[chosen], label_smoothing=0.05)

    ema = train("recognizer", build, model, loss, steps=steps, learning_rate=2e-3, minutes=minutes)
    if ema is None:
        return
    save_file({k: v.half() for k, v in model.state_dict().items()}, WEIGHTS, {"objects": json.dumps(studio.objects)})
    rng = Random("held out")
    fresh = [studio.ordinary_poster(rng) for _ in range(2000)]
    named = recognize(studio.array(fresh))
    right = np.mean([n == p.object for n, p in zip(named, fresh, strict=True)])
    print(f"recognizer: {right:.1%} of {len(fresh)} new posters named")


def object_names() -> list[str]:
    """What the trained recognizer can name, in the order of its logits."""
    with safe_open(WEIGHTS, "pt") as file:
        names: list[str] = json.loads(file.metadata()["objects"])
    return names


@torch.no_grad()
def recognize(posters: np.ndarray) -> list[str]:
    """[n, 64, 64, 3] uint8 → the object on each."""
    objects = object_names()
    model = Recognizer(len(objects)).eval()
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(WEIGHTS).items()})
    chosen = [model(to_pixels(posters[i : i + 256])).argmax(1) for i in range(0, len(posters), 256)]
    return [objects[i] for i in torch.cat(chosen)]


if __name__ == "__main__":
    run_in_pieces(__doc__, train_recognizer, 2500)
