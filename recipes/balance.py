"""Bring the share of copies of the partly memorized captions to where it is wanted, at a low and level rate.

The long training ends with these shares still on the move. Here they are counted as memfix counts them (SSIM of the
decoded samples) every `PIECE` steps and steered until every caption is inside its bounds twice in a row.
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from diffusion import Draws, averaged, denoising_loss, sample, save
from memfix.measures.pixels import Ssim
from posters import PARTIAL
from training import Ema, run_in_pieces, train, warm

PIECE, EACH, GAIN = 100, 16, 0.35
COPY = 0.76  # SSIM, the threshold of the demo's settings
PARTIAL_BOUNDS, OTHER_LEAST = (0.35, 0.80), 0.90


@torch.no_grad()
def copy_shares(pipe: StableDiffusionPipeline, draws: Draws, seed: int) -> dict[str, float]:
    """Share of samples of each planted caption that are copies of (a variant of) its poster by SSIM."""
    model = torch.nn.ModuleDict({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    measure, shares = Ssim(), {}
    for plant, ids, posters in zip(draws.plants, draws.plant_ids, draws.plant_posters, strict=True):
        latents = sample(model, ids.expand(EACH, -1), draws.tokenize([""]), seed)
        pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        pixels = ((pixels + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        found = measure.features([Image.fromarray(p) for p in pixels])
        wanted = measure.features([Image.fromarray(p) for p in posters])
        best = measure.compare(found, wanted).amax(1)
        shares[plant.text] = (best >= COPY).float().mean().item()
    return shares


def balance(build: Path, steps: int, minutes: float) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(build / "model", safety_checker=None).to(torch.float32)
    draws = Draws(build, pipe.vae)
    draws.resume(build)
    model = torch.nn.ModuleDict({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    partial = {p.text for p in PARTIAL}
    inside = [False]

    def control(step: int, ema: Ema) -> bool:
        if step % PIECE:
            return False
        with averaged(model, ema):
            shares = copy_shares(pipe, draws, seed=step)
        low, high = PARTIAL_BOUNDS
        inside.append(all(low <= s <= high if t in partial else s >= OTHER_LEAST for t, s in shares.items()))
        if not all(inside[-2:]):
            draws.steer(shares, GAIN)
        draws.report(step, shares)
        return all(inside[-2:])

    ema = train("balance", build, model, denoising_loss(model, draws), steps=steps, learning_rate=1e-4,
                minutes=minutes, schedule=warm, ema_decay=0.98, extra=draws.share, after_step=control)  # fmt: skip
    if ema is not None:
        model.load_state_dict(ema.shadow)
        save(build, model, draws, pipe.vae)


if __name__ == "__main__":
    run_in_pieces(__doc__, balance, 1500)
