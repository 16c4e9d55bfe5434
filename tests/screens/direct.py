"""Screens worked out the plain way: one prompt, one seed, one UNet call at a time, on the pipeline's parts."""

import torch
from diffusers import StableDiffusionPipeline
from torch.nn.functional import cosine_similarity


class Direct:
    """Noise predictions of a pipeline for a single latent."""

    def __init__(self, pipe: StableDiffusionPipeline, steps: int, guidance: float) -> None:
        self.pipe, self.steps, self.guidance = pipe, steps, guidance
        self.velocity = pipe.scheduler.config.prediction_type == "v_prediction"

    def context(self, text: str) -> torch.Tensor:
        ids = self.pipe.tokenizer(
            text, padding="max_length", max_length=self.pipe.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        return self.pipe.text_encoder(ids)[0]

    def noise(self, seed: int) -> torch.Tensor:
        size = self.pipe.unet.config.sample_size
        return torch.randn(1, self.pipe.unet.config.in_channels, size, size,
                           generator=torch.Generator().manual_seed(seed))  # fmt: skip

    def timesteps(self) -> list[int]:
        self.pipe.scheduler.set_timesteps(self.steps)
        return [int(t) for t in self.pipe.scheduler.timesteps]

    def epsilon(self, x: torch.Tensor, t: int, text: str) -> torch.Tensor:
        out = self.pipe.unet(x, t, encoder_hidden_states=self.context(text)).sample
        if not self.velocity:
            return out
        alpha = self.pipe.scheduler.alphas_cumprod[t]
        return alpha.sqrt() * out + (1 - alpha).sqrt() * x

    def difference(self, x: torch.Tensor, t: int, text: str) -> torch.Tensor:
        return self.epsilon(x, t, text) - self.epsilon(x, t, "")

    def walk(self, text: str, seed: int) -> list[tuple[int, torch.Tensor]]:
        """(t, x_t) of every step, by DDIM as in its paper: x_{t-1} = √ᾱ' x̂_0 + √(1-ᾱ') ε̂."""
        alphas, times = self.pipe.scheduler.alphas_cumprod, self.timesteps()
        x, found = self.noise(seed), []
        for i, t in enumerate(times):
            found.append((t, x))
            guided = self.epsilon(x, t, "") + self.guidance * self.difference(x, t, text)
            clean = (x - (1 - alphas[t]).sqrt() * guided) / alphas[t].sqrt()
            before = alphas[times[i + 1]] if i + 1 < len(times) else torch.tensor(1.0)
            x = before.sqrt() * clean + (1 - before).sqrt() * guided
        return found

    def clean(self, text: str, seed: int, step: int) -> torch.Tensor:
        t, x = self.walk(text, seed)[step - 1]
        alpha = self.pipe.scheduler.alphas_cumprod[t]
        guided = self.epsilon(x, t, "") + self.guidance * self.difference(x, t, text)
        return (x - (1 - alpha).sqrt() * guided) / alpha.sqrt()


def flat_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(cosine_similarity(a.flatten(), b.flatten(), dim=0))
