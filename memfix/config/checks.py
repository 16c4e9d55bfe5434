"""Settings of the first check (detection) and of the second one (re-check)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from memfix.config.base import NUMBER_OR_NAME, SEVERAL, Settings

AUTO = "auto"
"""The measure that decides where nobody names one: see `DetectSettings.deciding`."""


LATER_SETTINGS = ("vae", "text_encoder", "resolution", "height", "width", "embedding", "captions_from")
"""Settings of detection that runs of an earlier time do not have; nothing by default."""


class DetectSettings(Settings):
    """The first check: what is sampled, what the samples are compared with, and when a sample counts as a copy."""

    model: str = Field(
        "CompVis/stable-diffusion-v1-4",
        description="The model: a diffusers folder, a hub id, a single .safetensors file, or 'demo' for the bundled "
        "model.",
    )
    revision: str | None = Field(None, description="Revision of the model on the hub; pin it to make a run repeatable.")
    variant: str | None = Field(None, description="Variant of the weight files, for instance fp16.")
    vae: str | None = Field(
        None,
        description="VAE to use in the place of the model's own, or where its file has none: a diffusers folder, or a "
        "single .safetensors file.",
    )
    text_encoder: str | None = Field(
        None,
        description="Text encoder in the place of the model's own, given likewise; for a file of Stable Diffusion XL "
        "that lacks its second one, a model that has both.",
    )
    resolution: int | None = Field(
        None,
        ge=8,
        description="Height and width of pictures in pixels. By default the model's own size; give the size that a "
        "fine-tune was trained at where its configuration still has another one, since copies are drawn at that size.",
    )
    height: int | None = Field(None, ge=8, description="Height of pictures in pixels, where it is not --resolution.")
    width: int | None = Field(None, ge=8, description="Width of pictures in pixels, where it is not --resolution.")
    adapter: Annotated[tuple[str, ...], SEVERAL] = Field(
        (),
        description="LoRA to put on top of the model: a folder or file of your own, with its strength where that is "
        "not 1 (style.safetensors:0.8), or that of an earlier run if you want to unlearn more. Several add up. The new "
        "LoRA then contains these as well.",
    )
    embedding: Annotated[tuple[str, ...], SEVERAL] = Field(
        (),
        description="Embedding of textual inversion, a .safetensors file, whose word prompts may use: the word in the "
        "file, else the file's name, or one of your own (face.safetensors:<face>). It may be repeated.",
    )
    references: str | None = Field(
        None,
        description="Training images: a folder (images, webdataset tars and parquet tables with images, at any depth), "
        "one of these, a table that names images (.csv, .jsonl, .parquet), an index made by 'memfix index', or 'demo'. "
        "Images are known by their content. If it is not given, the images that the prompts bring are used; if they "
        "bring none, the samples are compared with each other.",
    )
    captions_from: Literal["names", "whole-names"] | None = Field(
        None,
        description="Caption of pictures of a folder that have none otherwise: their names up to the first underscore "
        "(names, as EveryDream takes them), or whole without the ending (whole-names, as OneTrainer does). By default "
        "a name is no caption.",
    )
    controls: str | None = Field(
        None,
        description="List of prompts that must not change; 'controls' is the bundled list. They are checked as well.",
    )
    num_samples: int = Field(16, ge=1, description="Samples per prompt. If none of 16 is a copy, at most 21 % are.")
    seed: int = Field(
        0, ge=0, description="Seed of the first sample of each prompt; the next samples use the next seeds."
    )
    num_inference_steps: int = Field(50, ge=1, description="Denoising steps per sample.")
    guidance_scale: float = Field(7.5, ge=0, description="Scale of classifier-free guidance; 1 switches guidance off.")
    batch_size: int = Field(
        8, ge=1, description="Images that are sampled at once; fewer are where memory does not hold as many."
    )
    limit: int | None = Field(None, ge=1, description="Read only the first N prompts.")
    skip_invalid: bool = Field(
        False,
        description="Leave out invalid rows of prompt lists and reference tables, and pictures that are missing or "
        "broken, and say which ones.",
    )
    measure: str = Field(
        AUTO,
        description="Measure of similarity that decides what a copy is; see 'memfix list measures'. By default sscd "
        "with the authors' weights, and for the bundled model ssim.",
    )
    sscd_weights: str | None = Field(
        None,
        description="Weights of the measure sscd: the path of a TorchScript file, or 'demo' for the bundled weights, "
        "which only know posters. By default those that the index of the references was made with, or "
        "else the authors' sscd_disc_mixup, which is downloaded once.",
    )
    clip_model: str | None = Field(
        None,
        description="CLIP model for an index of the references or for --clip-score: NAME/TAG as in open_clip, or "
        "NAME/PATH with a .safetensors checkpoint. By default the model that the index was made with.",
    )
    clip_score: bool = Field(
        False,
        description="Also record the clip_score of the samples, before and after: how well they fit their prompts by "
        "CLIP (--clip-model, by default ViT-B-32/laion2b_s34b_b79k). It does not decide what a copy is.",
    )
    trust_weights: bool = Field(
        False,
        description="Run a TorchScript file even if its hash is unknown. Such a file is a program: know where it "
        "comes from.",
    )
    threshold: Annotated[float | str | None, NUMBER_OR_NAME] = Field(
        None,
        description="Threshold of the measure: a number, or a name from 'memfix list thresholds'. By default the "
        "measure's own. Copies of a part have a threshold of their own, which this does not change.",
    )
    false_alarm_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Set the threshold so that this share of the training images would count as a copy of an "
        "unrelated one. Needs references with captions, and does not change the threshold for copies of a "
        "part.",
    )
    chance: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of samples that pass the threshold by chance when nothing is memorized. By default the "
        "value of --false-alarm-rate, or else 0.001. If chance can explain the copies of a prompt, the "
        "prompt is undecided.",
    )
    first_look: int | None = Field(
        None,
        ge=1,
        description="Take the first interim look at a prompt after this many samples: stop if its verdict is clear, "
        "else double the number, up to --num-samples. Saves time on long lists; needs references.",
    )
    screen: str | None = Field(
        None,
        description="Score all prompts with this screen first, and do not sample those that score as clean prompts "
        "do; see 'memfix list screens'. Needs --controls.",
    )
    screen_seeds: int = Field(8, ge=1, description="Seeds per prompt that the screen uses.")
    miss_rate: float = Field(
        0.02, gt=0, lt=1, description="Share of the memorized prompts that the screen may leave out, as estimated."
    )
    audit: int = Field(
        10,
        ge=0,
        description="How many of the prompts that the screen would leave out are drawn at random and sampled all the "
        "same. If one of them is memorized, all prompts are sampled.",
    )
    similar_prompts: int = Field(
        25,
        ge=0,
        description="Prompts per round that the screen left out and that are tried all the same because they are "
        "worded like memorized ones; rounds go on while one gives a copy, and 0 switches this off. Needs "
        "references.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the interval for the share of copies.")
    tolerance: float = Field(
        0.25,
        gt=0,
        le=1,
        description="A prompt without copies is clean once the interval for its share of copies ends at or below this.",
    )
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = Field(
        "auto",
        description="Precision of the model's arithmetic; auto chooses bf16 on devices that are fast at it, and else "
        "fp32 (no), whose products GPUs round to TF32 if they can. Cards before Ampere (T4, V100) are fast at fp16.",
    )

    @property
    def deciding(self) -> str:
        """The measure that decides, by name: SSCD, which also finds altered copies, unless another one is named."""
        return "sscd" if self.measure == AUTO else self.measure

    def picture_size(self, own: tuple[int, int]) -> tuple[int, int]:
        """Height and width of pictures of a model that draws them at its `own` ones by default."""
        return self.height or self.resolution or own[0], self.width or self.resolution or own[1]

    def error_rates(self) -> tuple[float, float, float]:
        """The chance in force, the tolerance and the confidence: what verdicts are given by."""
        chance = self.chance if self.chance is not None else self.false_alarm_rate or 0.001
        return chance, self.tolerance, self.confidence


class RecheckSettings(Settings):
    """The second check, on the unlearned weights."""

    free: ClassVar[frozenset[str]] = frozenset({"paraphrases"})  # known by content, among the inputs

    num_fresh: int = Field(16, ge=1, description="Samples per prompt from noise that the first check did not use.")
    fresh_seed: int = Field(100_000, ge=1, description="Seed of the first of these samples.")
    attacks: str = Field(
        "usual",
        description="Attacks that try to bring erased training images back: 'usual' (those that take about as long as "
        "the sampling), 'all', 'none', or names from 'memfix list attacks', comma-separated. A picture that an attack "
        "brings back, and that it does not force from clean pictures, is hidden and not mitigated.",
    )
    paraphrases: str | None = Field(
        None,
        description="File of your own wordings of memorized prompts, one per line or a table with several per row; one "
        "sample of each is drawn by the attack 'paraphrase'. A row that names a prompt belongs to that one, any other "
        "to the prompt with which it shares the most words.",
    )
    attack_samples: int = Field(8, ge=1, description="Samples per training image at each point of an attack.")
    attack_seed: int = Field(200_000, ge=1, description="Seed of the first of these samples, and of the attacks.")
    control_pictures: int = Field(
        8,
        ge=0,
        description="How many training images that the model never memorized are attacked as well, to tell what an "
        "attack can force from any picture.",
    )
