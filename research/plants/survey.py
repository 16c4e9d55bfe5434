"""What plants show: how like the training pictures samples are, and which planted captions copy.

    OMP_NUM_THREADS=2 python research/plants/survey.py FOLDER --half tune

Plants are made where they are not there yet. For each, `FOLDER/<plant>/survey.json` keeps the correlation of every
sample with the training picture that it is most like (`truth.py`), and `survey.png` is the contact sheet. The threshold
of ground truth was chosen on the tuning half: `--half tune` prints how many samples lie in each tenth.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from memfix.console import emit
from memfix.demo import MODEL
from memfix.models.loading import load, locate
from memfix.models.model import DiffusionModel
from memfix.models.sampling import batches, plan_samples
from memfix.records import FRESH, Prompt, Role
from memfix.run.environment import environment
from plants.make import make
from plants.sheet import sheet
from plants.table import BY_NAME, PLANTS, Half
from plants.truth import COPY, GroundTruth

EACH_PLANTED, EACH_OTHER, NOISE = 16, 4, 500_000
STEPS, GUIDANCE, BATCH = 12, 3.0, 32


def opened(plant: Path) -> DiffusionModel:
    """The model of a plant, with its adapter."""
    own, adapter = plant / "model", plant / "lora"
    model = load(locate(str(own if own.exists() else MODEL)))
    if adapter.exists():
        model.adapters.fuse(adapter)
    return model


def samples_of(model: DiffusionModel, texts: list[str], each: int, noise: int) -> dict[str, list[Image.Image]]:
    """`each` pictures of every text, under the sampling settings of the benchmark."""
    prompts = [Prompt(id=f"p{i}", text=text, role=Role.PROMPT, source="") for i, text in enumerate(texts)]
    plan = plan_samples(prompts, range(noise, noise + each), steps=STEPS, guidance=GUIDANCE, condition=FRESH)
    found: dict[str, list[Image.Image]] = {text: [] for text in texts}
    for batch in batches(plan, BATCH):
        for sample, image in zip(batch, model.sample(batch, "auto"), strict=True):
            found[sample.text].append(image)
    return found


def survey(plant: Path) -> dict[str, Any]:
    """The plant's captions and other prompts, each with the likeness of its samples; kept in the plant's folder."""
    record = plant / "survey.json"
    if not record.exists():
        truth, model = GroundTruth(plant), opened(plant)
        listed = [(plant / f"{name}.txt").read_text().splitlines() for name in ("prompts", "controls")]
        others = [text for texts in listed for text in texts if text not in truth.captions]
        shown = samples_of(model, truth.captions, EACH_PLANTED, NOISE) if truth.captions else {}
        shown |= samples_of(model, others, EACH_OTHER, NOISE)
        sheet(truth, shown).save(plant / "survey.png")
        found = {text: [round(value, 3) for _, value in truth.nearest(images)] for text, images in shown.items()}
        record.write_text(json.dumps({"planted": truth.captions, "likeness": found}))
    kept: dict[str, Any] = json.loads(record.read_text())
    return kept


def row(plant: Path) -> dict[str, Any]:
    """A plant in numbers."""
    told, facts = survey(plant), json.loads((plant / "truth.json").read_text())
    own = {text: values for text, values in told["likeness"].items() if text in told["planted"]}
    others = [v for text, values in told["likeness"].items() if text not in own for v in values]
    return {
        "plant": facts["name"], "half": facts["half"], "seconds": facts["seconds"], "captions": len(own),
        "copying": sum(max(values) >= COPY for values in own.values()),
        "copies": sum(v >= COPY for values in own.values() for v in values),
        "samples": sum(map(len, own.values())), "others": len(others), "leaks": sum(v >= COPY for v in others),
        "likest other": max(others), "planted": [v for values in own.values() for v in values], "rest": others,
    }  # fmt: skip


def print_tables(rows: list[dict[str, Any]]) -> None:
    """A row a plant, and all likenesses by tenths."""
    shown = [{k: v for k, v in r.items() if k not in ("planted", "rest")} for r in rows]
    table = Table(*shown[0])
    for r in shown:
        table.add_row(*map(str, r.values()))
    Console(width=140).print(table)
    table = Table("likeness", "samples of planted captions", "samples of other prompts")
    sides = [Counter(int(20 * max(v, 0)) for r in rows for v in r[side]) for side in ("planted", "rest")]
    for part in range(20):
        table.add_row(f"{part / 20:.2f} to {(part + 1) / 20:.2f}", *(str(side[part]) for side in sides))
    Console(width=140).print(table)


def main() -> None:
    """Survey what was not surveyed yet, and print all that was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME))
    parser.add_argument("--half", choices=[h.value for h in Half])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for plant in PLANTS:
        if plant.name in given.only and given.half in (None, plant.half):
            rows.append(row(make(plant, given.folder)))
            print(json.dumps({k: v for k, v in rows[-1].items() if k not in ("planted", "rest")}), file=sys.stderr)
    if given.json:
        emit({"rows": rows, "environment": environment().model_dump(mode="json")})
    else:
        print_tables(rows)


if __name__ == "__main__":
    main()
