"""What an optimizer step of unlearning costs over a plain training step on as many items: time and memory.

    OMP_NUM_THREADS=1 python research/unlearning_step.py

A plain step is that of diffusers' training scripts: noise on a batch, one forward, one backward, clipping, AdamW (the
same as the trainer's). Beside the methods stands `two backwards`, SISS as it was released: one forward, a backward for
each side over all of it, copies of the gradients. `time` is the median over rounds of a step over the plain steps taken
right before and after it; without a GPU it is time of the processor, which other work on the machine disturbs less.
`memory`, in MB, is what a step holds at most beyond what there was before it, less the same of a plain step, as torch's
allocator counts it; `gradients` is that in sizes of one gradient of all trained weights. `in both`: share of items that
pass the network for both sides.

Models: `sd` has the four levels of Stable Diffusion's UNet, narrow, on 4x64x64 latents and 77 tokens; `demo` is the
bundled one, on latents of its references.
"""

import argparse
import copy
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

from memfix.config.unlearn import UnlearnSettings
from memfix.console import emit
from memfix.demo import REFERENCES
from memfix.inputs.opening import open_image
from memfix.models import loading, lora
from memfix.models.conditioning import Conditioning, Texts
from memfix.models.denoiser import frozen, network_of
from memfix.models.device import device
from memfix.run.environment import environment
from memfix.unlearn.data.bank import Bank, Batch, Schedule, Target, TextStore
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.objective.siss import NEGLIGIBLE
from memfix.unlearn.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from published_step import published_step, weights_of

RATE = 1e-9  # the weights stay where they are, so that all steps are taken from the same ones
TARGETS, EACH, PRIOR = 4, 3, 8

Stepper = Callable[[], object]


class World(NamedTuple):
    unet: nn.Module
    bank: Bank
    batch: int


@dataclass(frozen=True)
class Case:
    """A way to take a step. `prior`: this share of the items are prior ones, held to the answers of the original."""

    name: str
    method: str = "siss"
    settings: dict[str, Any] = field(default_factory=dict)
    prior: float = 0.0


PLAIN, RELEASED = Case("plain", ""), Case("siss, two backwards", "")
CASES = [
    Case("siss"),
    Case("siss, t = 999", settings={"timestep_min": 999}),
    Case("siss, no-is", settings={"siss_mode": "no-is"}),
    Case("siss, bernoulli", settings={"siss_mode": "bernoulli"}),
    Case("siss, half of them prior items", prior=0.5),
    RELEASED,
    *(Case(n, n) for n in ("naive", "neggrad", "bounded", "erasediff", "retrack", "surrogate", "anchor", "vdu")),
]


# -- what is trained on ---------------------------------------------------------------------------------------------


class Noise:
    """The schedule of Stable Diffusion."""

    prediction_type = "epsilon"

    def __init__(self) -> None:
        alphas = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
        self.signal_scale, self.noise_scale = alphas.double().sqrt(), (1 - alphas.double()).sqrt()

    def __len__(self) -> int:
        return len(self.signal_scale)


def sd() -> World:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(32, 64, 96, 96), cross_attention_dim=96, attention_head_dim=2,
    )  # fmt: skip
    texts = [f"prompt {i}" for i in range(2 * TARGETS + PRIOR)]
    told = Texts(texts, Conditioning(torch.randn(len(texts), 77, 96)), device())  # instead of a text encoder's
    bank = bank_of(texts, list(torch.randn(2 * TARGETS * EACH + PRIOR, 4, 64, 64)), told, Noise())
    return World(unet.to(device()), bank, 4)


def demo() -> World:
    model = loading.load(loading.locate("demo"))
    rows = map(json.loads, (REFERENCES / "metadata.jsonl").read_text().splitlines())
    names = {row["text"]: row["file_name"] for row in rows}
    chosen = list(names)[: 2 * TARGETS * EACH + PRIOR]
    latents = list(model.latents.encode([open_image(str(REFERENCES / names[text])) for text in chosen]))
    return World(model.denoiser.module, bank_of(chosen, latents, model.text.keep(chosen), model.schedule), 64)


def bank_of(texts: list[str], latents: list[torch.Tensor], told: TextStore, schedule: Schedule) -> Bank:
    """Prompts with as many images to forget as to keep, a surrogate for each and another wording."""
    take = iter(latents)
    targets = []
    for text, anchor in zip(texts[:TARGETS], texts[TARGETS : 2 * TARGETS], strict=True):
        forget, keep = ([next(take) for _ in range(EACH)] for _ in range(2))
        targets.append(Target(text, forget, keep, [k[None] for k in keep], [anchor]))
    return Bank(targets, list(zip(texts[2 * TARGETS :], take, strict=False)), told, schedule)


WORLDS = {"sd": sd, "demo": demo}


# -- ways to take a step --------------------------------------------------------------------------------------------


def trained(unet: nn.Module, weights: str) -> list[nn.Parameter]:
    unet.train()
    if weights == "full":
        unet.requires_grad_(True)
    else:
        lora.add(unet, 16)
    return [p for p in unet.parameters() if p.requires_grad]


def stepper(case: Case, world: World, unet: nn.Module, parameters: list[nn.Parameter]) -> Stepper:
    if case is PLAIN:
        return plain(world, unet, parameters)
    if case is RELEASED:
        return released(world, unet, parameters)
    prior = round(case.prior * world.batch)
    settings = UnlearnSettings(
        train_batch_size=world.batch - prior, prior_batch_size=prior, max_train_steps=10**6, learning_rate=RATE,
        weights="full", method=case.method, **case.settings,
    )  # fmt: skip
    held = frozen(unet, "no") if prior else None
    network, named = network_of(unet, "no"), {n: p for n, p in unet.named_parameters() if p.requires_grad}
    steps = iter(Trainer(network, named, world.bank, get_method(case.method), settings, "no", original=held))
    return lambda: next(steps)


def adam(parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01, fused=True)


def plain(world: World, unet: nn.Module, parameters: list[nn.Parameter]) -> Stepper:
    """diffusers' train_text_to_image.py with latents and embeddings made beforehand, as they are for the trainer."""
    optimizer, bank, told = adam(parameters), world.bank, world.bank.texts
    assert told, "networks of both worlds are told texts"
    data = [(t.text, z) for t in bank.targets for z in (*t.keep, *t.forget)]
    signal, noise = bank.schedule.signal_scale.float().to(device()), bank.schedule.noise_scale.float().to(device())
    shape = (-1, 1, 1, 1)

    def step() -> None:
        rows = [data[int(i)] for i in torch.randint(len(data), (world.batch,))]
        latents = torch.stack([z for _, z in rows]).to(device())
        context = told.stack(text for text, _ in rows).tokens
        eps = torch.randn_like(latents)
        t = torch.randint(0, len(bank.schedule), (world.batch,), device=device())
        noisy = signal[t].reshape(shape) * latents + noise[t].reshape(shape) * eps
        loss = nn.functional.mse_loss(unet(noisy, t, context, return_dict=False)[0].float(), eps)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def released(world: World, unet: nn.Module, parameters: list[nn.Parameter]) -> Stepper:
    """SISS as it was published, on the world's items."""
    network = network_of(unet, "no")
    return published_step(
        network, parameters, adam(parameters), lambda: drawn(world), world.bank.schedule.prediction_type
    )


def drawn(world: World, window: tuple[int, int] = (0, 1000), seed: int | None = None) -> Batch:
    return world.bank.draw(Draw(random.getrandbits(31) if seed is None else seed), world.batch, 0, 0.5, window)


def in_both(world: World, window: tuple[int, int]) -> float:
    """Share of items whose weight counts on both sides, over many draws."""
    weights = [weights_of(drawn(world, window, seed)) for seed in range(64)]
    return float(torch.cat([(w.keep > NEGLIGIBLE) & (w.forget > NEGLIGIBLE) for w in weights]).double().mean())


# -- measuring ------------------------------------------------------------------------------------------------------


def seconds(step: Stepper) -> float:
    clock = time.perf_counter if device().type == "cuda" else time.process_time
    if device().type == "cuda":
        torch.cuda.synchronize()
    started = clock()
    step()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def most_held(step: Stepper) -> int:
    """Bytes that a step holds at most beyond what was held when it began."""
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    changes = [e.nbytes() for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return int(max(accumulate(changes)))


def rows(name: str, weights: str, cases: Iterable[Case], rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each case; every case has a copy of the network, and takes its turn in every round."""
    torch.manual_seed(0)
    world = WORLDS[name]()
    steppers = {}
    for case in (PLAIN, *cases):
        unet = copy.deepcopy(world.unet)
        parameters = trained(unet, weights)
        steppers[case.name] = stepper(case, world, unet, parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    base = steppers.pop(PLAIN.name)
    for step in (base, *steppers.values()):
        seconds(step)  # AdamW makes its state in the first step
    ratios: dict[str, list[float]] = {n: [] for n in steppers}
    plains = [seconds(base)]
    for _ in range(rounds):
        for n, step in steppers.items():
            own = seconds(step)
            plains.append(seconds(base))
            ratios[n].append(2 * own / sum(plains[-2:]))
    floor = most_held(base)
    for case in cases:
        more = most_held(steppers[case.name]) - floor
        window, routed = (case.settings.get("timestep_min", 0), 1000), case.name.split(", t")[0] == "siss"
        yield {
            "model": name, "weights": weights, "items": world.batch, "step": case.name,
            "time": round(median(ratios[case.name]), 3),
            "in_both": round(in_both(world, window), 3) if routed else None,
            "more_bytes": more, "more_gradients": round(more / size, 2), "plain_held_bytes": floor,
            "trained_bytes": size, "plain_seconds": round(median(plains), 3),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=WORLDS, nargs="*", default=list(WORLDS))
    parser.add_argument("--weights", choices=("full", "lora"), nargs="*", default=["full", "lora"])
    parser.add_argument("--only", default="*", help="steps by name, with wildcards")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = [c for c in CASES if fnmatchcase(c.name, options.only)]
    found = [r for m in options.model for w in options.weights for r in rows(m, w, cases, options.rounds)]
    if options.json:
        emit({"rows": found, "environment": environment().model_dump()})
        return
    table = Table("model", "weights", "step", "time", "in both", "memory", "gradients", box=None)
    for r in found:
        both = "" if r["in_both"] is None else f"{r['in_both']:.0%}"
        memory = f"{r['more_bytes'] / 2**20:+.0f}", f"{r['more_gradients']:+.2f}"
        table.add_row(r["model"], r["weights"], r["step"], f"{r['time']:.2f}", both, *memory)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
