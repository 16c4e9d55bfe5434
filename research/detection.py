"""How well each score of a prompt tells memorized captions of the bundled model from others, and what it costs.

    python research/detection.py FOLDER [--seed N]

FOLDER takes five detections, each resumed if it was interrupted: of all prompts (16 samples each), and of the same
behind a screen, without and with early looks, without and with trials of neighbours. The list: 25 planted captions
(12 that always give their picture, 8 in about half of the samples, 5 templates), ordinary captions, hard ones with the
objects, colours and wordings of planted captions, and captions that swap the artist of a planted one. The last are a
group of their own: some give the planted picture too, and are memorized whatever the recipe planned.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.config.layers import read_config, resolve
from memfix.console import Talk, emit
from memfix.demo import REFERENCES, SETTINGS, list_path
from memfix.detect.design import MATCHES
from memfix.detect.medoids import hold_against_medoid
from memfix.detect.similar import Trial
from memfix.flow.detection import Detection
from memfix.inputs.opening import open_image
from memfix.measures import PIXEL_MEASURES, get_measure
from memfix.measures.base import Measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.weights import Wanted
from memfix.models import loading
from memfix.records import Kind, Label, Prompt, Role, Sample, Score, Verdict
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.screens import get_screen
from memfix.screens.sampling import Sampling
from memfix.screens.skipping import Skipping

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from posters import ARTISTS, COLORS, PLANTS, TEMPLATES, article
from screens import CASES, Case, auc, measure, true_positives

PLANTED = ("full", "partly", "template")
ORDINARY, HARD_EACH, SWAPS_EACH = 120, 4, 2
HARD = ("{o} poster", "{a} {o} on a {c} background", "{o} poster, {c} background", "art print of {a} {o}")
SCREEN, MOST = "fine_detail", 16  # UNet evaluations of a screen; research/screens.py has the longer ones
SCREENED: dict[str, Any] = {"screen": SCREEN, "audit": 0}
CASCADES = {
    "screen": {**SCREENED, "similar_prompts": 0},
    "screen, early looks": {**SCREENED, "similar_prompts": 0, "first_look": 4},
    "screen, neighbours": SCREENED,
    "screen, early looks, neighbours": {**SCREENED, "first_look": 4},
}
Scorer = Callable[[list[Image.Image]], float]
"""From the samples of a prompt to a score."""


def prompts() -> dict[str, str]:
    """Caption → group."""
    rng = Random("detection")
    found = {p.text: p.kind if p.kind == "template" else "full" if p.share == 1 else "partly" for p in PLANTS}
    for plant in PLANTS:
        for wording in HARD[:HARD_EACH]:
            color = rng.choice(list(COLORS))
            found[wording.format(o=plant.object, a=article(plant.object).split()[0], c=color)] = "hard"
        others = [a for a in ARTISTS if a != plant.artist]
        for artist in rng.sample(others, SWAPS_EACH):
            found[f"{plant.object} poster by {artist}"] = "swap"
    controls = set(list_path("controls").read_text().splitlines())
    rows = map(json.loads, (REFERENCES / "metadata.jsonl").read_text().splitlines())
    for text in list(dict.fromkeys(r["text"] for r in rows if r["kind"] == "ordinary" and r["text"] not in controls)):
        if sum(group == "ordinary" for group in found.values()) < ORDINARY:
            found.setdefault(text, "ordinary")
    return found


def settings_of(**more: Any) -> DetectSettings:
    given = {"model": "demo", "references": "demo", "controls": "controls", **more}
    return resolve(DetectSettings, given, read_config(SETTINGS)["detect"])


def detect(folder: Path, groups: Iterable[str], **more: Any) -> tuple[Run, float]:
    """The detection in a folder, and the seconds that it took altogether."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    listed = folder.parent / "prompts.txt"
    listed.write_text("\n".join(groups) + "\n")
    run = flow.detect(str(listed), settings_of(**more), folder, folder.parent, ["benchmark"], Talk())
    return run, Detection.of(run).stage.timings["seconds"]


def evaluations(run: Run) -> int:
    """UNet evaluations that a detection took, for prompts of the list."""
    settings = Detection.of(run).settings
    own = {p.id for p in run.read("prompts.jsonl", Prompt) if p.role is Role.PROMPT}
    drawn = sum(s.prompt_id in own for s in run.read("before/metadata.jsonl", Sample))
    screened = 2 * settings.screen_seeds * len(own) if settings.screen else 0
    trials = len({t.prompt_id for t in run.read("before/similar.jsonl", Trial)})
    aimed = settings.num_samples * (2 * trials + 1) if trials else 0
    return screened + aimed + 2 * drawn * settings.num_inference_steps


def samples_of(run: Run) -> dict[str, list[Sample]]:
    """Prompt id → its samples."""
    found: dict[str, list[Sample]] = {}
    for sample in Detection.of(run).samples:
        found.setdefault(sample.prompt_id, []).append(sample)
    return found


def pictures(run: Run, samples: Iterable[Sample]) -> list[Image.Image]:
    return [open_image(run.path / "before" / s.file_name) for s in samples]


def columns(run: Run) -> dict[str, tuple[dict[str, float], float]]:
    """Score → (value of each prompt, seconds a prompt beyond sampling); higher is more suspicious."""
    images = {i: pictures(run, own) for i, own in samples_of(run).items()}
    references = [open_image(r.path) for r in Detection.of(run).references]
    descriptor = get_measure("sscd", Wanted(sscd="demo"))
    table: dict[str, tuple[dict[str, float], float]] = {}
    for m in (descriptor, *PIXEL_MEASURES.values()):
        table[f"{m.name} to the nearest reference"] = timed(images, nearest(m, references))
    table["sscd, mean over samples"] = timed(images, nearest(descriptor, references, np.mean))
    table["sscd, no reference: samples alike"] = timed(images, lambda own: alike(descriptor, own))
    return table


def timed(images: dict[str, list[Image.Image]], score: Scorer) -> tuple[dict[str, float], float]:
    started = time.perf_counter()
    values = {i: score(own) for i, own in images.items()}
    return values, (time.perf_counter() - started) / len(images)


def nearest(m: Measure, references: list[Image.Image], over: Callable[[np.ndarray], Any] = np.max) -> Scorer:
    """The measure of each sample to its nearest reference, over the samples of a prompt."""
    sign = 1 if m.higher_is_closer else -1
    search = PIXEL_MEASURES["tiled_l2"] if m.name == "ssim" else m
    features, far = m.features(references), search.features(references)

    def score(own: list[Image.Image]) -> float:
        values = search.compare(search.features(own), far)
        best = values.argmax(1) if search.higher_is_closer else values.argmin(1)
        return float(over(sign * m.pair(m.features(own), features[best]).numpy()))

    return score


def alike(m: Measure, own: list[Image.Image]) -> float:
    """The largest mean nearness of a sample to its MATCHES nearest others."""
    features = m.features(own)
    values = m.compare(features, features).fill_diagonal_(-1)
    return float(values.topk(MATCHES, 1).values.mean(1).max())


def row(name: str, values: dict[str, float], groups: dict[str, str], cost: tuple[int, float]) -> dict[str, Any]:
    """One line of the table; `values` by caption."""
    kind = np.array(list(groups.values()))
    scores = np.array([values[text] for text in groups])
    negative = scores[np.isin(kind, ("ordinary", "hard"))]
    planted = scores[np.isin(kind, PLANTED)]
    each = {f"auc_{g}": auc(scores[kind == g], negative) for g in PLANTED}
    hard = auc(planted, scores[kind == "hard"])
    return {
        "score": name, **each, "auc": auc(planted, negative), "auc_hard": hard,
        "tpr_at_1_fpr": true_positives(planted, negative), "evaluations": cost[0], "seconds": cost[1],
    }  # fmt: skip


def short(case: Case) -> bool:
    """Whether a screen takes at most MOST evaluations; the variance over seeds, which the package lacks, is long."""
    if case.screen == "variance":
        return False
    return get_screen(case.screen).evaluations(Sampling((0,), case.steps)) * case.seeds <= MOST


def by_text(run: Run, values: dict[str, float]) -> dict[str, float]:
    return {p.text: values[p.id] for p in run.read("prompts.jsonl", Prompt) if p.id in values}


def verdicts(run: Run) -> dict[str, Verdict]:
    text = {p.id: p.text for p in run.read("prompts.jsonl", Prompt)}
    return {text[v.prompt_id]: v for v in run.read("before/verdicts.jsonl", Verdict)}


def without_references(run: Run, groups: dict[str, str]) -> dict[str, int]:
    """Prompts found memorized from their samples alone, by group, by the measure of the run and its own threshold."""
    rule = CopyRule.default(Detection.of(run).measure)
    text = {p.id: p.text for p in run.read("prompts.jsonl", Prompt)}
    found = dict.fromkeys(groups.values(), 0)
    for i, own in samples_of(run).items():
        if text[i] in groups:
            found[groups[text[i]]] += any(s.copy_ for s in hold_against_medoid(own, pictures(run, own), rule).scores)
    return found


def findings(full: Run, runs: dict[str, Run], groups: dict[str, str]) -> dict[str, Any]:
    """Everything that is no row of the table."""
    found = verdicts(full)
    memorized = {t for t, v in found.items() if t in groups and v.verdict is Label.MEMORIZED}
    templates = [p.text for p in TEMPLATES]
    count = {g: [sum(groups[t] == g for t in memorized), list(groups.values()).count(g)] for g in groups.values()}
    swaps = [s for s in full.read("before/scores.jsonl", Score) if s.copy_]
    result: dict[str, Any] = {
        "memorized": count,
        "flagged_controls": sum(v.verdict is Label.MEMORIZED for t, v in found.items() if t not in groups),
        "templates_as_such": sum(found[t].kind is Kind.TEMPLATE for t in templates),
        "verbatim_as_such": sum(found[t].kind is Kind.VERBATIM for t, g in groups.items() if g in ("full", "partly")),
        "called_template_elsewhere": [t for t, v in found.items() if v.kind is Kind.TEMPLATE and t not in templates],
        "copies_of_a_part": sum(s.part is not None for s in swaps),
        "found_without_references": without_references(full, groups),
    }  # fmt: skip
    whole = evaluations(full)
    for name, run in runs.items():
        skipping = run.read("before/skipping.jsonl", Skipping)
        same = {t: v.verdict is found[t].verdict for t, v in verdicts(run).items() if t in groups}
        result[name] = {
            "evaluations": evaluations(run) / whole, "same_verdicts": f"{sum(same.values())} of {len(same)}",
            "differ": [f"{t}: {found[t].verdict}, {verdicts(run)[t].verdict}" for t, s in same.items() if not s],
            "not_sampled": len(skipping[0].not_generated) if skipping else 0,
        }  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the first sample of each prompt")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    groups = prompts()
    full, seconds = detect(options.folder / "full", groups, seed=options.seed)
    runs = {
        name: detect(options.folder / name.replace(",", "").replace(" ", "-"), groups, seed=options.seed, **more)[0]
        for name, more in CASCADES.items()
    }
    settings = Detection.of(full).settings
    each = 2 * settings.num_samples * settings.num_inference_steps
    sampling = seconds / len(full.read("prompts.jsonl", Prompt))
    rows = [
        row(name, by_text(full, values), groups, (each, sampling + more))
        for name, (values, more) in columns(full).items()
    ]
    model = loading.load(loading.locate("demo"))
    for case in filter(short, CASES):
        scores, took, cost = measure(model, case, list(groups), 0)
        name = f"{case.screen}, {case.seeds} seeds, {case.steps} steps"
        rows.append(row(name, dict(zip(groups, scores.tolist(), strict=True)), groups, (cost, took)))
        print(name, file=sys.stderr)
    more = findings(full, runs, groups)
    if options.json:
        emit({"rows": rows, "findings": more, "environment": environment().model_dump()})
        return
    heads = ["score", *(f"AUC {g}" for g in PLANTED), "AUC all", "against hard", "TPR at 1 %", "UNet", "ms a prompt"]
    table = Table(
        *heads, box=None, pad_edge=False, title=str({g: list(groups.values()).count(g) for g in groups.values()})
    )
    for r in rows:
        keys = (*(f"auc_{g}" for g in PLANTED), "auc", "auc_hard", "tpr_at_1_fpr")
        table.add_row(r["score"], *(f"{r[k]:.3f}" for k in keys), str(r["evaluations"]), f"{1000 * r['seconds']:.0f}")
    console = Console(width=170)
    console.print(table)
    for key, value in more.items():
        console.print(f"{key}: {value}")


if __name__ == "__main__":
    main()
