"""Does rewording hide a memory or repair a prompt? Both orders, on the pairs of a finished LoRA run.

    python research/rewording.py runs/demo-…

Each row is a state of the weights: copies in fresh samples of the prompts that have a safe shorter wording, and the
share of their pictures on which the recipe's recognizer names their object.
"""

import argparse
import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memfix.config import UnlearnSettings
from memfix.console import Talk
from memfix.models import lora
from memfix.models.context import ContextEdit, build_in
from memfix.opening import detect_settings, gallery_of, load
from memfix.records import Pair, Prompt, Rewording
from memfix.runs import Run
from memfix.unlearn.methods import get_method
from memfix.unlearn.prepare import build_bank, encode_pairs
from memfix.unlearn.resample import Sampler, the_edit
from memfix.unlearn.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from recognizer import object_names, recognize

FRESH = 200_000


def inverse(edit: ContextEdit) -> ContextEdit:
    """The edit that takes another off again (Woodbury)."""
    core = torch.linalg.inv(torch.eye(len(edit.read)) + edit.read @ edit.write)
    return ContextEdit(edit.read, -edit.write @ core)


def train_adapter(pipe, pairs: list[Pair], latents: list[torch.Tensor], settings: UnlearnSettings, precision: str):
    parameters = lora.add(pipe.unet, settings.rank)
    pipe.unet.train()
    bank = build_bank(pipe, pairs, latents)
    for _ in Trainer(pipe.unet, parameters, bank, get_method(settings.method), settings, precision):
        pass
    pipe.unet.eval()
    pipe.fuse_lora()
    pipe.unload_lora_weights()


def rows(run: Run) -> Iterator[dict[str, object]]:
    detected, settings = detect_settings(run), UnlearnSettings.model_validate(run.settings("unlearn"))
    detected = detected.model_copy(update={"seed": FRESH})
    pairs = run.read("pairs.jsonl", Pair)
    reworded = [r for r in run.read("rewordings.jsonl", Rewording) if r.wording]
    prompts = [Prompt(id=r.prompt_id, text=r.text) for r in reworded]
    gallery = gallery_of(run, detected)
    pipe = load(run)
    original = copy.deepcopy(pipe.unet)
    others = [p.text for p in run.read("prompts.jsonl", Prompt)]
    edit = the_edit(pipe, {r.text: r.wording or "" for r in reworded}, others)
    latents = list(encode_pairs(pipe, pairs))
    names = sorted(object_names(), key=len, reverse=True)

    def look(state: str) -> dict[str, object]:
        found = list(Sampler(pipe, gallery, detected, Talk(quiet=True))(prompts, detected.num_samples, state))
        named = recognize(np.stack([np.asarray(image) for _, image, _ in found]))
        wanted = [next(n for n in names if n in made.text) for made, _, _ in found]
        copies = sum(score.copy_ for _, _, score in found)
        shown = np.mean([a == b for a, b in zip(named, wanted, strict=True)])
        return {"weights": state, "samples": len(found), "copies": copies / len(found), "object shown": float(shown)}

    yield look("original")
    build_in(pipe.unet, edit)
    yield look("reworded, not trained")
    train_adapter(pipe, pairs, latents, settings, detected.mixed_precision)
    yield look("reworded, then trained")
    build_in(pipe.unet, inverse(edit))
    yield look("reworded, then trained, rewording taken off")
    pipe.unet = original
    train_adapter(pipe, pairs, latents, settings, detected.mixed_precision)
    yield look("trained")
    build_in(pipe.unet, edit)
    yield look("trained, then reworded (what memfix does)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    found = list(rows(run))
    if arguments.json:
        print(json.dumps({"rows": found, "environment": run.header["environment"]}))
        return
    table = Table("weights", "samples", "copies", "object shown", box=None, pad_edge=False)
    for r in found:
        table.add_row(str(r["weights"]), str(r["samples"]), f"{r['copies']:.1%}", f"{r['object shown']:.1%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
