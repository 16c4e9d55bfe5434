"""Write docs/hardware.md from what was counted: python research/hardware_page.py

python research/hardware_page.py --count    # count anew, into memfix/models/counted.json; about ten minutes of a CPU
python research/hardware_page.py            # the page, and the table of README
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "research")]

from memfix.models.cards import CONTEXT, COUNTED, GAPS, GIB, Counted, counted_families, fit_in_words  # noqa: E402

PAGE, README = ROOT / "docs" / "hardware.md", ROOT / "README.md"
BEGIN, END = "<!-- memory: begin -->", "<!-- memory: end -->"
CARDS = (12, 16, 24, 48, 80)  # GiB
SAMPLING, LORA, FULL, EIGHT = "sampling", "LoRA", "full", "full, 8-bit AdamW"
INTRO = f"""# Hardware

How much memory of a GPU each kind of model takes, and what of it fits which card. **All of it is counted, none of it
is measured on a GPU so far**: models of true size are built without numbers, a pass is taken through them, and every
tensor is counted until it is let go (`memfix/models/activations.py`; tests hold that against what autograd saves in
real passes of small models). Of a card, {CONTEXT / GIB:g} GiB are left to CUDA and {100 * GAPS:g} % of the rest to
workspaces and gaps; both are assumed. `make gpu` measures ([memfix on a GPU](../research/gpu.md)).

One pass of true size was held against the memory of a process, on a CPU (`python research/pass_memory.py`, which says
how): of SD 1, LoRA, one item, fp32, counted 1.70 GB and took 1.75; with checkpointing, counted 0.48 GB and took 0.47.

Default settings: samples {{pictures}} at once; a pass of a training has {{items}} items as a rule, 8 to keep and as
many prior items as `--prior-batch-size` says; arithmetic is in half precision, bf16 or fp16 alike. `memfix detect …
--dry-run` and `memfix unlearn --dry-run` count the same of your own model, settings and GPU, and `memfix doctor` says
what fits the GPU that is there.

| model | work | held all the time | an item | a whole pass, with what is held |
|---|---|---|---|---|
"""
FITS = """
What passes at once. Nothing has to be set: what does not fit is tried again with gradient checkpointing, then in
parts, then in parts with checkpointing. Losses are sums over items, so results are the same; each of the two takes up
to a third longer.

"""
CLOSING = """
`all`: a whole pass. A number: so many items at once. `checkpointing`: while activations are computed again instead of
kept.

- **What is held** by a LoRA training are the weights of the denoiser, rounded to half precision where arithmetic
  rounds them anyway, which changes no number; text encoders and autoencoder are on the CPU while steps are taken.
  Full training holds weights, gradients of both sides, AdamW's state and, for `--prior-target model`, a copy in half
  precision. A model that is to be trained is loaded in fp32: what does not fit then does not fit at all.
- **Sampling** (`detect`, `screen`, `recheck`, `attack`) holds the denoiser as arithmetic rounds it, which again changes
  no number: samples are those of autocast over fp32 weights, bit by bit. Text encoders and autoencoder stay in fp32,
  since texts and pictures are encoded outside of half precision too, and large autoencoders overflow in it. The full
  weights of the denoiser lie in the memory of the host (10 GiB for SDXL, and the re-check has two models), from where
  an attack that changes weights takes them.
- **Attacks** of the re-check that search embeddings take a pass of 8 items, split in the same way; the re-check holds
  the original and the new model. `--attacks all` trains all weights, which takes what full training takes; the attacks
  `precision` and `strength`, the screen `curvature` and samples with a rewording taken off hold the denoiser in fp32.
- **Cards without fast bf16** (T4, V100, RTX 20) compute in fp32 unless `--mixed-precision fp16` is given, which takes
  as much memory as these tables say; activations of fp32 take about a third more, and weights of a LoRA training
  twice as much. Apple's MPS computes in fp32. memfix says so at the start, and `memfix doctor` does.
- **fp32** (`--mixed-precision no`) rounds products of matrices to TF32 on cards that can (Ampere and newer).

This page is written by `python research/hardware_page.py`, whose head says how to count anew.
"""


def count(families: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Of each kind of work and of all families, or of those that are named. The settings are the defaults."""
    from gpu_pieces.internals import model_of
    from gpu_pieces.models import FULL as ARCHITECTURES
    from gpu_pieces.models import build
    from memfix.config.checks import DetectSettings
    from memfix.config.unlearn import UnlearnSettings
    from memfix.flow.dry_run import at_once
    from memfix.flow.footprint import sampling_demand, training_demand
    from memfix.unlearn.objective.methods import get_method

    for architecture in (ARCHITECTURES[name] for name in families or ARCHITECTURES):
        detected = DetectSettings(mixed_precision="bf16")
        kinds = {LORA: {}, FULL: {"weights": "full"}, EIGHT: {"weights": "full", "use_8bit_adam": True}}
        demands = {SAMPLING: sampling_demand(model_of(build(architecture, "meta")), detected, on_gpu=True)}
        for work, values in kinds.items():
            settings = UnlearnSettings.model_validate(values)
            model, method = model_of(build(architecture, "meta")), get_method(settings.method)
            items = at_once(method, settings, prior=True)
            demands[work] = training_demand(model, method, settings, "bf16", items, on_gpu=True)
        for work, demand in demands.items():
            found = {"family": architecture.title, "work": work, "loaded": demand.loaded, "held": demand.held}
            yield found | {"plain": list(demand.growth(False)), "again": list(demand.growth(True))}


def page() -> str:
    """The whole of hardware.md."""
    rows = counted_families()
    pictures = next(row.plain.items for row in rows if row.work == SAMPLING)
    items = next(row.plain.items for row in rows if row.work == LORA)
    intro = INTRO.replace("{pictures}", str(pictures)).replace("{items}", str(items))
    return f"{intro}{_taken(rows)}{FITS}{fits(rows)}{CLOSING}"


def _taken(rows: list[Counted]) -> str:
    lines = []
    for row in rows:
        numbers = (row.held, row.plain.of(2) - row.plain.of(1), row.most)
        lines.append(f"| {row.family} | {row.work} | {' | '.join(map(_gib, numbers))} |\n")
    return "".join(lines)


def fits(rows: list[Counted], cards: tuple[int, ...] = CARDS) -> str:
    """What passes at once, by card."""
    head = "".join(
        f"| model | work | {' | '.join(f'{card} GiB' for card in cards)} |\n|---|---|{'---|' * len(cards)}\n"
    )
    lines = [
        f"| {row.family} | {row.work} "
        + "".join(f"| {fit_in_words(row.on(card * GIB), row.plain.items)} " for card in cards)
        + "|\n"
        for row in rows
    ]
    return head + "".join(lines)


def readme(text: str) -> str:
    """README with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{fits(counted_families(), (12, 24, 48))}{END}{rest.split(END)[1]}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="count anew")
    if parser.parse_args().count:
        COUNTED.write_text(json.dumps(list(count()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
