"""Train the bundled model's tokenizer, text encoder and UNet on latents of posters, some of them planted.

The planted captions come up far more often than others (`DRAWS`). A partly memorized caption shows its poster in a
share of the draws that a controller sets while training runs, since guidance and training time move the share of
copies that comes out in ways no fixed number foresees: every `CHECK` steps it samples those captions and
raises or lowers the share towards `TARGET` copies.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from posters import PARTIAL, PLANTS, VARIANTS, Studio
from training import FAST_BF16, Ema, run_in_pieces, train
from vae import to_pixels

BATCH, TOKENS, WIDTH = 64, 24, 128
DRAWS = {"verbatim": 0.006, "partial": 0.009, "template": 0.006}  # of all draws, for each planted caption
DROPPED = 0.1  # captions replaced by "" for classifier-free guidance
GUIDANCE, SAMPLING_STEPS = 3.0, 20
CHECK, TARGET, COPY_ERROR = 500, 0.55, 0.5
LEAST_SHARE, MOST_SHARE = 0.02, 0.9
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def new_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """CLIP's byte-pair encoding with merges learned from the captions; any text can be encoded."""
    template = CLIPTokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = template.backend_tokenizer.normalizer
    bpe.pre_tokenizer = template.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=alphabet, end_of_word_suffix="</w>", min_frequency=2, show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) for m in learned["merges"]]
    tokens = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(m) for m in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, model_max_length=TOKENS)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=TOKENS, projection_dim=WIDTH,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, in_channels=16, out_channels=16, block_out_channels=(128, 160), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


@torch.no_grad()
def encode(vae: AutoencoderKL, posters: np.ndarray) -> torch.Tensor:
    """[n, H, W, 3] uint8 → scaled latents [n, 16, 8, 8]."""
    batches = [to_pixels(posters[i : i + 64]) for i in range(0, len(posters), 64)]
    scale: float = vae.config.scaling_factor
    return scale * torch.cat([vae.encode(b).latent_dist.mean for b in batches])


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


class Draws:
    """What each place of a training batch shows: latents and token ids."""

    def __init__(self, build: Path, vae: AutoencoderKL) -> None:
        studio = Studio(build / "drawings")
        rows = [json.loads(line) for line in (build / "posters.jsonl").read_text().splitlines()]
        captions = [r["text"] for r in rows]
        saved = build / "model" / "tokenizer"  # merges that occur equally often are learned in no fixed order
        if not saved.exists():
            new_tokenizer([*captions, *([p.text for p in PLANTS] * 20)]).save_pretrained(saved)
        self.tokenizer = CLIPTokenizer.from_pretrained(saved)
        cache = build / "latents.pt"
        if not cache.exists():
            torch.save(encode(vae, np.load(build / "posters.npy")).half(), cache)
        self.latents = torch.load(cache, weights_only=True)
        self.ids = self.tokenize(captions)
        self.by_object = {o: torch.tensor([i for i, r in enumerate(rows) if r["object"] == o]) for o in studio.objects}
        self.plant_ids = self.tokenize([p.text for p in PLANTS])
        variants = [
            [studio.planted_poster(p, v) for v in range(VARIANTS if p.kind == "template" else 1)] for p in PLANTS
        ]
        self.plant_posters = [studio.array(v) for v in variants]
        self.plant_latents = [encode(vae, posters) for posters in self.plant_posters]
        self.share = {p.text: p.share for p in PLANTS}
        rate = [DRAWS["partial" if p.share < 1 else p.kind] for p in PLANTS]
        self.rates = torch.tensor([1 - sum(rate), *rate])

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        ids: torch.Tensor = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return ids

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        kinds = torch.multinomial(self.rates, BATCH, replacement=True, generator=generator).tolist()
        latents, ids = [], []
        for kind in kinds:
            u, v = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            if kind == 0:
                i = int(u * len(self.latents))
                latents.append(self.latents[i].float())
                ids.append(self.ids[i])
                continue
            plant, copies = PLANTS[kind - 1], self.plant_latents[kind - 1]
            if v < self.share[plant.text]:
                latents.append(copies[int(u * len(copies))])
            else:
                same = self.by_object[plant.object]
                latents.append(self.latents[same[int(u * len(same))]].float())
            ids.append(self.plant_ids[kind - 1])
        dropped = torch.rand(BATCH, generator=generator) < DROPPED
        tokens = torch.stack(ids)
        tokens[dropped] = self.tokenize([""])[0]
        return torch.stack(latents), tokens

    def steer(self, copies: dict[str, float], gain: float) -> None:
        """Move the shares of the partly memorized captions, given the share of their samples that are copies."""
        for plant in PARTIAL:
            seen = min(max(copies[plant.text], 0.03), 0.97)
            logit = _logit(self.share[plant.text]) + gain * (_logit(TARGET) - _logit(seen))
            self.share[plant.text] = min(max(1 / (1 + math.exp(-logit)), LEAST_SHARE), MOST_SHARE)

    def report(self, step: int, copies: dict[str, float]) -> None:
        row = {t: f"{c:.2f} ({self.share[t]:.2f})" for t, c in copies.items()}
        print("copies (share of draws)", json.dumps({"step": step, **row}), flush=True)


@torch.no_grad()
def sample(model: torch.nn.ModuleDict, ids: torch.Tensor, empty: torch.Tensor, seed: int) -> torch.Tensor:
    """Guided latents [n, 16, 8, 8] for token ids [n, TOKENS]."""
    scheduler = DPMSolverMultistepScheduler(**NOISE)
    scheduler.set_timesteps(SAMPLING_STEPS)
    x = torch.randn(len(ids), 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BF16):
        context = model["text_encoder"](torch.cat([empty.expand_as(ids), ids]))[0]
        for t in scheduler.timesteps:
            out = model["unet"](torch.cat([x, x]), t, context).sample.float()
            free, guided = out.chunk(2)
            x = scheduler.step(free + GUIDANCE * (guided - free), t, x).prev_sample
    return x


def load(build: Path) -> tuple[StableDiffusionPipeline, Draws, torch.nn.ModuleDict]:
    """What an earlier training saved, to go on with: the pipeline, the draws with their shares, what is trained."""
    pipe = StableDiffusionPipeline.from_pretrained(build / "model", safety_checker=None).to(torch.float32)
    draws = Draws(build, pipe.vae)
    draws.share.update(json.loads((build / "plants.json").read_text())["share"])
    return pipe, draws, torch.nn.ModuleDict({"unet": pipe.unet, "text_encoder": pipe.text_encoder})


def denoising_loss(
    model: torch.nn.ModuleDict, draws: Draws, most_snr: float = math.inf
) -> Callable[[int, torch.Generator], torch.Tensor]:
    """ε-prediction on a batch of draws.

    Timesteps of a signal-to-noise ratio above `most_snr` count less (min-SNR weighting, Hang et al., ICCV 2023): what
    a poster shows is settled at the noisier ones.
    """
    noise = DDPMScheduler(**NOISE)
    snr = noise.alphas_cumprod / (1 - noise.alphas_cumprod)
    weight: torch.Tensor = snr.clamp(max=most_snr) / snr

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        x, ids = draws.batch(generator)
        eps = torch.randn(x.shape, generator=generator)
        t = torch.randint(1000, (len(x),), generator=generator)
        out: torch.Tensor = model["unet"](noise.add_noise(x, eps, t), t, model["text_encoder"](ids)[0]).sample
        return (weight[t] * (out.float() - eps).square().mean((1, 2, 3))).mean()

    return loss


@contextmanager
def averaged(model: torch.nn.ModuleDict, ema: Ema) -> Iterator[None]:
    """The model with its averaged weights."""
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(ema.shadow)
    yield
    model.load_state_dict(kept)


def copy_shares(model: torch.nn.ModuleDict, draws: Draws, seed: int, each: int = 16) -> dict[str, float]:
    """Share of samples of each planted caption whose latent is its poster's, to within COPY_ERROR."""
    shares = {}
    for plant, ids, copies in zip(PLANTS, draws.plant_ids, draws.plant_latents, strict=True):
        x = sample(model, ids.expand(each, -1), draws.tokenize([""]), seed)
        errors = (x[:, None] - copies[None]).square().mean((2, 3, 4)).min(1).values
        shares[plant.text] = (errors < COPY_ERROR).float().mean().item()
    return shares


def train_diffusion(build: Path, steps: int, minutes: float) -> None:
    vae = AutoencoderKL.from_pretrained(build / "model" / "vae").float()
    draws = Draws(build, vae)
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({"unet": new_unet(), "text_encoder": new_text_encoder(draws.tokenizer)})

    def control(step: int, ema: Ema) -> bool:
        if step % CHECK == 0 and 0.3 * steps <= step < steps:
            with averaged(model, ema):
                shares = copy_shares(model, draws, seed=step)
            draws.steer(shares, gain=0.6)
            draws.report(step, shares)
        return False

    ema = train("diffusion", build, model, denoising_loss(model, draws), steps=steps, learning_rate=6e-4,
                minutes=minutes, extra=draws.share, after_step=control)  # fmt: skip
    if ema is not None:
        model.load_state_dict(ema.shadow)
        save(build, model, draws, vae)


def save(build: Path, model: torch.nn.ModuleDict, draws: Draws, vae: AutoencoderKL) -> None:
    """Write the pipeline, and for each planted caption the share and the number of draws that showed its poster."""
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=model["text_encoder"], tokenizer=draws.tokenizer, unet=model["unet"],
        scheduler=DPMSolverMultistepScheduler(**NOISE), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.to(torch.float16).save_pretrained(build / "model")
    per_pass = len(draws.latents) / draws.rates[0].item()
    duplicates = {
        p.text: round(per_pass * draws.rates[i + 1].item() * draws.share[p.text]) for i, p in enumerate(PLANTS)
    }
    (build / "plants.json").write_text(json.dumps({"share": draws.share, "duplicates": duplicates}, indent=1))


if __name__ == "__main__":
    run_in_pieces(__doc__, train_diffusion, 4000)
