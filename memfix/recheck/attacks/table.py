"""The attacks by name, in the order in which they are tried: what costs little first."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.recheck.attacks import deployment, pictures, relearning, wordings
from memfix.recheck.attacks.base import Attack, one_by_one
from memfix.recheck.attacks.embedding import LONG, from_clean, from_noise, from_prompt, optimised

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in [
        Attack("wording", "words inserted, repeated, deleted, in another order, in a sentence", "samples",
               one_by_one(wordings.reworded), usual=True),
        Attack("embedding", "the prompt's embedding, optimised for 50 steps (Finding DoRI)", "steps",
               one_by_one(optimised(from_prompt)), usual=True, trained_against=True),
        Attack("noised", "the training image with noise on it, denoised", "samples",
               one_by_one(pictures.noised_picture), usual=True),
        Attack("emphasis", "more weight on the words; no padding", "samples", one_by_one(wordings.emphasised)),
        Attack("embedding-noise", "an embedding optimised from noise, to 500 steps", "steps",
               one_by_one(optimised(from_noise, LONG))),
        Attack("embedding-clean", "an embedding optimised from a clean prompt's, to 500 steps", "steps",
               one_by_one(optimised(from_clean, LONG))),
        Attack("embedding-long", "the prompt's embedding, optimised to 500 steps", "steps",
               one_by_one(optimised(from_prompt, LONG))),
        Attack("inverted", "the noise that DDIM inversion finds for the training image", "steps",
               one_by_one(pictures.inverted)),
        Attack("half", "the left half of the training image given", "samples", one_by_one(pictures.half)),
        Attack("guidance", "guidance 1, 3 and 12", "samples", one_by_one(deployment.guided)),
        Attack("steps", "half and twice the denoising steps", "samples", one_by_one(deployment.stepped)),
        Attack("precision", "fp16, bf16, and weights in 8 bits", "samples", deployment.rounded, together=True),
        Attack("strength", "the change of the weights at 90, 80, 65 and 50 %", "samples", deployment.weakened,
               together=True),
        Attack("relearn-clean", "fine-tuning on clean prompts, 200 steps", "steps", relearning.benign, together=True),
        Attack("relearn-one", "fine-tuning on the training image itself, 50 steps", "steps",
               one_by_one(relearning.relearned)),
    ]
}  # fmt: skip
EVERY, USUAL, NONE = "all", "usual", "none"


def get_attacks(names: str) -> Sequence[Attack]:
    """The attacks of a comma-separated list; `usual`, `all` and `none` stand for those. Raises MemfixError else."""
    if names == NONE:
        return []
    if names in (EVERY, USUAL):
        return [attack for attack in ATTACKS.values() if attack.usual or names == EVERY]
    listed = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    for name in listed:
        if name not in ATTACKS:
            raise MemfixError(
                f"Unknown attack '{name}'.", did_you_mean(name, [*ATTACKS, EVERY, USUAL, NONE]), ExitCode.USAGE
            )
    return [ATTACKS[name] for name in listed]
