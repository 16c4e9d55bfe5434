"""How well each screen tells planted captions of the bundled model from ordinary ones, and what it costs.

    OMP_NUM_THREADS=1 python research/screens.py

Planted: 12 captions that always give one picture (full), 8 that give it in about half of the samples (partly), 5 that
give a template in varying colours. Against them: every ordinary caption of the references and the bundled controls.
Sampling is that of the demo: 12 steps, guidance 3. AUC and true positives at 1 % false alarms (the last vertex of the
ROC curve there) are over all planted captions; so are seconds, on whatever ran beside it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from memfix.console import emit
from memfix.demo import REFERENCES, list_path
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.run.environment import environment
from memfix.screens import get_screen
from memfix.screens.base import probe
from memfix.screens.sampling import Sampling

STEPS, GUIDANCE, BATCH = 12, 3.0, 16
GROUPS = ("full", "partly", "template")


class Case(NamedTuple):
    screen: str
    seeds: int
    steps: int
    remark: str


CASES = [
    Case("magnitude", 1, 1, "a planted picture is far from the mean of all; half a picture is not"),
    Case("magnitude", 4, 1, "seeds agree at the first step, so that more of them add little"),
    Case("magnitude", 4, 6, "once a copy has formed, prompt and no prompt agree: later steps count against it"),
    Case("magnitude", 4, 12, "the same, diluted"),
    Case("anisotropy", 1, 1, "magnitude decides; the alignment at low noise only blurs it here"),
    Case("anisotropy", 4, 1, "the same with less noise"),
    Case("curvature", 1, 1, "best of the published ones at x_T; why is not established"),
    Case("curvature", 4, 1, "the same with less noise"),
    Case("consistency", 4, 1, "at x_T the pull is the same from every seed, memorized or not"),
    Case("consistency", 4, 2, "seeds begin to part unless one picture draws them"),
    Case("consistency", 4, 6, "partly memorized: only the seeds that land in the copy agree"),
    Case("bright_ending", 4, 12, "magnitude of all steps, which counts against copies here, under a mask"),
    Case("agreement", 4, 8, "sharp for copies; misses captions of which no two of four seeds are copies"),
    Case("variance", 4, 12, "final latents over seeds; a mean over pairs, where agreement takes the nearest"),
    Case("fine_detail", 1, 1, "only a memorized picture is sharp in the mean; one seed is noisy"),
    Case("fine_detail", 4, 1, "the mean over seeds removes detail that is not the prompt's; same cost as magnitude"),
    Case("fine_detail", 8, 1, "as far as 16 evaluations go"),
]


def variance(model: DiffusionModel, prompts: list[str], sampling: Sampling) -> torch.Tensor:
    """Minus the variance over seeds of the latents that the last step heads for."""
    *_, last = probe(model, prompts, sampling)
    return -last.clean.reshape(len(prompts), len(sampling.seeds), -1).var(1).mean(1)


def captions() -> dict[str, str]:
    """Group of each caption; ordinary ones are 'ordinary'."""
    found: dict[str, str] = {}
    for line in (REFERENCES / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        kind = row["kind"]
        if kind == "verbatim":
            kind = "full" if row["caption_share"] == 1 else "partly"
        if found.get(row["text"], "ordinary") == "ordinary":
            found[row["text"]] = kind
    for text in list_path("controls").read_text().splitlines():
        found.setdefault(text, "ordinary")
    return found


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of pairs in the right order, ties counting half."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def true_positives(positive: np.ndarray, negative: np.ndarray, false_alarms: float = 0.01) -> float:
    """Share found at the last vertex of the ROC curve with at most so many false alarms."""
    thresholds = np.unique(np.concatenate([positive, negative]))
    return max(float((positive >= t).mean()) for t in [*thresholds, np.inf] if (negative >= t).mean() <= false_alarms)


def measure(model: DiffusionModel, case: Case, texts: list[str], first_seed: int) -> tuple[np.ndarray, float, int]:
    """Scores, seconds a prompt, UNet evaluations a prompt."""
    seeds = tuple(range(first_seed, first_seed + case.seeds))
    sampling = Sampling(seeds, case.steps, STEPS, GUIDANCE)
    score: Callable[..., torch.Tensor] = variance if case.screen == "variance" else get_screen(case.screen)
    each = 2 * STEPS if case.screen == "variance" else get_screen(case.screen).evaluations(sampling)
    start = time.perf_counter()
    found = [score(model, texts[i : i + BATCH], sampling) for i in range(0, len(texts), BATCH)]
    seconds = (time.perf_counter() - start) / len(texts)
    return torch.cat(found).numpy(), seconds, each * case.seeds


def row(model: DiffusionModel, case: Case, groups: dict[str, str], first_seed: int) -> dict[str, Any]:
    """One line of the table."""
    scores, seconds, evaluations = measure(model, case, list(groups), first_seed)
    kind = np.array(list(groups.values()))
    ordinary, planted = scores[kind == "ordinary"], scores[kind != "ordinary"]
    return {
        "screen": case.screen, "seeds": case.seeds, "steps": case.steps,
        **{f"auc_{group}": auc(scores[kind == group], ordinary) for group in GROUPS},
        "auc": auc(planted, ordinary), "tpr_at_1_fpr": true_positives(planted, ordinary),
        "evaluations": evaluations, "seconds": seconds, "remark": case.remark,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--screen", action="append", help="only these")
    options = parser.parse_args()
    model, groups = loading.load(loading.locate("demo")), captions()
    rows = []
    for case in CASES:
        if not options.screen or case.screen in options.screen:
            rows.append(row(model, case, groups, options.seed))
            print(f"{case.screen} n={case.seeds} s={case.steps}", file=sys.stderr)
    if options.json:
        emit({"rows": rows, "environment": environment().model_dump()})
        return
    counts = {group: list(groups.values()).count(group) for group in ("ordinary", *GROUPS)}
    columns = ["screen", "seeds", "steps", *(f"AUC {g}" for g in GROUPS), "AUC all", "TPR at 1 %", "UNet", "ms", "why"]
    table = Table(*columns, box=None, pad_edge=False, title=str(counts))
    for r in rows:
        figures = (f"{r[k]:.3f}" for k in (*(f"auc_{g}" for g in GROUPS), "auc", "tpr_at_1_fpr"))
        cost = (str(r["evaluations"]), f"{r['seconds'] * 1000:.0f}")
        table.add_row(r["screen"], str(r["seeds"]), str(r["steps"]), *figures, *cost, r["remark"])
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
