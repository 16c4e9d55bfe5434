"""Could a sample be given up after a few of its steps? How early copies part from other samples, and what that saves.

    OMP_NUM_THREADS=1 python research/early_end.py FOLDER    # that of research/detection.py, once done

Before each step the clean latent that the UNet predicts is compared with the encoded references (cosine of both without
their channel means, to the nearest). The threshold of a step lets 99.5 % of the copies go on: copies by the
verdicts of the full detection, and the same samples as set the threshold, so that it is as good as it can be. `cost` is
in UNet evaluations of the list, relative to taking all steps of all samples. Clean captions are represented by 50.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memfix.console import emit
from memfix.flow.detection import Detection
from memfix.inputs.opening import open_image
from memfix.models.device import autocast
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.screens.base import probe
from memfix.screens.sampling import Sampling

CLEAN, GO_ON = 50, 0.995


def directions(latents: torch.Tensor) -> torch.Tensor:
    """[n, C, h, w] → unit vectors [n, C·h·w], without the mean of each channel."""
    return torch.nn.functional.normalize((latents - latents.mean((-1, -2), keepdim=True)).flatten(1))


@torch.no_grad()
def likeness(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likeness to the nearest reference [P, steps, seeds], whether a sample is a copy [P, seeds], weights [P]."""
    detection = Detection.of(Run.open(folder))
    settings, model = detection.settings, detection.model()
    copies: dict[str, list[bool]] = {}
    for score in detection.scores:
        copies.setdefault(score.prompt_id, []).append(score.copy_)
    clean = [i for i, marks in copies.items() if not any(marks)]
    drawn = set(np.random.default_rng(0).choice(clean, CLEAN, replace=False))
    chosen = [p for p in detection.prompts if any(copies[p.id]) or p.id in drawn]
    pictures = [open_image(r.path) for r in detection.references]
    references = directions(torch.stack(list(model.latents.encode(pictures))))
    seeds = tuple(range(settings.seed, settings.seed + settings.num_samples))
    sampling = Sampling(seeds, settings.num_inference_steps, settings.num_inference_steps, settings.guidance_scale)
    found = []
    for done, prompt in enumerate(chosen, 1):
        print(f"\r{done} of {len(chosen)}", end="", file=sys.stderr, flush=True)
        with autocast(settings.mixed_precision):
            walk = probe(model, [prompt.text], sampling)
            found.append([(directions(s.clean.float().cpu()) @ references.T).amax(1).tolist() for s in walk])
    weight = [1.0 if any(copies[p.id]) else len(clean) / CLEAN for p in chosen]
    return np.array(found), np.array([copies[p.id] for p in chosen]), np.array(weight)


def rows(near: np.ndarray, copies: np.ndarray, weight: np.ndarray) -> Iterator[dict[str, Any]]:
    """One for each step: who goes on, what the list costs, whose verdict changes."""
    steps = near.shape[1]
    for step in range(steps):
        now = near[:, step]
        on = now >= np.quantile(now[copies], 1 - GO_ON)
        share = float((on.mean(1) * weight).sum() / weight.sum())
        others = (~copies) * weight[:, None]
        lost = copies.any(1) & ~(copies & on).any(1)
        yield {
            "step": step + 1, "others go on": float((on * others).sum() / others.sum()), "all go on": share,
            "cost": (step + 1 + share * (steps - step - 1)) / steps, "verdicts lost": int(lost.sum()),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = list(rows(*likeness(options.folder / "full")))
    if options.json:
        emit({"rows": found, "environment": environment().model_dump()})
        return
    table = Table("step", *list(found[0])[1:], title="Samples given up at a step")
    for row in found:
        table.add_row(str(row["step"]), *(f"{row[k]:.3f}" for k in list(row)[1:4]), str(row["verdicts lost"]))
    Console().print(table)


if __name__ == "__main__":
    main()
