"""Settings of unlearning."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from memfix.config.base import SEVERAL, Settings


class Adversarial(NamedTuple):
    """Values of adversarial steps; found on the bundled model."""

    forget_cap: float = 1.0
    forget_ratio: float = 0.3
    timestep_min: int = 300


MOST_ROUNDS = 3  # of the draws per prompt, in a closed loop
LEAST_STEPS = 35  # of the optimizer, as in the SISS paper: few large steps go astray
ADVERSARIAL_VALUES = Adversarial()
STAYS = ("constant", "constant_with_warmup")
"""Schedulers of the learning rate that leave it where it is after its warmup; scripts of diffusers have both words."""

FEW_DRAWS = 50  # per prompt; with fewer, a good part of the prompts hardly changes


class UnlearnSettings(Settings):
    """Which weights are changed, by which method, and how much."""

    free: ClassVar[frozenset[str]] = frozenset(
        {"checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint", "report_to"}
    )

    method: str = Field("siss", description="Unlearning method; see 'memfix list methods'.")
    weights: Literal["lora", "full"] = Field(
        "lora", description="What is trained: a LoRA adapter, or all weights of the UNet."
    )
    rank: int = Field(16, ge=1, description="Rank of the LoRA adapter.")
    use_dora: bool = Field(
        False,
        description="Train the lengths of a LoRA's rows separately from their directions (DoRA). Try it when a low "
        "rank leaves copies; each step takes longer.",
    )
    adapter_per_prompt: bool = Field(
        False,
        description="Train one LoRA per memorized prompt, so that each can be used or withdrawn by itself "
        "(adapters/<prompt id>/model in the run); model/ holds all of them merged. Each takes --max-train-steps.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Learning rate of AdamW; a closed loop begins with it. By default 1e-4 for LoRA and 1e-5 for full "
        "weights.",
    )
    loop: Literal["closed", "open"] | None = Field(
        None,
        description="closed: validate as training goes on, raise the learning rate while copies stay, leave a prompt "
        "alone once it is forgotten, go back where other pictures suffer, and end when all prompts are forgotten. "
        "open: take the steps that were planned, at the rate that was given. By default closed, unless "
        "--max-train-steps is given.",
    )
    draws_per_prompt: int = Field(
        560,
        ge=1,
        description="Items that are drawn for each memorized prompt, of the mixture of forgetting and keeping; the "
        "optimizer steps follow from it: all of them in an open loop, three times as many at most in a closed one. "
        "The SISS paper gives a prompt 35 steps of 16.",
    )
    max_train_steps: int = Field(
        0,
        ge=0,
        description="Optimizer steps, in a closed loop at most. With 0, as many as --draws-per-prompt says for all "
        "memorized prompts together, and at least 35.",
    )
    adversarial_steps: int | None = Field(
        None,
        ge=0,
        description="Optimizer steps after those, in a closed loop at most, against an attack: text embeddings under "
        "which the model still draws an image to forget are searched for while it is unlearned under them. Without "
        "these steps such a search brings many images back. A closed loop ends when a short attack brings nothing "
        "back any more; by default it may take as many as other steps. An open one has none by default. They "
        "take 2.5 times as long as other steps.",
    )
    lr_warmup_steps: int = Field(5, ge=0, description="Steps over which the learning rate rises from 0 to its value.")
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"] = Field(
        "constant",
        description="What the learning rate does after its warmup: it stays (constant, which is constant_with_warmup "
        "here), or falls to 0 along a cosine or a line. A closed loop finds it as it goes.",
    )
    train_batch_size: int = Field(16, ge=2, description="Items of the forget/keep mixture per pass.")
    prior_batch_size: int = Field(
        16, ge=0, description="Prior items per pass: further keep items, from prompts outside the mixture."
    )
    prior_prompts: int = Field(
        24,
        ge=0,
        description="Prior items are of at least so many prompts: where fewer are clean, pictures are sampled of "
        "captions of the training images, and then of ordinary texts.",
    )
    prior_target: Literal["picture", "model"] = Field(
        "model",
        description="Target of the prior items, and of keep images that were drawn under another wording of the "
        "prompt: the predictions of the model before training (model), or the pictures (picture). The former changes "
        "other prompts less and teaches a prompt sooner what to show, but costs one more forward pass per item and, "
        "with full weights, a copy of the UNet. Try picture if that does not fit.",
    )
    prior_loss_weight: float | None = Field(
        None,
        gt=0,
        description="Weight of a prior item in the loss, beside that of an item of the mixture. By default 10 where "
        "prior items are held to the model: it answers them without noise, so that more weight costs nothing and "
        "changes other prompts less; and 1 where they are held to pictures.",
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="Passes per optimizer step.")
    gradient_checkpointing: bool = Field(
        False,
        description="Save memory by computing activations again in the backward pass, which takes more time. Where "
        "memory is short this is tried anyway.",
    )
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] | None = Field(
        None,
        description="Precision of the training's arithmetic; by default that of the detection. auto chooses bf16 on "
        "devices that are fast at it. Trained weights are always fp32, and fp16 scales its losses so that "
        "gradients neither vanish nor overflow.",
    )
    torch_compile: bool = Field(
        False,
        description="Compile the UNet before training. This saves time only over many steps; it needs a C++ compiler, "
        "and Triton on a GPU.",
    )
    mixture: float = Field(
        0.5, gt=0, lt=1, description="Lambda: share of the mixture's items that come from forget images."
    )
    forget_ratio: float = Field(
        0.1, gt=0, description="Rho: norm of the forget gradient, relative to that of the keep gradient."
    )
    siss_mode: Literal["is", "no-is", "bernoulli"] = Field(
        "is",
        description="How siss computes its two losses: in one importance-weighted pass (is); in a keep and a forget "
        "pass for every item, as a check, at twice the time (no-is); or in one pass in which each item "
        "counts only for the side it was drawn from (bernoulli).",
    )
    forget_norm: float | None = Field(
        None,
        gt=0,
        description="Rescale the forget gradient of siss to this norm instead of rho times that of the keep gradient. "
        "For repeating published runs (750 for Stable Diffusion); the value does not carry over to other "
        "model sizes.",
    )
    forget_weight: float | None = Field(
        None,
        gt=0,
        description="Weight of the forget term in methods that add the two terms: its share of the sum in retrack "
        "(default 0.5), its factor in bounded (0.2), surrogate and anchor (1). Raise it if copies stay, "
        "lower it if controls change.",
    )
    forget_cap: float | None = Field(
        None,
        gt=0,
        description="Stop pushing an image away once its error is this multiple of the error of predicting 0. The "
        "default is 1 for bounded and vdu and in adversarial steps, and no cap for siss and neggrad; give "
        "neggrad a cap unless you use it as a baseline.",
    )
    bome_eta: float = Field(
        0.01,
        ge=0,
        description="Lowest rate at which erasediff lowers its forget term. Published values: 0.01 for Stable "
        "Diffusion, 0.001 for pixels. Raise it if copies stay.",
    )
    nearest_keep: int = Field(
        10,
        ge=1,
        description="How many of the nearest keep images retrack denoises a forget image to. Lower it if results blur.",
    )
    forget_low_pass: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Forget only spatial frequencies up to this share of the highest one. Try 0.5 if samples lose "
        "their fine detail after unlearning.",
    )
    parameter_group: Literal["all", "cross-attention", "self-attention"] = Field(
        "all",
        description="Which of the trained weights may change. cross-attention changes what prompts mean and little "
        "else; use it if controls change. It cannot unlearn images that the model also draws without "
        "their prompt.",
    )
    saliency: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Change only this share of the weights: those that the forget images depend on most before "
        "training. For full weights; try 0.5 if controls change.",
    )
    parameter_prior: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of each step that pulls the weights back to their values before training, most strongly "
        "where the keep images depend on them. Only vdu has a default (0.99), and needs a search: a lower "
        "value forgets more, a higher one keeps more. Takes the memory of two copies of the trained "
        "weights.",
    )
    timestep_min: int = Field(0, ge=0, description="Lowest training timestep that is drawn.")
    timestep_max: int = Field(
        1000, ge=1, description="End of the training timesteps that are drawn; this one is not drawn itself."
    )
    snr_gamma: float | None = Field(
        None,
        gt=0,
        description="Weight timesteps by min-SNR with this bound, for both terms; 5 is usual. By default all "
        "timesteps that are drawn count alike. Try it if all timesteps are drawn.",
    )
    forget_from: Literal["both", "references", "samples"] = Field(
        "both",
        description="What is forgotten for a memorized prompt: the training images that its copies show (references), "
        "the copies themselves (samples), or both. Choose samples if the training images cannot be used.",
    )
    keep_folder: str | None = Field(
        None,
        description="Further pictures to keep: a folder (imagefolder, webdataset tars), a tar, or a table that names "
        "or contains them. Each is kept for its caption; if that is a memorized prompt, the picture is "
        "kept for that prompt.",
    )
    keep_margin: float | None = Field(
        None,
        ge=0,
        description="Samples of a memorized prompt that are within this distance of the threshold count as "
        "near-copies and are not kept; by default the measure's own margin.",
    )
    keep_variants: int = Field(
        8,
        ge=0,
        description="Samples that are drawn from each variant of a memorized prompt that has too few pictures to "
        "keep; 0 switches this off.",
    )
    keep_enough: int = Field(
        4,
        ge=1,
        description="How many pictures to keep a memorized prompt needs. If its samples give fewer, its variants are "
        "sampled until it has as many. Raise it if copies stay.",
    )
    variant_kinds: str | None = Field(
        None,
        description="Kinds of variants to use, comma-separated, in the order in which they are tried; by default all "
        "of 'memfix list variants'.",
    )
    surrogates: str | None = Field(
        None,
        description="Surrogates for the method surrogate: pictures that are shown instead of those to forget, in a "
        "folder or table, each named as its reference. Surrogates that are missing are made by the model "
        "itself.",
    )
    reword: bool = Field(
        False,
        description="After training, let the model read a fully memorized prompt, once it gives no copies, as the "
        "longest of its wordings that never gave any: the prompt's own meaning was lost with the image. It was "
        "measured on the bundled model only. The re-check takes it off to look at the weights.",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Clip the combined gradient to this norm.")
    adam_weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    use_8bit_adam: bool = Field(
        False,
        description="Keep AdamW's state in 8 bits, which takes 2 bytes per trained weight instead of 8, for full "
        "weights that do not fit. Needs bitsandbytes: pip install 'memfix[8bit]'.",
    )
    use_ema: bool = Field(
        False,
        description="Save the moving average of the trained weights instead of those of the last step. Use it if "
        "results differ much from step to step. Takes the memory of one more copy of the trained weights.",
    )
    train_seed: int = Field(0, ge=0, description="Seed of everything that the training draws at random.")
    checkpointing_steps: int = Field(
        0,
        ge=0,
        description="Write a checkpoint every so many steps, from which an interrupted training goes on; with 0 there "
        "are none and it starts again. Each takes three times the size of the trained weights on disk.",
    )
    checkpoints_total_limit: int | None = Field(
        1, ge=1, description="How many checkpoints to keep, the newest ones; one is enough to resume."
    )
    resume_from_checkpoint: str = Field(
        "latest",
        description="Checkpoint that an unfinished training goes on from: 'latest', the number of a step, or a folder "
        "such as checkpoint-4. Given with a higher --max-train-steps, an open loop that has ended goes on, too.",
    )
    report_to: Annotated[tuple[str, ...], SEVERAL] = Field(
        (),
        description="Also hand the numbers of each step to these trackers, which must be installed: tensorboard (into "
        "logs/ of the run), wandb, another one that accelerate knows, all that are installed (all), or none. "
        "training.jsonl has them in any case.",
    )

    validation_steps: int = Field(
        0,
        ge=0,
        description="Validate every so many steps: take a few samples and see whether they are copies and whether "
        "controls change. Training ends when copies are gone, and goes back when pictures suffer. With 0 an open loop "
        "does not validate, and a closed one so often that it takes about a quarter of the time.",
    )
    num_validation_images: int = Field(2, ge=1, description="Samples per memorized prompt in each validation.")
    validation_inference_steps: int = Field(
        12, ge=1, description="Denoising steps of validation samples, if the detection takes more. A few are enough."
    )
    clean_validations: int = Field(
        2,
        ge=1,
        description="Training ends after this many validations in a row without a copy. Raise it if the re-check "
        "finds copies that validation has missed.",
    )
    max_drift: float = Field(
        0.5,
        gt=0,
        description="Go back to the weights of the best validation if control samples differ by more than this from "
        "those of the original model from the same noise. 1 is by how much two of its samples of a control differ.",
    )
    max_broken: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Go back to the weights of the best validation if more than this share of samples is blank or "
        "noise.",
    )

    def settled(self, prompts: int, processes: int = 1) -> UnlearnSettings:
        """The settings with the number of steps that so many memorized prompts need, shared by processes."""
        if self.max_train_steps:
            return self
        together = 1 if self.adapter_per_prompt else prompts
        steps = max(LEAST_STEPS, math.ceil(self.draws_per_prompt * together / self._items(processes)))
        if self.closed:
            return self.model_copy(update={"loop": "closed", "max_train_steps": MOST_ROUNDS * steps})
        return self.model_copy(update={"max_train_steps": steps})

    @property
    def closed(self) -> bool:
        """Whether validations steer the training."""
        return self.loop == "closed" or (self.loop is None and not self.max_train_steps)

    def adversarial(self, rate: float | None = None) -> UnlearnSettings:
        """The settings of the adversarial steps: as many, at most in a closed loop, which begins at `rate`. In an open
        one there are no validations, and the rate rises and falls anew.

        What is forgotten is bounded, since much of it is forgotten already, and weighs more; it is drawn at earlier
        timesteps too. Where the user's own values do not go further, they are those of `ADVERSARIAL_VALUES`.
        """
        own = {
            "max_train_steps": self.adversarial_steps, "adversarial_steps": 0,
            "learning_rate": rate or self.learning_rate,
            "loop": "closed" if self.closed else "open", "validation_steps": 0, "lr_scheduler": "cosine",
            "forget_cap": self.forget_cap or ADVERSARIAL_VALUES.forget_cap,
            "forget_ratio": max(self.forget_ratio, ADVERSARIAL_VALUES.forget_ratio),
            "timestep_min": min(self.timestep_min, ADVERSARIAL_VALUES.timestep_min),
        }  # fmt: skip
        return self.model_copy(update=own)

    def draws(self, prompts: int, processes: int = 1) -> float:
        """Items that each of so many memorized prompts gets in all steps; of settled settings."""
        return self.max_train_steps * self._items(processes) / (1 if self.adapter_per_prompt else prompts)

    def _items(self, processes: int) -> int:
        """Items of the mixture in a step of all processes."""
        return self.train_batch_size * self.gradient_accumulation_steps * processes

    def resolved_prior_weight(self) -> float:
        """The weight of a prior item in force."""
        return self.prior_loss_weight or (10.0 if self.prior_target == "model" else 1.0)

    def resolved_learning_rate(self) -> float:
        """The rate in force."""
        return self.learning_rate or (1e-4 if self.weights == "lora" else 1e-5)
