"""`memfix unlearn`: fine-tune on the pairs of the memorized prompts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from memfix.config.unlearn import FEW_DRAWS, UnlearnSettings
from memfix.console import Talk
from memfix.errors import ExitCode, MemfixError
from memfix.flow import dry_run
from memfix.flow.detection import Detection
from memfix.flow.memory import sampling_memory
from memfix.flow.more_steps import goes_on, open_for_more
from memfix.flow.new_weights import NewWeights
from memfix.flow.pairs import gather, own_pictures, rewording
from memfix.flow.training import CHECKPOINTS, Training, clear, follow
from memfix.flow.weights import save
from memfix.models.device import forget_peak_memory, peak_memory, precision_advice
from memfix.records import Role
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.run.outputs import MODEL
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.objective.methods import Method
from memfix.unlearn.reading import settled
from memfix.unlearn.train.ranks import Ranks
from memfix.unlearn.train.sharding import check_sharding


def unlearn(
    run: Run,
    settings: UnlearnSettings,
    argv: list[str],
    talk: Talk,
    given: Iterable[str] = (),
    overwrite: bool = False,
) -> bool:
    """Fine-tune on the pairs of the memorized prompts; False when there is nothing to unlearn.

    Settings that the user named, `given`, are refused where nothing looks at them. With `overwrite`, what the run has
    of this stage and the later ones is discarded, once all is checked that can be checked before sampling.
    Of several ranks the first one does all of it, and the others only take their part of each step, and return False.
    """
    ranks, detection = Ranks.here(), Detection.of(run)
    if ranks.missing():
        talk.warn(
            "accelerate launch --cpu started only one process, whatever --num_processes says. To use several on CPUs, "
            "start them with torchrun --nproc-per-node N -m memfix unlearn instead."
        )
    method = dry_run.check(settings, given)
    dry_run.check_run(detection, settings, overwrite)
    if not (memorized := len(detection.memorized(Role.PROMPT))):
        detection.require_unchanged()  # so that a lost verdict is no "clean"
        talk.say("No memorized prompt was found, so nothing is unlearned.", "title")
        return False
    if ranks.sharded and settings.loop is None:
        settings = settings.model_copy(update={"loop": "open"})
    settings = settled(method, settings, memorized, ranks.world.world_size)
    if (draws := settings.draws(memorized, ranks.world.world_size)) < FEW_DRAWS:
        talk.warn(
            f"Each of {memorized} memorized prompts is drawn only {draws:.0f} times in {settings.max_train_steps} "
            "steps, which is too few to forget it. Leave out --max-train-steps, or give more."
        )
    if settings.adapter_per_prompt and not ranks.world.alone:
        reason = "--adapter-per-prompt runs in a single process."
        raise MemfixError(reason, "Start it without accelerate.", ExitCode.USAGE)
    if ranks.sharded:
        check_sharding(settings, ranks.shared(not overwrite and any((run.path / CHECKPOINTS).glob("checkpoint-*"))))
    if not ranks.world.first:
        follow(ranks, detection.model(), method, settings, dry_run.precision_of(settings, detection.settings))
        return False
    detection.require_unchanged()
    more = not overwrite and goes_on(run, settings, given)
    _of_first_rank(detection, settings, method, argv, talk, ranks, overwrite, more)
    return True


def _of_first_rank(
    detection: Detection, settings: UnlearnSettings, method: Method, argv: list[str], talk: Talk, ranks: Ranks,
    overwrite: bool, more: bool,
) -> None:  # fmt: skip
    run, own = detection.run, own_pictures(settings)
    inputs = dry_run.inputs(own)
    model = dry_run.open_model(detection, settings) if overwrite else None
    if overwrite:  # now that nothing speaks against what takes its place
        run.discard("unlearn", "recheck")
    free = dry_run.changeable(run, more)
    if more:
        run.check_same(UnlearnStage, settings, inputs, free)
        model = dry_run.open_model(detection, settings)
        open_for_more(run)
    memory = sampling_memory(detection.settings, later=True)
    with run.lock(), run.stage(UnlearnStage, settings, inputs, argv, free) as entry, memory:
        if (run.path / MODEL).exists():
            talk.say(f"{run.path / MODEL} is already there, so there is nothing to do.")
            ranks.shared(None)
            return
        for control in detection.memorized(Role.CONTROL):
            talk.warn(f"Control '{control.text}' is memorized; it is neither unlearned nor used as a keep image.")
        model = model or dry_run.open_model(detection, settings)
        if advice := precision_advice(dry_run.precision_of(settings, detection.settings)):
            talk.warn(advice)
        if free and not more:
            clear(run)
        forget_peak_memory()
        sample = Sampler(model, detection.judge(model), detection.settings, talk)
        with model.denoiser.in_halves(detection.settings.mixed_precision):  # as a detection samples
            pairs = gather(detection, entry, sample, method, own)
        latents = list(talk.track(encode_pairs(model, pairs), "Encoding pictures", len(pairs)))
        bank, apart = build_bank(model, pairs, latents), list[Path]()
        training = Training(run, sample, bank, method, settings, detection)
        if settings.adapter_per_prompt:
            apart = training.apart(entry, pairs)
        else:
            entry.ending = training()
        ranks.shared(None)
        edit = rewording(detection, sample, pairs, settings) if settings.reword else None
        run.save()
        save(detection, model, settings, edit, apart)
        made = NewWeights.in_folder(run.path / MODEL, settings).inputs
        entry.weights_sha256, entry.config_sha256 = made.weights_sha256, made.config_sha256
        entry.peak_memory_bytes = peak_memory()
