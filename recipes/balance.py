"""Bring the share of copies of the partly memorized captions to where it is wanted, at a low and level rate.

The long training ends with these shares still on the move. Here they are counted as memfix counts them (SSIM of the
decoded samples) every `PIECE` steps and steered until every caption is inside its bounds. The gain is low, since a
caption's copies answer steeply to its share of draws.
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from diffusion import Draws, averaged, denoising_loss, load, sample, save
from memfix.measures.pixels import Ssim
from posters import PARTIAL, PLANTS, Plant
from training import Ema, run_in_pieces, train, warm

PIECE, EACH, GAIN = 100, 32, 0.12
LEAST, MOST, OTHERS_LEAST = 0.35, 0.80, 0.95


@torch.no_grad()
def copy_shares(pipe: StableDiffusionPipeline, draws: Draws, seed: int, chosen: list[Plant]) -> dict[str, float]:
    """Share of samples of the chosen captions that are copies of (a variant of) their poster by SSIM."""
    model = torch.nn.ModuleDict({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    measure, shares = Ssim(), {}
    for plant, ids, posters in zip(PLANTS, draws.plant_ids, draws.plant_posters, strict=True):
        if plant not in chosen:
            continue
        latents = sample(model, ids.expand(EACH, -1), draws.tokenize([""]), seed)
        pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        pixels = ((pixels + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        found = measure.features([Image.fromarray(p) for p in pixels])
        wanted = measure.features([Image.fromarray(p) for p in posters])
        best = measure.compare(found, wanted).amax(1)
        shares[plant.text] = (best >= measure.threshold).float().mean().item()
    return shares


def balance(build: Path, steps: int, minutes: float) -> None:
    pipe, draws, model = load(build)
    others = [p for p in PLANTS if p not in PARTIAL]

    def control(step: int, ema: Ema) -> bool:
        if step % PIECE:
            return False
        with averaged(model, ema):
            shares = copy_shares(pipe, draws, step, PARTIAL)
            inside = all(LEAST <= s <= MOST for s in shares.values())
            rest = copy_shares(pipe, draws, step, others) if inside else {}
        draws.report(step, shares | rest)
        if inside and min(rest.values()) >= OTHERS_LEAST:
            return True
        draws.steer(shares, GAIN)
        return False

    ema = train("balance", build, model, denoising_loss(model, draws), steps=steps, learning_rate=5e-5,
                minutes=minutes, schedule=warm, ema_decay=0.99, extra=draws.share, after_step=control)  # fmt: skip
    if ema is not None:
        model.load_state_dict(ema.shadow)
        save(build, model, draws, pipe.vae)


if __name__ == "__main__":
    run_in_pieces(__doc__, balance, 1500)
