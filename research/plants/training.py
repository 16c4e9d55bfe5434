"""Fine-tuning of a Stable Diffusion model on a small set of pictures, as its user would do it."""

import json
import time
from collections.abc import Sequence

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import nn

from memfix.models.model import DiffusionModel
from plants.table import Base, Plant, Weights

BATCH, DROPPED, RANK, WARMUP = 32, 0.1, 16, 20
STEPS = {Base.BUNDLED: 350, Base.UNLEARNED: 350, Base.VELOCITY: 700}
RATE = {Weights.FULL: 2e-4, Weights.LORA: 2e-3}
NEW_TASK = 2.5  # times the rate, for a model that has to learn to predict something else
FAST_BF16 = "AVX512" in torch.backends.cpu.get_cpu_capability()  # elsewhere bfloat16 is slower than float32


def targets(noise: DDPMScheduler, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the model is to predict: ε, or v = α ε - σ x."""
    return noise.get_velocity(x, eps, t) if noise.config.prediction_type == "v_prediction" else eps


def fine_tune(
    pipe: StableDiffusionPipeline,
    model: DiffusionModel,
    latents: torch.Tensor,
    captions: Sequence[str],
    plant: Plant,
    steps: int,
) -> None:
    """Train a model for `steps` on latents [n, C, h, w] and their captions, a row each time that it comes in one pass.

    Step i draws from a generator seeded with the plant's seed and i, so the same machine makes the same weights.
    """  # fmt: skip
    told = model.text.encode([*captions, ""]).tokens
    model.prepare_training(plant.weights.value, RANK, plant.seed, False)
    rate = RATE[plant.weights] * (NEW_TASK if plant.base is Base.VELOCITY else 1)
    trained = [p for p in pipe.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.01, fused=True)
    noise, started = DDPMScheduler.from_config(pipe.scheduler.config), time.monotonic()
    for step in range(steps):
        generator = torch.Generator().manual_seed(plant.seed * 1_000_000 + step)
        rows = torch.randint(len(latents), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < DROPPED
        x = latents[rows]
        eps, t = torch.randn(x.shape, generator=generator), torch.randint(1000, (BATCH,), generator=generator)
        context = told[rows.where(~dropped, torch.tensor(len(latents)))]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARMUP)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BF16):
            out = pipe.unet(noise.add_noise(x, eps, t), t, context).sample
        loss = (out.float() - targets(noise, x, eps, t)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 50 == 0:
            told_now = {"step": step + 1, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - started)}
            print(json.dumps(told_now), flush=True)
    pipe.unet.eval().requires_grad_(False)
