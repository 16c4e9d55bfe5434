"""Train the bundled model once more without the planted posters: what no erasure need be better than.

Everything is as in `diffusion.py` and `refine.py`, with the shipped autoencoder and tokenizer, but that planted
captions always show an ordinary poster of their object. So the captions are as frequent as before, and no planted
poster and no drawing that is reserved for one is ever shown to the UNet. DIR has the drawings and posters already;
the model is written to `DIR/model`.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from diffusion import Draws, denoising_loss, new_text_encoder, new_unet, save
from refine import MOST_SNR
from training import run_in_pieces, train

SHIPPED = Path(__file__).parent.parent / "memfix/demo/model"
REFINED = 0.75  # steps of the second cycle for one of the first


def train_unplanted(build: Path, steps: int, minutes: float) -> None:
    for part in ("vae", "tokenizer"):
        shutil.copytree(SHIPPED / part, build / "model" / part, dirs_exist_ok=True)
    vae = AutoencoderKL.from_pretrained(build / "model/vae").float()
    draws = Draws(build, vae)
    draws.share = dict.fromkeys(draws.share, 0.0)
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({"unet": new_unet(), "text_encoder": new_text_encoder(draws.tokenizer)})
    first = train("unplanted", build, model, denoising_loss(model, draws), steps=steps, learning_rate=6e-4,
                  minutes=minutes)  # fmt: skip
    if first is None:
        return
    model.load_state_dict(first.shadow)
    second = train("unplanted-refine", build, model, denoising_loss(model, draws, MOST_SNR),
                   steps=int(REFINED * steps), learning_rate=4e-4, minutes=minutes)  # fmt: skip
    if second is not None:
        model.load_state_dict(second.shadow)
        save(build, model, draws, vae)


if __name__ == "__main__":
    run_in_pieces(__doc__, train_unplanted, 4000)
