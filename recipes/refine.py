"""A second cycle of training on the weights of the first, spent on what is drawn rather than on its texture."""

from pathlib import Path

from diffusion import denoising_loss, load, save
from training import run_in_pieces, train

MOST_SNR = 5.0


def refine(build: Path, steps: int, minutes: float) -> None:
    pipe, draws, model = load(build)
    ema = train("refine", build, model, denoising_loss(model, draws, MOST_SNR), steps=steps, learning_rate=4e-4,
                minutes=minutes)  # fmt: skip
    if ema is not None:
        model.load_state_dict(ema.shadow)
        save(build, model, draws, pipe.vae)


if __name__ == "__main__":
    run_in_pieces(__doc__, refine, 3000)
