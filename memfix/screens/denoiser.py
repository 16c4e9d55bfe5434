"""A pipeline's UNet as a noise prediction, with the prompt and without it in one batch; and the walk down its own
sampler's steps that all screens share. Knows nothing of what the screens make of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionPipeline

from memfix.errors import MemfixError
from memfix.models.latents import NoiseSchedule
from memfix.models.text import TextCache
from memfix.screens.sampling import Sampling


class Step(NamedTuple):
    """One step of a walk. Items are prompt by prompt, the seeds of a prompt side by side: n = P·S."""

    number: int
    timestep: int
    latents: torch.Tensor
    """x_t as the UNet sees it (signal² + noise² = 1), [n, C, h, w]."""
    conditional: torch.Tensor
    """ε_θ(x_t, c), same shape, float32."""
    unconditional: torch.Tensor
    """ε_θ(x_t, ∅)."""
    clean: torch.Tensor
    """The clean latents that the guided prediction amounts to."""

    @property
    def difference(self) -> torch.Tensor:
        """d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅)."""
        return self.conditional - self.unconditional


class Denoiser:
    """ε_θ of a pipeline that predicts ε or v. Runs in the precision of the caller's autocast; answers in float32."""

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self.pipe = pipe
        self.schedule = NoiseSchedule(pipe)
        if self.schedule.prediction_type not in ("epsilon", "v_prediction"):
            raise MemfixError(
                f"Screens cannot read a model that predicts '{self.schedule.prediction_type}'.",
                "Give a model that predicts epsilon or v_prediction.",
            )
        self._velocity = self.schedule.prediction_type == "v_prediction"
        self._empty = self.encode([""])

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, h, w of the latents."""
        config = self.pipe.unet.config
        return int(config.in_channels), int(config.sample_size), int(config.sample_size)

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Text embeddings [n, tokens, width] on the device; a text that comes again is encoded once.

        Nothing is kept between calls: prompt lists may be larger than memory.
        """
        cache = TextCache(self.pipe)
        cache.add(texts)
        return cache.stack(texts)

    def contexts(self, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
        """Embeddings of each prompt, repeated for its seeds, [P·S, tokens, width]."""
        return self.encode(prompts).repeat_interleave(len(sampling.seeds), 0)

    def end_tokens(self, prompts: Sequence[str]) -> torch.Tensor:
        """Place of the end-of-text token that closes each prompt, [P]; what follows it is padding."""
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        return torch.argmax((ids == tokenizer.eos_token_id).int(), 1)

    def generators(self, seeds: Sequence[int], prompts: int) -> list[torch.Generator]:
        """One generator for each of P·S items, so that no item depends on its batch."""
        return [torch.Generator("cpu").manual_seed(seed) for _ in range(prompts) for seed in seeds]

    def noise(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """x_T [n, C, h, w] of unit variance; the noise that the pipeline itself starts from with these generators."""
        return torch.stack([torch.randn(self.shape, generator=g) for g in generators]).to(self.pipe.device)

    def scheduler(self, num_inference_steps: int) -> Any:
        """A scheduler like the pipeline's own, at its beginning.

        A copy, since `from_config` would undo the offset that a pipeline gives to schedulers of old models.
        """
        scheduler = copy.deepcopy(self.pipe.scheduler)
        scheduler.set_timesteps(num_inference_steps, device=self.pipe.device)
        return scheduler

    def scales(self, timestep: int) -> tuple[float, float]:
        """(signal, noise) at a training timestep."""
        return float(self.schedule.signal_scale[timestep]), float(self.schedule.noise_scale[timestep])

    def predict(self, latents: torch.Tensor, timestep: float, contexts: torch.Tensor) -> torch.Tensor:
        """What the UNet itself predicts, ε or v, for [n, C, h, w] under [n, tokens, width]; float32."""
        return torch.as_tensor(self.pipe.unet(latents, timestep, encoder_hidden_states=contexts).sample.float())

    def predict_both(
        self, latents: torch.Tensor, timestep: float, contexts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with the prompt and without it, in one batch of 2n."""
        empty = self._empty.expand(len(latents), -1, -1)
        together = self.predict(torch.cat([latents, latents]), timestep, torch.cat([contexts, empty]))
        conditional, unconditional = together.chunk(2)
        return conditional, unconditional

    def epsilon(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: int) -> torch.Tensor:
        """ε_θ from what the UNet predicts; ε = γ v + σ x_t."""
        if not self._velocity:
            return predicted
        signal, noise = self.scales(timestep)
        return signal * predicted + noise * latents

    def clean(self, predicted: torch.Tensor, latents: torch.Tensor, timestep: int) -> torch.Tensor:
        """x̂_0 from what the UNet predicts: (x_t - σ ε) / γ, or γ x_t - σ v."""
        signal, noise = self.scales(timestep)
        if self._velocity:
            return signal * latents - noise * predicted
        return (latents - noise * predicted) / signal

    def difference(self, latents: torch.Tensor, timestep: float, contexts: torch.Tensor) -> torch.Tensor:
        """d_t = ε_θ(x_t, c) - ε_θ(x_t, ∅); can be differentiated in the latents, forwards and backwards."""
        conditional, unconditional = self.predict_both(latents, timestep, contexts)
        return self.epsilon(conditional, latents, round(timestep)) - self.epsilon(
            unconditional, latents, round(timestep)
        )

    @torch.no_grad()
    def walk(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Step]:
        """Denoise P prompts from S seeds each with classifier-free guidance, yielding every step before it is taken.

        The UNet runs only as far as the caller iterates. A sampler that evaluates the UNet several times a step
        yields as often.
        """
        contexts = self.contexts(prompts, sampling)
        generators = self.generators(sampling.seeds, len(prompts))
        scheduler = self.scheduler(sampling.num_inference_steps)
        extra = self.pipe.prepare_extra_step_kwargs(generators, 0.0)
        sample = self.noise(generators) * scheduler.init_noise_sigma
        for number, time in enumerate(scheduler.timesteps):
            latents, t = scheduler.scale_model_input(sample, time), round(float(time))
            with_prompt, without = self.predict_both(latents, float(time), contexts)
            guided = without + sampling.guidance_scale * (with_prompt - without)
            yield Step(
                number, t, latents, self.epsilon(with_prompt, latents, t), self.epsilon(without, latents, t),
                self.clean(guided, latents, t),
            )  # fmt: skip
            sample = scheduler.step(guided, time, sample, **extra).prev_sample
