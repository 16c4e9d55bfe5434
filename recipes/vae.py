"""Train the bundled model's autoencoder on posters: factor 8, 16 latent channels, L1 on pixels and on edges."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from posters import PLANTS, Studio
from training import run_in_pieces, train

BATCH = 10  # many small steps: every pixel is an example, so small batches learn most for their cost


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=64,
    )


def to_pixels(posters: np.ndarray) -> torch.Tensor:
    """[n, H, W, 3] uint8 → [n, 3, H, W] in -1 … 1."""
    return torch.from_numpy(posters).permute(0, 3, 1, 2).float() / 127.5 - 1


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def train_vae(build: Path, steps: int, minutes: float) -> None:
    torch.manual_seed(0)
    vae = new_vae().to(memory_format=torch.channels_last)
    posters = np.load(build / "posters.npy", mmap_mode="r")
    studio = Studio(build / "drawings")
    planted = studio.array([studio.planted_poster(p, variant) for p in PLANTS for variant in range(3)])

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(posters), (BATCH - 1,), generator=generator).numpy()
        own = torch.randint(len(planted), (1,), generator=generator).numpy()
        x = to_pixels(np.concatenate([posters[np.sort(chosen)], planted[own]]))
        if step % 2:
            x = x.flip(-1)
        x = x.to(memory_format=torch.channels_last)
        latent = vae.encode(x).latent_dist
        noise = torch.randn(latent.mean.shape, generator=generator)
        y = vae.decode(latent.mean + latent.std * noise).sample.float()
        edge = sum(F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True))
        coarse = F.l1_loss(F.avg_pool2d(y, 4), F.avg_pool2d(x, 4))
        spread: torch.Tensor = latent.kl().float().mean()
        return F.l1_loss(y, x) + edge + 0.5 * coarse + 1e-6 * spread

    ema = train("vae", build, vae, loss, steps=steps, learning_rate=8e-4, minutes=minutes)
    if ema is None:
        return
    vae.load_state_dict(ema.shadow)
    # Stable Diffusion's convention: the factor that brings the latents of the training set to unit variance
    with torch.no_grad():
        sample = vae.encode(to_pixels(posters[:512]).to(memory_format=torch.channels_last)).latent_dist.mean
        after = vae.decode(sample).sample.clamp(-1, 1)
    error = (after - to_pixels(posters[:512])).square().mean().item()
    vae.register_to_config(scaling_factor=round(1 / sample.std().item(), 5))
    print(f"vae: PSNR {10 * np.log10(4 / error):.2f} dB, scaling factor {vae.config.scaling_factor}")
    vae.half().save_pretrained(build / "model" / "vae")


if __name__ == "__main__":
    run_in_pieces(__doc__, train_vae, 14000)
