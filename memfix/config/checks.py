"""Settings of the first check, and of the second."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from memfix.config.base import NUMBER_OR_NAME, Settings


class DetectSettings(Settings):
    """The first check: what is sampled, what it is compared with, and when it counts as a copy."""

    model: str = Field(
        "CompVis/stable-diffusion-v1-4",
        description="Diffusers folder, hub id, single .safetensors file, or 'demo' for the bundled model.",
    )
    revision: str | None = Field(None, description="Hub revision of the model; pin it to make a run repeatable.")
    variant: str | None = Field(None, description="Weight variant of the model, for instance fp16.")
    adapter: str | None = Field(
        None,
        description="LoRA on top of the model, folder or file: one of your own, or of an earlier run, to unlearn more. "
        "What is unlearned is then saved together with it, as one LoRA for the model.",
    )
    references: str | None = Field(
        None,
        description="Training images: folder (imagefolder, webdataset tars), tar, table that names them (.csv, .jsonl, "
        ".parquet) or holds them (.parquet), index that 'memfix index' has made, or 'demo'. Without it prompts name "
        "theirs; if none does, samples that come again and again stand in.",
    )
    controls: str | None = Field(
        None, description="List of prompts that must not change, 'controls' for the bundled one. They are checked too."
    )
    num_samples: int = Field(16, ge=1, description="Samples a prompt. 16 clean ones bound the share of copies at 21 %.")
    seed: int = Field(0, ge=0, description="Seed of a prompt's first sample; the next ones count up.")
    num_inference_steps: int = Field(50, ge=1, description="Denoising steps a sample.")
    guidance_scale: float = Field(7.5, ge=0, description="Classifier-free guidance; 1 switches it off.")
    batch_size: int = Field(8, ge=1, description="Images sampled at once; lower it when memory runs out.")
    limit: int | None = Field(None, ge=1, description="Only the first N prompts.")
    skip_invalid: bool = Field(
        False,
        description="Leave out wrong rows of prompt lists and reference tables, and pictures that are missing or "
        "broken, and say which.",
    )
    measure: str = Field("ssim", description="Measure that decides what a copy is; see 'memfix list measures'.")
    sscd_weights: str | None = Field(
        None,
        description="Weights of measure sscd: a path of a TorchScript file, or 'demo' for the bundled ones, which know "
        "posters only. When not given, those that the index of the references was made with, else the authors' "
        "sscd_disc_mixup (downloaded once).",
    )
    clip_model: str | None = Field(
        None,
        description="CLIP model, where an index of the references or --agreement needs one: open_clip's NAME/TAG, or "
        "NAME/PATH of a .safetensors checkpoint. When not given, the one that the index was made with.",
    )
    agreement: bool = Field(
        False,
        description="Also record how well samples fit their prompts, before and after, by CLIP (--clip-model, else "
        "ViT-B-32/laion2b_s34b_b79k). It is no criterion for copies.",
    )
    trust_weights: bool = Field(
        False,
        description="Run a TorchScript file whose hash is not a known one: it is a program, and you vouch for it.",
    )
    threshold: Annotated[float | str | None, NUMBER_OR_NAME] = Field(
        None,
        description="Threshold of the measure: a number, or a name of 'memfix list thresholds'. Its own default when "
        "not given. Copies of a part are found without it.",
    )
    false_alarm_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Set the threshold so that this share of training images would count as a copy of an unrelated "
        "one; for reference sets with captions. It does not move the threshold for copies of a part.",
    )
    chance: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of samples that pass the threshold by chance where nothing is memorized; the "
        "false-alarm rate when that is given, else 0.001. Copies that it can explain leave a prompt undecided.",
    )
    first_look: int | None = Field(
        None,
        ge=1,
        description="Judge after so many samples a prompt, end there where the verdict is clear, and double them where "
        "it is not, up to --num-samples. For long lists; needs references.",
    )
    screen: str | None = Field(
        None,
        description="Score all prompts by this screen first, and do not sample those that are certainly clean; see "
        "'memfix list screens'. Needs --controls.",
    )
    screen_seeds: int = Field(8, ge=1, description="Seeds a prompt that the screen looks at.")
    miss_rate: float = Field(
        0.02, gt=0, lt=1, description="Share of the memorized prompts that the screen may leave out, by estimate."
    )
    audit: int = Field(
        10,
        ge=0,
        description="Prompts that the screen would leave out, drawn at random and sampled all the same. If one of "
        "them is memorized, all are sampled.",
    )
    neighbours: int = Field(
        25,
        ge=0,
        description="Prompts that the screen left out and that are worded like memorized ones are tried, from the "
        "noise that leads nearest to the picture: so many at a time, as long as one copies; 0: none. Needs references.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the interval of the share of copies.")
    tolerance: float = Field(
        0.25, gt=0, le=1, description="A prompt without copies is clean once the interval of its share lies below this."
    )
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = Field(
        "auto", description="Precision of the model's arithmetic; auto is bf16 where the device is fast at it."
    )

    def error_rates(self) -> tuple[float, float, float]:
        """The chance in force, the tolerance and the confidence: what verdicts are given by."""
        chance = self.chance if self.chance is not None else self.false_alarm_rate or 0.001
        return chance, self.tolerance, self.confidence


class RecheckSettings(Settings):
    """The second check, on the new weights."""

    num_fresh: int = Field(16, ge=1, description="Samples a prompt from noise the first check did not use.")
    fresh_seed: int = Field(100_000, ge=1, description="Seed of the first of them.")
