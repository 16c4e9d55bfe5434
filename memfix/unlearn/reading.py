"""Which settings a training looks at. What is given and never looked at is an error, not a setting without effect."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import torch
from torch import nn

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.unlearn.objective import terms
from memfix.unlearn.objective.methods import METHODS, Method, window
from memfix.unlearn.train.trainer import adam
from memfix.variants.table import get_kinds

OWN = frozenset(name for method in METHODS.values() for name in method.reads)
PRIOR_ITEMS = frozenset({"prior_batch_size", "prior_prompts", "prior_target", "prior_loss_weight"})
SAMPLED = frozenset({"keep_margin", "keep_variants", "keep_enough"})
GIVEN_TO_KEEP = frozenset({"keep_folder", "variant_kinds"})
LORA = frozenset({"rank", "use_dora", "adapter_per_prompt"})
VALIDATION_SETTINGS = frozenset(
    {"num_validation_images", "validation_inference_steps", "clean_validations", "max_drift", "max_broken"}
)  # fmt: skip
SOME = OWN | PRIOR_ITEMS | SAMPLED | GIVEN_TO_KEEP | {"mixture", "forget_low_pass"}
"""Settings that some methods look at and others do not."""


def settings_of(method: Method, settings: UnlearnSettings) -> AbstractSet[str]:
    """Of `SOME`, those that a method looks at under these settings."""
    composed = method.compose(settings)
    read = set(method.reads)
    if composed.keep:
        read |= PRIOR_ITEMS
    if composed.forget:
        read |= {"forget_low_pass"}
    if composed.keep and composed.forget and composed.keep is not terms.paired_keep:  # which takes every item twice
        read |= {"mixture"}
    if keeps(method, settings):
        read |= SAMPLED | GIVEN_TO_KEEP
    elif settings.reword:
        read |= SAMPLED
    if settings.forget_norm is not None:
        read -= {"forget_ratio"}
    return read


def keeps(method: Method, settings: UnlearnSettings) -> bool:
    """Whether training looks at keep images: in a keep term, or for a prior on the weights."""
    composed = method.compose(settings)
    return composed.keep is not None or bool(prior_strength(method, settings))


def prior_strength(method: Method, settings: UnlearnSettings) -> float:
    """Share of each step that the prior on the weights has."""
    own = method.compose(settings).parameter_prior
    return own if settings.parameter_prior is None else settings.parameter_prior


def kinds_used(method: Method, settings: UnlearnSettings) -> list[str]:
    """Names of the kinds of variants that are worth sampling: without anyone who looks at them, none.

    Rewording alone looks at beginnings of a prompt only.
    """
    names = [kind.name for kind in get_kinds(settings.variant_kinds)] if settings.keep_variants else []
    if keeps(method, settings):
        return names
    return [name for name in names if name == "shorten"] if settings.reword else []


def prior_prompts(method: Method, settings: UnlearnSettings) -> int:
    """Of how many prompts prior items are to be; 0 where none are drawn."""
    drawn = settings.prior_batch_size and settings_of(method, settings) >= PRIOR_ITEMS
    return settings.prior_prompts if drawn else 0


def settled(method: Method, settings: UnlearnSettings, prompts: int, processes: int = 1) -> UnlearnSettings:
    """The settings with all numbers of steps, for so many memorized prompts that processes share."""
    settings = settings.settled(prompts, processes)
    if settings.adversarial_steps is not None:
        return settings
    steps = settings.max_train_steps if settings.closed and method.compose(settings).forget else 0
    return settings.model_copy(update={"adversarial_steps": steps})


def drawn_mixture(settings: UnlearnSettings) -> float:
    """Lambda as a pass can hold it: whole items, at least one on each side."""
    size = settings.train_batch_size
    return min(max(round(settings.mixture * size), 1), size - 1) / size


def check_settings(method: Method, settings: UnlearnSettings, given: Iterable[str] = ()) -> None:
    """Raise MemfixError for settings that are wrong by themselves, or that are in `given` and never looked at.

    A switch that is off, and a number that is not set, need nobody to look at them.
    """
    get_kinds(settings.variant_kinds)
    window(settings)
    _check_weights(settings)
    read, full = settings_of(method, settings), settings.weights == "full"
    if settings.adversarial_steps and method.compose(settings).forget is None:
        reason = f"method '{method.name}' has no forget term that could work against an attack"
        raise _useless("adversarial_steps", reason, None)
    for name in sorted({*given, "surrogates"}):
        if getattr(settings, name) in (None, False):
            continue
        if name in SOME and name not in read:
            raise _unread(name, method)
        if name in LORA and full:
            raise _useless(name, "it is for a LoRA, but all weights are trained", "--lora")
        if name in VALIDATION_SETTINGS and not (settings.closed or settings.validation_steps):
            raise _useless(name, "there is no validation during training", "--validation-steps")
        if name == "lr_scheduler" and settings.closed:
            raise _useless(name, "a closed loop finds the learning rate as it goes", "--loop open")


def _check_weights(settings: UnlearnSettings) -> None:
    """What cannot go together, and the package that 8 bits need."""
    if settings.adapter_per_prompt and settings.weights == "full":
        raise MemfixError("--adapter-per-prompt is only for LoRA.", "Leave out --full.", ExitCode.USAGE)
    if settings.adapter_per_prompt and settings.use_dora:
        raise MemfixError("A DoRA adapter cannot be added to other adapters.", "Leave out --use-dora.", ExitCode.USAGE)
    if settings.use_8bit_adam:
        adam([nn.Parameter(torch.zeros(1))], 1.0, 0.0, eight_bit=True)


def _unread(name: str, method: Method) -> MemfixError:
    """The error for a setting that this method does not look at, naming those that do."""
    if name == "forget_ratio" and name in method.reads:
        return _useless(name, "--forget-norm replaces it", None)
    if name == "mixture" and method.name == "siss":
        return _useless(name, "in mode no-is every item counts for both sides", "--siss-mode is")
    plain = UnlearnSettings(reword=False)
    others = [m.name for m in METHODS.values() if name in settings_of(m, plain)]
    return MemfixError(
        f"Method '{method.name}' does not use {name}.",
        f"Leave out {_flag(name)}, or give --method {' or '.join(others)}.", ExitCode.USAGE,
    )  # fmt: skip


def _useless(name: str, reason: str, wanted: str | None) -> MemfixError:
    hint = f"Leave out {_flag(name)}{f', or give {wanted}' if wanted else ''}."
    return MemfixError(f"Setting {name} has no effect: {reason}.", hint, ExitCode.USAGE)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
