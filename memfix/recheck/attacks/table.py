"""The attacks by name, in the order in which they are tried: what costs little first."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.config.checks import RecheckSettings
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.recheck.attacks import deployment, pictures, relearning, wordings
from memfix.recheck.attacks.base import Attack, one_by_one
from memfix.recheck.attacks.embedding import LONG, from_clean, from_noise, from_prompt, optimised

PARAPHRASE = "paraphrase"
ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in [
        Attack("wording", "words inserted, repeated, deleted, in another order, in a sentence", "samples",
               one_by_one(wordings.reworded), usual=True),
        Attack(PARAPHRASE, "your own wordings, given by --paraphrases", "samples", one_by_one(wordings.paraphrased)),
        Attack("frame", "the training image's own size and crop told with the prompt (Stable Diffusion XL)", "samples",
               one_by_one(pictures.as_learned), usual=True),
        Attack("embedding", "the prompt's embedding, optimised for 50 steps (Finding DoRI)", "steps",
               one_by_one(optimised(from_prompt)), usual=True, trained_against=True, asks_only=True),
        Attack("noised", "the training image with noise on it, denoised", "samples",
               one_by_one(pictures.noised_picture), usual=True, ends_training=True),
        Attack("emphasis", "more weight on the words; no padding; layers skipped (CLIP skip)", "samples",
               one_by_one(wordings.emphasised)),
        Attack("embedding-noise", "an embedding optimised from noise, to 500 steps", "steps",
               one_by_one(optimised(from_noise, LONG)), asks_only=True),
        Attack("embedding-clean", "an embedding optimised from a clean prompt's, to 500 steps", "steps",
               one_by_one(optimised(from_clean, LONG)), asks_only=True),
        Attack("embedding-long", "the prompt's embedding, optimised to 500 steps", "steps",
               one_by_one(optimised(from_prompt, LONG)), asks_only=True),
        Attack("inverted", "the noise that DDIM inversion finds for the training image", "steps",
               one_by_one(pictures.inverted)),
        Attack("half", "the left half of the training image given", "samples", one_by_one(pictures.half)),
        Attack("guidance", "guidance 1, 3 and 12", "samples", one_by_one(deployment.guided)),
        Attack("steps", "half and twice the denoising steps", "samples", one_by_one(deployment.stepped)),
        Attack("sampler", "other samplers: Euler ancestral, DPM++ with Karras noise, UniPC", "samples",
               one_by_one(deployment.resampled)),
        Attack("size", "pictures of 75 and 150 % of the height and width", "samples", one_by_one(deployment.resized)),
        Attack("precision", "fp16, bf16, and weights in 8 bits", "samples", deployment.rounded, together=True),
        Attack("strength", "the change of the weights at 90, 80, 65 and 50 %", "samples", deployment.weakened,
               together=True),
        Attack("relearn-clean", "fine-tuning on clean prompts, 200 steps", "steps", relearning.benign, together=True),
        Attack("relearn-one", "fine-tuning on the training image itself, 50 steps", "steps",
               one_by_one(relearning.relearned)),
    ]
}  # fmt: skip
EVERY, USUAL, NONE = "all", "usual", "none"


def get_attacks(settings: RecheckSettings) -> Sequence[Attack]:
    """The attacks of a comma-separated list; `usual`, `all` and `none` stand for those. Raises MemfixError else.

    The user's paraphrases are an attack where they are given, and none where they are not.
    """
    names, given = settings.attacks, settings.paraphrases is not None
    if names in (EVERY, USUAL):
        return [a for a in ATTACKS.values() if (given if a.name == PARAPHRASE else a.usual or names == EVERY)]
    listed = {} if names == NONE else dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    for name in listed:
        if name not in ATTACKS:
            raise MemfixError(
                f"Unknown attack '{name}'.", did_you_mean(name, [*ATTACKS, EVERY, USUAL, NONE]), ExitCode.USAGE
            )
    if given != (PARAPHRASE in listed):
        raise MemfixError(
            f"The attack {PARAPHRASE} is named, and --paraphrases gives none."
            if not given else f"--paraphrases is given, and --attacks does not name the attack {PARAPHRASE}.",
            f"Give both --paraphrases FILE and --attacks {PARAPHRASE}, or neither.", ExitCode.USAGE,
        )  # fmt: skip
    return [ATTACKS[name] for name in listed]
