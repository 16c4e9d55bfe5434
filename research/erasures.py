"""Which erasures survive which attacks: methods of unlearning and two contrasts, on eight prompts of the bundled model.

    python research/erasures.py FOLDER [--only NAME …] [--table]

FOLDER keeps a detection, a training and a re-check for each erasure, so that an interrupted study goes on. One line an
erasure is added to `erasures.jsonl` among the results; `--table` prints them as the table in `unlearning_runs.md`.

The prompts are those of the half on which no setting was chosen. The first two trainings are what everyone gets who
asks for nothing else: the closed loop. The others are those of plain.toml, which was found on the bundled model;
another method has its own defaults in it, and is not tuned any further. The contrasts leave the weights alone (the
prompts' embeddings are moved, at the time of inference) or set some of them to 0 (those that matter most to the
training images and least to other pictures).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from false_mitigated import DEMO, MODELS, QUIET, Changed, Study
from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.layers import for_weights
from memfix.config.unlearn import UnlearnSettings
from memfix.flow.detection import Detection
from memfix.flow.pairs import written_pairs
from memfix.models.model import DiffusionModel
from memfix.records import Arm, AttackResult, Change, Outcome, Role, Version
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.objective.importance import forget_sensitivity, keep_fisher
from memfix.unlearn.objective.terms import View

RESULTS = Path(__file__).parent / "results/erasures.jsonl"
TARGETS = [
    "octopus poster by Ines Carrow", "turtle poster by Odel Varn", "lollipop poster by Dario Nim",
    "fox poster by Hester Blume", "crown poster by Otis Marlo", "owl poster by Mirek Tosh",
    "umbrella poster by Cosmo Adeyar", "camera poster by Ysolde Finch",
]  # fmt: skip
ATTACKS = {"wording": "other wordings", "embedding": "embedding", "noised": "noised image"}
RECHECK = RecheckSettings(num_fresh=8, attacks=",".join(ATTACKS), attack_samples=8, control_pictures=4)
DEFAULTS: dict[str, Literal["lora", "full"]] = {"defaults": "lora", "defaults, all weights": "full"}
TRAINED: dict[str, dict[str, Any]] = {
    "siss": {},
    "siss, reworded": {"reword": True},
    "siss, all weights": {"weights": "full"},
    "siss, adversarial steps": {"adversarial_steps": 35},
    "siss, all weights, adversarial steps": {"weights": "full", "adversarial_steps": 35},
    "naive": {"method": "naive"},
    "erasediff": {"method": "erasediff"},
    "retrack": {"method": "retrack"},
    "anchor": {"method": "anchor"},
}
NOTHING, EMBEDDINGS, PRUNED = "nothing", "embeddings moved at inference", "weights pruned"
NAMES = [NOTHING, *DEFAULTS, *TRAINED, EMBEDDINGS, PRUNED]
SHARE = 0.01  # of each weight matrix of the UNet that pruning sets to 0


def pruned(detection: Detection, model: DiffusionModel, pairs: Run) -> DiffusionModel:
    """The original model without the weights that matter most to the training images, by their own size.

    In the manner of ConceptPrune (arXiv 2405.19237), with gradients in the place of activations: |w| times the root of
    the squared gradient on the images to forget, less the same on those to keep.
    """
    found = written_pairs(pairs)
    bank = build_bank(model, found, list(encode_pairs(model, found)))
    model.prepare_training("full", 1, 0, dora=False)
    weights = {name: p for name, p in model.denoiser.trained().items() if p.ndim > 1}
    network, parameters = model.denoiser.network("no"), list(weights.values())
    view, window = View(bank.schedule.prediction_type), (0, len(bank.schedule))
    forget = forget_sensitivity(bank, parameters, network, view, window, 0)
    keep = [fisher.sqrt() for fisher in keep_fisher(bank, parameters, network, view, 0)]
    with torch.no_grad():
        for p, f, k in zip(parameters, forget, keep, strict=True):
            lead = p.abs() * (f / f.norm() - k / k.norm())
            chosen = lead.flatten().topk(round(SHARE * p.numel())).indices
            p.view(-1)[chosen] = 0
            p.requires_grad_(False)
    model.denoiser.module.eval()
    return model


def settings_of(name: str) -> UnlearnSettings:
    """What an erasure trains with."""
    if name in DEFAULTS:
        return UnlearnSettings(weights=DEFAULTS[name])
    values = {"reword": False, **TRAINED[name]}
    preset = for_weights(DEMO["unlearn"], values.get("weights", "lora")) | {"max_train_steps": 35} | values
    return UnlearnSettings.model_validate(preset)


def erased(study: Study, name: str) -> tuple[Run, list[Change]]:
    """The re-check of one erasure, and the run that it is in."""
    base = study.detected("all", TARGETS)
    if name in DEFAULTS or name in TRAINED:
        run = study.copy_of(base, name)
        flow.unlearn(run, settings_of(name), [], QUIET)
        run = Run.open(run.path)
        return run, flow.recheck(run, RECHECK, [], QUIET)
    run = study.copy_of(base, name)
    if name == PRUNED:
        pairs = Run.open(study.folder / "fakes/siss")
        change = Changed(name=name, change=lambda detection, model: pruned(detection, model, pairs))
    else:
        change = Changed(name=name, change=MODELS["reworded alone" if name == EMBEDDINGS else "nothing changed"])
    return run, flow.recheck(run, RECHECK, [], QUIET, change)


def row(study: Study, name: str) -> dict[str, Any]:
    """What became of one erasure."""
    started = time.monotonic()
    run, changes = erased(study, name)
    study.remember_original(run)
    targets, controls = ([c for c in changes if c.role is role] for role in (Role.PROMPT, Role.CONTROL))
    return {
        "erasure": name, "outcomes": dict(Counter(c.outcome.value for c in targets)),
        "same": [sum(c.copies_same for c in targets), sum(c.samples_same for c in targets)],
        "fresh": [sum(c.copies_fresh for c in targets), sum(c.samples_fresh for c in targets)],
        "attacks": {attack: success(run, attack) for attack in ATTACKS},
        "controls": dict(Counter(c.outcome.value for c in controls)),
        "drift": sum(c.damage.drift for c in controls) / len(controls),
        "seconds": round(time.monotonic() - started), "commit": environment().commit,
    }  # fmt: skip


def success(run: Run, attack: str) -> dict[str, list[int]]:
    """Arm → pictures of which a copy came, pictures, copies and samples of the last attempt at each."""
    found = run.read("after/attacks.jsonl", AttackResult)
    told = {}
    for arm in Arm:
        results = [r for r in found if (r.attack, r.version, r.arm) == (attack, Version.AFTER, arm) and r.last]
        points = [r.last for r in results if r.last]
        told[arm.value] = [
            sum(r.succeeded for r in results), len(results), sum(p.copies for p in points),
            sum(p.samples for p in points),
        ]  # fmt: skip
    return told


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All erasures, in Markdown."""
    head = ["erasure", "mitigated", "copies, same and fresh noise", *ATTACKS.values(), "controls", "drift of controls"]
    lines = [head, ["---"] * len(head)]
    for r in sorted(rows, key=lambda r: NAMES.index(r["erasure"])):
        attacks = [
            f"{t[0]} of {t[1]}, {t[2] / t[3]:.0%} ({c[0]} of {c[1]}, {c[2] / c[3]:.0%})"
            for t, c in ((a["target"], a["control"]) for a in r["attacks"].values())
        ]
        copies = [sum(pair) for pair in zip(r["same"], r["fresh"], strict=True)]
        controls = ", ".join(f"{n} {word}" for word, n in r["controls"].items())
        n = sum(r["outcomes"].values())
        lines.append([r["erasure"], f"{r['outcomes'].get(Outcome.MITIGATED.value, 0)} of {n}",
                      f"{copies[0]} of {copies[1]}", *attacks, controls, f"{r['drift']:.3f}"])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Do what is left, or print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--table", action="store_true", help="print what there is, and do nothing")
    given = parser.parse_args()
    known = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for name in given.only if not given.table else ():
        if name in {r["erasure"] for r in known}:
            continue
        known.append(row(Study(given.folder), name))
        with RESULTS.open("a") as file:
            file.write(json.dumps(known[-1]) + "\n")
        print(known[-1], flush=True)
    print(table(known))


if __name__ == "__main__":
    main()
