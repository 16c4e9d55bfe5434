"""`memfix attack`: the attacks alone, on any weights; several processes may share them."""

from __future__ import annotations

import json
from pathlib import Path

from memfix.config.checks import RecheckSettings
from memfix.console import Talk
from memfix.files import digest, held, write_atomic
from memfix.flow.attacks import RESULTS, Attacks, inputs_of
from memfix.flow.detection import Detection
from memfix.flow.memory import sampling_memory
from memfix.flow.new_weights import NewWeights
from memfix.run.folder import Run
from memfix.run.outputs import ATTACKED
from memfix.world import World

ABOUT = "attack.json"
READ = ("attacks", "attack_samples", "attack_seed", "control_pictures")  # settings that attacks depend on


def attack(run: Run, settings: RecheckSettings, talk: Talk, weights: NewWeights, world: World) -> Attacks:
    """Attack weights under the prompts that a run found memorized; what was found before is taken up.

    Results go to a folder of the run that weights and settings give its name. Each rank takes its part; the one that
    ends last knows all results. Raises MemfixError where anything that the detection read is not what it was.
    """
    detection = Detection.of(run)
    detection.require_unchanged()
    weights.require_as_trained(run)
    about = {name: getattr(settings, name) for name in READ}
    identity = inputs_of(weights, settings).model_dump(mode="json")
    folder = f"{ATTACKED}/{digest(json.dumps([about, identity], sort_keys=True))}"
    (place := run.path / folder).mkdir(parents=True, exist_ok=True)
    attacks = Attacks(detection, settings, detection.judge(), talk, folder, world)
    lock = held(place, f".{world.file_name(RESULTS)}.lock", "Wait until it ends.")
    with lock, sampling_memory(detection.settings, later=True):
        if world.first:
            told = {"weights": str(weights), **identity, "settings": about, "left_out": attacks.left_out}
            write_atomic(place / ABOUT, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        if attacks.chosen:
            attacks(weights.load(detection, talk, detection.settings.mixed_precision), detection.asked_model)
    return attacks


def folder_of(attacks: Attacks) -> Path:
    """Where results and pictures lie."""
    return attacks.run.path / attacks.folder
