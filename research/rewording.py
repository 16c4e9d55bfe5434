"""Does rewording hide a memory or repair a prompt? Both orders, on the pairs of a finished LoRA run.

    memfix demo --reword -o RUN
    python research/rewording.py RUN

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

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.flow.pairs import written_pairs
from memfix.models.context import ContextEdit, build_in
from memfix.models.model import DiffusionModel
from memfix.records import Pair, Rewording
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.data.sampler import Asked, Sampler
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.rewording import the_edit
from memfix.unlearn.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from recognizer import object_names, recognize

FRESH = 200_000


def inverse(edit: ContextEdit) -> ContextEdit:
    """The edit that takes another off again (Woodbury)."""
    core = torch.linalg.inv(torch.eye(len(edit.read)) + edit.read @ edit.write)
    return ContextEdit(edit.read, -edit.write @ core)


def train_adapter(
    model: DiffusionModel, pairs: list[Pair], latents: list[torch.Tensor], settings: UnlearnSettings, precision: str
) -> None:
    model.prepare_training("lora", settings.rank, 0, False)
    bank = build_bank(model, pairs, latents)
    network, weights = model.denoiser.network(precision), model.denoiser.trained()
    for _ in Trainer(network, weights, bank, get_method(settings.method), settings, precision):
        pass
    model.denoiser.module.eval()
    model.adapters.fuse_trained()


def rows(run: Run) -> Iterator[dict[str, object]]:
    detection, unlearned = Detection.of(run), run.header.stages.unlearn
    assert unlearned
    settings, detected = unlearned.settings, detection.settings.model_copy(update={"seed": FRESH})
    pairs = written_pairs(run)
    reworded = [r for r in run.read("rewordings.jsonl", Rewording) if r.wording]
    if not reworded:
        sys.exit(f"No prompt of {run.path} has a safe shorter wording; was it unlearned with --reword?")
    prompts = [Asked(r.prompt_id, r.text) for r in reworded]
    judge, model = detection.judge(), detection.model()
    module = model.denoiser.module
    original = copy.deepcopy(module.state_dict())
    others = [p.text for p in detection.prompts]
    edit = the_edit(model, {r.text: r.wording or "" for r in reworded}, others)
    latents = list(encode_pairs(model, pairs))
    names = sorted(object_names(), key=len, reverse=True)

    def look(state: str) -> dict[str, object]:
        found = list(Sampler(model, judge, detected, Talk(quiet=True))(prompts, detected.num_samples, state))
        named = recognize(np.stack([np.asarray(image) for _, image, _ in found]))
        wanted = [next(n for n in names if n in made.text) for made, _, _ in found]
        copies = sum(score.copy_ for _, _, score in found)
        shown = np.mean([a == b for a, b in zip(named, wanted, strict=True)])
        return {"weights": state, "samples": len(found), "copies": copies / len(found), "object shown": float(shown)}

    yield look("original")
    build_in(module, edit)
    yield look("reworded, not trained")
    train_adapter(model, pairs, latents, settings, detected.mixed_precision)
    yield look("reworded, then trained")
    build_in(module, inverse(edit))
    yield look("reworded, then trained, rewording taken off")
    module.load_state_dict(original)
    train_adapter(model, pairs, latents, settings, detected.mixed_precision)
    yield look("trained")
    build_in(module, edit)
    yield look("trained, then reworded (what memfix does)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    found = list(rows(run))
    if arguments.json:
        print(json.dumps({"rows": found, "environment": environment().model_dump()}))
        return
    table = Table("weights", "samples", "copies", "object shown", box=None, pad_edge=False)
    for r in found:
        table.add_row(str(r["weights"]), str(r["samples"]), f"{r['copies']:.1%}", f"{r['object shown']:.1%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
