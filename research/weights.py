"""What new weights of the bundled model cost other prompts, and what the embedding attack brings back from them.

    python research/weights.py RUN WEIGHTS [--noise 700000] [--pictures all] [--attack-seed 200000]
    python research/weights.py RUN none            # the original model

RUN is a finished run of `memfix demo`, WEIGHTS an adapter or a whole model. Prints one line of JSON: of the controls
and of the ordinary prompts the share of samples whose object the recipe's recognizer names, from noise that no check
uses; and for each memorized picture in how many of 8 samples the attack (the prompt's embedding, 50 steps) brings it
back.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.inputs.opening import open_image
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.recheck.attacks.base import Attacked, Bench
from memfix.recheck.attacks.embedding import from_prompt, optimisation
from memfix.records import FRESH, Label, Role
from memfix.run.folder import Run
from memfix.variants.base import Variant

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from demo import kinds
from recognizer import object_names, recognize

EACH, STEPS, SAMPLES, BATCH = 16, 50, 8, 32
HALVES = {"even": slice(0, None, 2), "odd": slice(1, None, 2), "all": slice(None), "none": slice(0)}


def shown(detection: Detection, model: DiffusionModel, noise: int) -> dict[str, float]:
    """Role → share of its samples that show the object that their prompt names."""
    names, planted = sorted(object_names(), key=len, reverse=True), kinds()
    others = {p.id: p for p in detection.prompts if p.text not in planted}
    settings, seeds = detection.settings, range(noise, noise + EACH)
    plan = plan_samples(
        list(others.values()), seeds, steps=settings.num_inference_steps, guidance=settings.guidance_scale,
        condition=FRESH,
    )  # fmt: skip
    right: dict[Role, list[bool]] = {Role.CONTROL: [], Role.PROMPT: []}
    for i in range(0, len(plan), BATCH):
        batch = plan[i : i + BATCH]
        pictures = np.stack([np.asarray(image) for image in model.sample(batch, settings.mixed_precision)])
        for sample, name in zip(batch, recognize(pictures), strict=True):
            wanted = next(n for n in names if n in sample.text)
            right[others[sample.prompt_id].role].append(name == wanted)
    return {"controls": float(np.mean(right[Role.CONTROL])), "ordinary": float(np.mean(right[Role.PROMPT]))}


def brought_back(detection: Detection, model: DiffusionModel, half: slice, seed: int) -> dict[str, int]:
    """Prompt → copies among the attack's samples, of the memorized prompts in one half."""
    rule, references = detection.rule, {r.file_name: r.path for r in detection.references}

    def is_copy(a: Image.Image, b: Image.Image) -> bool:
        return rule.is_copy(float(rule.measure.pair(*(rule.measure.features([x]) for x in (a, b)))[0]))

    found, asked = {}, {p.id: p for p in detection.prompts if p.role is Role.PROMPT}
    memorized = [v for v in detection.verdicts if v.verdict is Label.MEMORIZED and v.prompt_id in asked]
    for verdict in memorized[half]:
        assert verdict.reference
        prompt, picture = asked[verdict.prompt_id], open_image(references[verdict.reference])
        latent = next(iter(model.latents.encode([picture])))
        attacked = Attacked(prompt, verdict.reference, picture, latent)
        bench = Bench(model, detection.settings, is_copy, {}, [], SAMPLES, seed)
        told = from_prompt(attacked, bench)
        (tokens,) = islice(optimisation(attacked, bench, told), STEPS - 1, STEPS)
        drawn = bench.sample(attacked, STEPS, "attack", Variant(conditioning=replace(told, tokens=tokens).to("cpu")))
        found[prompt.text] = sum(is_copy(image, picture) for image in drawn.images)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--noise", type=int, default=700_000, help="first seed of the samples of other prompts")
    parser.add_argument("--pictures", choices=HALVES, default="all", help="which memorized pictures are attacked")
    parser.add_argument("--attack-seed", type=int, default=200_000, help="first seed of the attack's samples")
    given = parser.parse_args()
    run = Run.open(given.run)
    detection = Detection.of(run)
    if given.weights == "none":
        model = detection.model()
    elif (Path(given.weights) / "model_index.json").exists():
        model = NewWeights.of(run, model=Path(given.weights)).load(detection, Talk(quiet=True))
    else:
        model = NewWeights.of(run, [Path(given.weights)]).load(detection, Talk(quiet=True))
    back = brought_back(detection, model, HALVES[given.pictures], given.attack_seed)
    print(json.dumps({
        **shown(detection, model, given.noise), "brought_back": sum(back.values()), "samples": SAMPLES * len(back),
        "pictures": sum(n > 0 for n in back.values()), "each": back,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
