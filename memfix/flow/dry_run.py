"""What an unlearning is going to do: refused before anything is sampled where it cannot work, and told by --dry-run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.flow.detection import Detection
from memfix.flow.footprint import training_demand
from memfix.flow.more_steps import MORE_STEPS, goes_on
from memfix.flow.pairs import GATHERED, INSTEAD, KEEP, PAIRS, found_pairs, own_pictures
from memfix.flow.trackers import check_trackers
from memfix.flow.training import CHECKPOINTS, begun
from memfix.flow.watching import LOOKING
from memfix.flow.weights import check_adds_up
from memfix.models.denoiser import BACKWARD
from memfix.models.device import gpu_memory
from memfix.models.model import DiffusionModel
from memfix.records import Pair, Reference, Role, Side
from memfix.references.judge import is_distinct
from memfix.references.reference_set import fingerprint
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.run.inputs import UnlearnInputs
from memfix.run.outputs import MODEL
from memfix.unlearn.data.pairs import short_of_keep, short_of_prior
from memfix.unlearn.data.prior import EACH
from memfix.unlearn.objective.methods import Method, get_method, window
from memfix.unlearn.objective.modifiers import parameter_group
from memfix.unlearn.reading import (
    PRIOR_ITEMS,
    check_settings,
    kinds_used,
    prior_prompts,
    prior_strength,
    settings_of,
    settled,
)
from memfix.unlearn.train.adversary import MOVES, POINTS
from memfix.unlearn.train.checkpoint import LATEST, chosen_step
from memfix.variants.table import VARIANT_KINDS

GIVEN = frozenset({KEEP, INSTEAD})


def check(settings: UnlearnSettings, given: Iterable[str] = ()) -> Method:
    """The method, if settings alone do not say that it cannot work. Raises MemfixError if they do."""
    check_trackers(settings.report_to)
    method = get_method(settings.method)
    check_settings(method, settings, given)
    return method


def check_run(detection: Detection, settings: UnlearnSettings, overwrite: bool) -> None:
    """Raise MemfixError if the run lacks the checkpoint that is asked for or is about to lose it, or for a precision
    that is too coarse."""
    method, fp16 = get_method(settings.method), precision_of(settings, detection.settings) == "fp16"
    if fp16 and (settings.saliency or prior_strength(method, settings)):
        what = "--saliency" if settings.saliency else "A prior on the weights"
        raise MemfixError(
            f"{what} needs squared gradients, which become 0 in fp16.", "Give --mixed-precision bf16 or no.",
            ExitCode.USAGE,
        )  # fmt: skip
    chosen = settings.resume_from_checkpoint
    if chosen == LATEST:
        return
    if overwrite or settings.adapter_per_prompt:
        reason = (
            "--overwrite discards all checkpoints"
            if overwrite
            else "with --adapter-per-prompt each adapter has its own checkpoints"
        )
        raise MemfixError(
            f"--resume-from-checkpoint {chosen}: {reason}.", "Give --resume-from-checkpoint latest.", ExitCode.USAGE
        )
    chosen_step(detection.run.path / CHECKPOINTS, chosen)


def open_model(detection: Detection, settings: UnlearnSettings) -> DiffusionModel:
    """The run's model. Raises MemfixError for settings that do not go with it."""
    model = detection.model()
    if settings.reword and model.text.pools:
        raise MemfixError(
            "This model is also told the whole prompt in one embedding, and a rewording edits only how it reads the "
            "embeddings of tokens: the prompt would go on meaning what it does.",
            "Leave out --reword.",
            ExitCode.USAGE,
        )
    check_adds_up(model, detection.settings, settings)
    window(settings, len(model.schedule))
    return model


def inputs(own: dict[str, list[Reference]]) -> UnlearnInputs:
    """What identifies the user's own pictures."""
    return UnlearnInputs.model_validate({name: fingerprint(pictures) for name, pictures in own.items()})


def changeable(run: Run, goes_on: bool) -> frozenset[str]:
    """Settings and inputs of which an unlearning that was begun may be given other values without losing anything.

    Before the pictures are gathered that is all of them, before the first step those of the training, and the number of
    steps of one that ended and `goes_on`.
    """
    every = frozenset(UnlearnSettings.model_fields)
    if goes_on:
        return MORE_STEPS
    if (run.path / MODEL).exists() or begun(run):
        return frozenset()
    return every - GATHERED if (run.path / PAIRS).exists() else every | GIVEN


# -- what --dry-run tells -----------------------------------------------------------------------------------------


def outline(run: Run, settings: UnlearnSettings, given: Iterable[str] = (), overwrite: bool = False) -> dict[str, Any]:
    """What there is to do, how much of it, and what it takes. Loads the model; writes nothing.

    Raises MemfixError for all that `flow.unlearn` refuses before it samples.
    """
    method, detection = check(settings, given), Detection.of(run)
    detected = detection.settings
    check_run(detection, settings, overwrite)
    own, found = own_pictures(settings), detection.memorized(Role.PROMPT)
    settings = settled(method, settings, len(found)) if found else settings
    if not overwrite:
        run.check_same(UnlearnStage, settings, inputs(own), changeable(run, goes_on(run, settings, given)))
    if not found:
        return {"memorized_prompts": 0}
    written = [] if overwrite else run.read(PAIRS, Pair)
    pairs = written or _known_pairs(detection, settings)
    variants = 0 if written else _variants(pairs, method, settings)
    further = 0 if written else short_of_prior(pairs, prior_prompts(method, settings)) * EACH
    model = open_model(detection, settings)
    kept = [p for p in pairs if p.side is Side.KEEP]
    own_ids = {p.id for p in found}
    others = bool(further) or any(p.prompt_id not in own_ids for p in kept)
    items, more_items = (_items(method, s, others) for s in (settings, settings.adversarial()))
    passes = settings.max_train_steps * settings.gradient_accumulation_steps
    passes *= len(found) if settings.adapter_per_prompt else 1
    against = (settings.adversarial_steps or 0) * settings.gradient_accumulation_steps
    against *= len(found) if settings.adapter_per_prompt else 1
    drawn = passes * items + against * more_items
    asked = drawn * _sides(settings) + against * _moved(settings)
    precision = precision_of(settings, detected)
    together, card = at_once(method, settings, others), gpu_memory()
    demand = training_demand(model, method, settings, precision, together, card is not None, detected.mixed_precision)
    footprint = demand.on(card, settings.gradient_checkpointing)
    trained = sum(p.numel() for p in parameter_group(model.denoiser.trained(), settings.parameter_group).values())
    return {
        "method": method.name, "loop": "closed" if settings.closed else "open",
        "memorized_prompts": len(found), "forget_images": len(pairs) - len(kept),
        "keep_images": sum(p.prompt_id in own_ids for p in kept),
        "prior_images": sum(p.prompt_id not in own_ids for p in kept),
        "given_keep_images": 0 if written else len(own.get(KEEP, [])),
        "keep_variants_at_most": variants, "further_prior_images_at_most": further,
        "steps": passes // settings.gradient_accumulation_steps,
        "adversarial_steps": against // settings.gradient_accumulation_steps,
        "draws_per_prompt": round(settings.draws(len(found))), "passes": passes + against,
        "items": drawn,
        "unet_evaluations_at_most": (variants + further) * _evaluations(detected) + asked,
        "trained_weights": trained, **footprint.told,
        "seconds_at_most": _seconds(detection, variants + further, asked * (1 + LOOKING) if settings.closed else asked),
    }  # fmt: skip


def _known_pairs(detection: Detection, settings: UnlearnSettings) -> list[Pair]:
    """What the first check gives, without a look at any picture."""
    rule, margin = detection.rule, settings.keep_margin
    return found_pairs(detection, settings, lambda score: is_distinct(rule, score, margin))


def _variants(pairs: Sequence[Pair], method: Method, settings: UnlearnSettings) -> int:
    """How many keep images are sampled at most; fewer where one kind is enough."""
    short = short_of_keep(pairs, settings.keep_enough)
    return len(short) * sum(VARIANT_KINDS[name].most for name in kinds_used(method, settings)) * settings.keep_variants


def _items(method: Method, settings: UnlearnSettings, prior: bool) -> int:
    """Items of a pass, those of the mixture and prior ones."""
    drawn = prior and settings_of(method, settings) >= PRIOR_ITEMS
    return settings.train_batch_size + (settings.prior_batch_size if drawn else 0)


def at_once(method: Method, settings: UnlearnSettings, prior: bool) -> int:
    """Items that pass the network together as a rule, on the side that has more of them."""
    size, further = settings.train_batch_size, _items(method, settings, prior) - settings.train_batch_size
    if _sides(settings) == 2:
        return size + further
    composed = method.compose(settings)
    forget = round(composed.mixture(settings.mixture) * size)
    return max(forget, (size - forget) + further)


def precision_of(settings: UnlearnSettings, detected: DetectSettings) -> str:
    """The precision of the training's arithmetic: that of the detection unless it has its own."""
    return settings.mixed_precision or detected.mixed_precision


def _seconds(detection: Detection, samples: int, asked: float) -> int | None:
    """Sampling and steps at the pace at which the detection sampled; None where that was not measured.

    Encoding, rewording and the validations of an open loop are not counted.
    """
    taken, drawn = detection.stage.timings.get("seconds"), len(detection.samples)
    if not (taken and drawn):
        return None
    sample = taken / drawn
    forward = sample / _evaluations(detection.settings)
    return round(samples * sample + asked * (1 + BACKWARD) * forward)


def _evaluations(detected: DetectSettings) -> int:
    """How often the UNet is asked for a sample, of one picture."""
    return detected.num_inference_steps * (2 if detected.guidance_scale > 1 else 1)


def _moved(settings: UnlearnSettings) -> int:
    """How often the UNet is asked before an adversarial pass, at most: each item to forget has a target of its own."""
    return MOVES * POINTS * round(settings.mixture * settings.train_batch_size)


def _sides(settings: UnlearnSettings) -> int:
    """How often an item passes forward; each is followed by a pass backward."""
    return 2 if settings.method == "siss" and settings.siss_mode == "no-is" else 1
