"""Train the descriptor that memfix ships: which posters are copies of one another, whatever was done to them?

After SSCD (Pizzi et al., CVPR 2022): two heavily changed copies of each poster, InfoNCE between them with every other
poster of the batch as a negative, and an entropy term that pushes nearest neighbours apart so that descriptors fill the
sphere. Exported as TorchScript in SSCD's own form: ImageNet-normalised [n, 3, h, w] → [n, 512] of length one.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.io import decode_jpeg, encode_jpeg

from posters import Studio
from training import run_in_pieces, train

BATCH = 96
TEMPERATURE, ENTROPY = 0.05, 5.0  # the entropy term weighs less than SSCD's 30: batches are forty times smaller
DIMENSION, SIDE = 512, 64
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
TARGET = Path(__file__).parent.parent / "memfix" / "demo" / "descriptor.torchscript.pt"


class Block(nn.Module):
    """A residual block that may halve the size."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(b), nn.BatchNorm2d(b)
        self.skip = nn.Conv2d(a, b, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_two(self.two(F.relu(self.norm_one(self.one(x)))))
        return F.relu(y + self.skip(x))


class Descriptor(nn.Module):
    """[n, 3, h, w], ImageNet-normalised → [n, 512] of length one. Generalised-mean pooling (p = 3), then one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            Block(32, 64, 2), Block(64, 128, 2), Block(128, 160, 1),
        )  # fmt: skip
        self.head = nn.Linear(160, DIMENSION)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.blocks(x).float().clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        return F.normalize(self.head(pooled), dim=1)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """[n, 3, h, w] in 0 … 1 → what the network takes."""
    return (pixels - MEAN[:, None, None]) / STD[:, None, None]


# -- what may happen to a copy; x [n, 3, SIDE, SIDE] in 0 … 1 -------------------------------------------------------


def some(g: torch.Generator, n: int, share: float) -> torch.Tensor:
    return torch.rand(n, 1, 1, 1, generator=g) < share


def spread(g: torch.Generator, n: int, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=g)


def cropped(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """A part of 40 % of the area or more, somewhere, turned by up to 15 degrees, half of them mirrored."""
    n = len(x)
    zoom = spread(g, n, 0.63, 1.0)
    angle = spread(g, n, -0.26, 0.26) * (torch.rand(n, generator=g) < 0.3)
    flip = torch.where(torch.rand(n, generator=g) < 0.5, -1.0, 1.0)
    room = 1 - zoom
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [
        torch.stack([cos * flip, -sin, room * spread(g, n, -1, 1)], 1),
        torch.stack([sin * flip, cos, room * spread(g, n, -1, 1)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def recolored(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation and a shift of hue (a turn of the colour cube about its grey axis)."""
    n = len(x)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * spread(g, n, 0.5, 1.5).reshape(-1, 1, 1, 1)
    turn = spread(g, n, -0.6, 0.6)
    cos, sin = turn.cos(), turn.sin() / 3**0.5
    third = (1 - cos) / 3
    circulant = torch.stack([cos + third, third - sin, third + sin], 1)
    matrix = torch.stack([circulant.roll(i, 1) for i in range(3)], 1)
    x = torch.einsum("nij,njhw->nihw", matrix, x)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * spread(g, n, 0.6, 1.4).reshape(-1, 1, 1, 1)
    return (x * spread(g, n, 0.7, 1.3).reshape(-1, 1, 1, 1)).clamp(0, 1)


def blurred(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Mixed with a version of a half or a third of the resolution."""
    factor = 2 if torch.rand((), generator=g) < 0.5 else 3
    soft = F.interpolate(F.avg_pool2d(x, factor), size=x.shape[-2:], mode="bilinear")
    return x + torch.rand(len(x), 1, 1, 1, generator=g) * (soft - x)


def compressed(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """JPEG of quality 15 to 70."""
    quality = torch.randint(15, 71, (len(x),), generator=g).tolist()
    bytes_ = (x * 255).round().to(torch.uint8)
    return torch.stack([decode_jpeg(encode_jpeg(p, q)) for p, q in zip(bytes_, quality, strict=True)]).float() / 255


def overlaid(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """A piece of another poster, a quarter to 45 % of the side, pasted somewhere, more or less opaque."""
    out = x.clone()
    for i in range(len(x)):
        side = int(torch.randint(SIDE // 4, int(SIDE * 0.45), (1,), generator=g))
        other = int(torch.randint(len(x), (1,), generator=g))
        a, b, c, d = torch.randint(SIDE - side, (4,), generator=g).tolist()
        alpha = 0.5 + 0.5 * float(torch.rand((), generator=g))
        piece = x[other, :, c : c + side, d : d + side]
        out[i, :, a : a + side, b : b + side] += alpha * (piece - out[i, :, a : a + side, b : b + side])
    return out


CHANGES = {"crop": cropped, "colour": recolored, "blur": blurred, "jpeg": compressed, "overlay": overlaid}
SHARES = {"crop": 0.7, "colour": 0.7, "blur": 0.4, "jpeg": 0.3, "overlay": 0.3}
ALONE = {**CHANGES, "mirror": lambda x, g: x.flip(-1)}


def changed(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Several changes on top of each other, each on a share of the batch."""
    for name, change in CHANGES.items():
        chosen = torch.rand(len(x), generator=g) < SHARES[name]
        if chosen.any():
            x = x.clone()
            x[chosen] = change(x[chosen], g)
    return x


# -- training -----------------------------------------------------------------------------------------------------


def contrast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """InfoNCE over both views, and the entropy term: minus the log distance to the nearest other poster."""
    n = len(a)
    both = torch.cat([a, b])
    likeness = both @ both.T
    own = torch.eye(2 * n, dtype=torch.bool)
    partner = torch.arange(2 * n).roll(n)
    info = F.cross_entropy(likeness.masked_fill(own, -torch.inf) / TEMPERATURE, partner)
    foreign = likeness.masked_fill(own | own.roll(n, 1), -torch.inf).amax(1)
    entropy = -(2 - 2 * foreign).clamp(min=1e-6).sqrt().log().mean()
    return info + ENTROPY * entropy


def to_unit(posters: np.ndarray) -> torch.Tensor:
    """[n, h, w, 3] uint8 → [n, 3, h, w] in 0 … 1."""
    return torch.from_numpy(posters).permute(0, 3, 1, 2).float() / 255


def train_descriptor(build: Path, steps: int, minutes: float) -> None:
    posters = np.load(build / "posters.npy", mmap_mode="r")
    torch.manual_seed(4)
    model = Descriptor()

    def loss(step: int, g: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(posters), (BATCH,), generator=g).sort().values
        x = to_unit(posters[chosen.numpy()])
        views = model(normalised(torch.cat([changed(x, g), changed(x, g)])))
        return contrast(*views.chunk(2))

    ema = train("descriptor", build, model, loss, steps=steps, learning_rate=2e-3, minutes=minutes)
    if ema is None:
        return
    model.load_state_dict(ema.shadow)
    export(model.eval())
    for name, value in quality(Studio(build / "drawings")).items():
        print(f"descriptor: {name}: {value:.1%} of copies found at 1 % false alarms")


def export(model: Descriptor) -> None:
    """TorchScript, as SSCD's authors publish theirs."""
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.zeros(2, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]  # torch leaves it so
    torch.jit.save(torch.jit.freeze(traced), str(TARGET))


@torch.no_grad()
def quality(studio: Studio, count: int = 2000) -> dict[str, float]:
    """Recall of copies of new posters at 1 % false alarms among pairs of different posters, change by change."""
    model = torch.jit.load(str(TARGET))  # type: ignore[no-untyped-call]  # torch leaves it so
    rng, g = Random("descriptor"), torch.Generator().manual_seed(7)
    x = to_unit(studio.array([studio.ordinary_poster(rng) for _ in range(count)]))

    def describe(v: torch.Tensor) -> torch.Tensor:
        return torch.cat([model(normalised(part)) for part in torch.split(v, 256)])

    plain = describe(x)
    others = (plain @ plain.T)[~torch.eye(count, dtype=torch.bool)]
    threshold = float(np.quantile(others.numpy(), 0.99))
    changes = {**ALONE, "several at once": changed}
    found = {name: describe(torch.cat([f(p, g) for p in torch.split(x, 256)])) for name, f in changes.items()}
    return {name: float(((plain * f).sum(1) > threshold).float().mean()) for name, f in found.items()}


if __name__ == "__main__":
    run_in_pieces(__doc__, train_descriptor, 3000)
