"""Settings of unlearning."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from memfix.config.base import Settings


class UnlearnSettings(Settings):
    """Which weights change, by which method, how far."""

    free: ClassVar[frozenset[str]] = frozenset(
        {"checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint"}
    )

    method: str = Field("siss", description="Unlearning method; see 'memfix list methods'.")
    weights: Literal["lora", "full"] = Field("lora", description="LoRA adapter, or all weights of the UNet.")
    rank: int = Field(16, ge=1, description="Rank of the LoRA adapter.")
    use_dora: bool = Field(
        False,
        description="Train the lengths of a LoRA's rows apart from their directions (DoRA). Try it when a low rank "
        "leaves copies; a step takes longer.",
    )
    adapter_per_prompt: bool = Field(
        False,
        description="Train a LoRA for each memorized prompt by itself, to hand out or to take back one by one "
        "(adapters/<prompt id>/model in the run); model/ has them merged. Takes --max-train-steps for each.",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Learning rate of AdamW; 1e-4 for LoRA and 1e-5 for full weights when not given."
    )
    max_train_steps: int = Field(100, ge=1, description="Optimizer steps.")
    lr_warmup_steps: int = Field(5, ge=0, description="Steps over which the learning rate rises to its value.")
    lr_scheduler: Literal["constant", "cosine"] = Field(
        "constant", description="What the learning rate does after its rise: stays, or falls to 0 along a cosine."
    )
    train_batch_size: int = Field(16, ge=2, description="Items of the forget/keep mixture in one pass.")
    prior_batch_size: int = Field(
        8, ge=0, description="Further keep items in one pass, from prompts outside the mixture."
    )
    prior_target: Literal["picture", "model"] = Field(
        "picture",
        description="What the prior items are held to: their pictures, or the answers of the model before training, "
        "which hold the rest of the model stiller, for a further forward pass an item and, with full weights, a copy "
        "of the UNet. Try model when controls change.",
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="Passes an optimizer step.")
    gradient_checkpointing: bool = Field(False, description="Trade time for memory.")
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] | None = Field(
        None,
        description="Precision of the training's arithmetic, that of the detection when not given; auto is bf16 where "
        "the device is fast at it. Trained weights are fp32 in each, and fp16 scales its losses so that gradients "
        "neither vanish nor overflow.",
    )
    torch_compile: bool = Field(
        False,
        description="Compile the UNet before training. Pays for itself only over many steps; needs a C++ compiler, on "
        "a GPU Triton.",
    )
    mixture: float = Field(0.5, gt=0, lt=1, description="Lambda: share of the mixture that starts from forget images.")
    forget_ratio: float = Field(
        0.1, gt=0, description="Rho: norm of the forget gradient over that of the keep gradient."
    )
    siss_mode: Literal["is", "no-is", "bernoulli"] = Field(
        "is",
        description="How siss meets its two losses: one importance-weighted pass (is); a keep and a forget pass for "
        "every item, to check the weights against, at twice the time (no-is); one pass in which an item serves only "
        "the side it was drawn on (bernoulli).",
    )
    forget_norm: float | None = Field(
        None,
        gt=0,
        description="Rescale siss's forget gradient to this norm instead of rho times the keep gradient's. To repeat "
        "published runs (750 for Stable Diffusion); it does not carry over to other sizes.",
    )
    forget_weight: float | None = Field(
        None,
        gt=0,
        description="Weight of the forget term where a method adds it: share of the sum for retrack (0.5), factor for "
        "bounded (0.2), surrogate and anchor (1). Raise it when copies stay, lower it when controls change.",
    )
    forget_cap: float | None = Field(
        None,
        gt=0,
        description="Stop pushing an image away once its error is this multiple of that of the answer 0. bounded and "
        "vdu take 1 when not given, neggrad has no cap; give neggrad one unless it is a baseline.",
    )
    bome_eta: float = Field(
        0.01,
        ge=0,
        description="Least rate at which erasediff lowers its forget term. Published: 0.01 for Stable Diffusion, 0.001 "
        "for pixels. Raise it when copies stay.",
    )
    neighbours: int = Field(
        10, ge=1, description="Nearest keep images that retrack denoises a forget image to. Lower it when results blur."
    )
    forget_low_pass: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Forget only spatial frequencies up to this share of the highest. Try 0.5 when unlearned samples "
        "lose their fine detail.",
    )
    parameter_group: Literal["all", "cross-attention", "self-attention"] = Field(
        "all",
        description="Which of the trained weights move. cross-attention changes what prompts mean and little else; use "
        "it when controls change. It cannot unlearn images that come without their prompt.",
    )
    saliency: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Only this share of the weights moves: those on which the forget images depend most before "
        "training. For full weights; try 0.5 when controls change.",
    )
    parameter_prior: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of each step that pulls the weights back to where they were, hardest where the keep images "
        "depend on them. vdu takes 0.99 when not given and needs a search: lower forgets more, higher keeps more. "
        "Takes two copies of the trained weights.",
    )
    timestep_min: int = Field(0, ge=0, description="First training timestep that is drawn.")
    timestep_max: int = Field(1000, ge=1, description="One past the last training timestep that is drawn.")
    snr_gamma: float | None = Field(
        None,
        gt=0,
        description="Weigh timesteps by min-SNR with this bound, on both sides; 5 is usual. Without it all timesteps "
        "of the window count alike. Try it with a window of all timesteps.",
    )
    forget_from: Literal["both", "references", "samples"] = Field(
        "both",
        description="What is forgotten of a memorized prompt: the training images that its copies show, the copies "
        "themselves, or both. Take samples when the training images cannot be used.",
    )
    keep_folder: str | None = Field(
        None,
        description="Pictures of your own to keep: a folder (imagefolder, webdataset tars), tar, or table that names "
        "or holds them. Each is kept under its caption; a memorized prompt as caption serves that prompt.",
    )
    keep_margin: float | None = Field(
        None,
        ge=0,
        description="Samples of a memorized prompt within this distance of the threshold are near-copies, and not "
        "kept; the measure's own margin when not given.",
    )
    keep_variants: int = Field(
        8,
        ge=0,
        description="Samples drawn from each variant of a memorized prompt that has few pictures to keep; 0: none.",
    )
    keep_enough: int = Field(
        4,
        ge=1,
        description="A memorized prompt with fewer non-memorized pictures than this is sampled in other ways, until it "
        "has as many. Raise it when copies stay.",
    )
    keep_ways: str | None = Field(
        None,
        description="These ways, comma-separated, in the order in which they are tried; all of 'memfix list ways' when "
        "not given.",
    )
    stand_ins: str | None = Field(
        None,
        description="For method surrogate, pictures to show instead of those to forget: a folder, or a table, of "
        "pictures named as the references that they stand in for. Those that it lacks are made by the model itself.",
    )
    reword: bool = Field(
        True,
        description="After training, let a fully memorized prompt that gives no copies any more read like its longest "
        "wording that never gave any. Its own meaning was lost with the image.",
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Clip the combined gradient to this norm.")
    adam_weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    use_8bit_adam: bool = Field(
        False,
        description="Hold AdamW's state in 8 bits: 2 bytes a trained weight instead of 8, when full weights do not "
        "fit. Needs bitsandbytes: pip install 'memfix[8bit]'.",
    )
    use_ema: bool = Field(
        False,
        description="Save the moving average of the trained weights instead of those of the last step, when the "
        "results of neighbouring steps differ much. Takes one more copy of the trained weights.",
    )
    train_seed: int = Field(0, ge=0, description="Seed of the training draws.")
    checkpointing_steps: int = Field(
        0,
        ge=0,
        description="Keep what a killed training needs to go on, every so many steps; 0: never, it then starts again. "
        "For long trainings; each takes three times the trained weights on disk.",
    )
    checkpoints_total_limit: int | None = Field(
        1, ge=1, description="How many checkpoints to keep, the newest ones. Going on takes one."
    )
    resume_from_checkpoint: str = Field(
        "latest", description="The checkpoint that an unfinished training goes on from: latest, or its step."
    )

    validation_steps: int = Field(
        0,
        ge=0,
        description="Look at the weights every so many steps: do a few samples show copies, do controls change? "
        "Training ends when copies are gone and goes back when pictures suffer; 0: never.",
    )
    num_validation_images: int = Field(2, ge=1, description="Samples that a look takes of each memorized prompt.")
    validation_inference_steps: int = Field(
        12, ge=1, description="Denoising steps of a look's samples, if the detection takes more. Few are enough."
    )
    clean_looks: int = Field(
        2,
        ge=1,
        description="Looks in a row without any copy after which training comes to its end. Raise it when the "
        "re-check finds what looks have missed.",
    )
    max_drift: float = Field(
        0.2,
        gt=0,
        description="Go back to the best look when control samples differ more than this (rms, 0 to 1) from those of "
        "before from the same noise.",
    )
    max_broken: float = Field(
        0.25, gt=0, le=1, description="Go back to the best look when more than this share of samples is blank or noise."
    )

    def resolved_learning_rate(self) -> float:
        """The rate in force."""
        return self.learning_rate or (1e-4 if self.weights == "lora" else 1e-5)
