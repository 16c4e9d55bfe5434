"""`memfix recheck`: the same check on the new weights, from the same and from fresh noise."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.config.checks import RecheckSettings
from memfix.console import Talk
from memfix.detect.check import Check, names
from memfix.errors import ExitCode, MemfixError
from memfix.flow.attacks import Attacks, inputs_of
from memfix.flow.changes import UNWORDED, what_changed
from memfix.flow.detect import write_clip_scores
from memfix.flow.detection import Detection
from memfix.flow.memory import sampling_memory
from memfix.flow.new_weights import NewWeights
from memfix.flow.review import apply_reviews
from memfix.flow.rounds import fresh_seeds
from memfix.models.device import precision_advice
from memfix.models.sampling import file_name, plan_samples
from memfix.recheck.attacks.table import ATTACKS, get_attacks
from memfix.records import FRESH, Arm, Change, Prompt, Rewording, Sample, Score, Version
from memfix.references.judge import Judge
from memfix.references.reference_set import fingerprint
from memfix.run.folder import Run
from memfix.run.header import RecheckStage
from memfix.run.outputs import AFTER, CHANGES


def recheck(
    run: Run, settings: RecheckSettings, argv: list[str], talk: Talk, weights: NewWeights | None = None,
    overwrite: bool = False,
) -> list[Change]:  # fmt: skip
    """Repeat the check on new weights, by default the run's own, with the same and with fresh noise, attack them, and
    say what became of each prompt.

    Reworded prompts are sampled with their rewording and without it, and judged by what the weights hold without.
    With `overwrite`, an earlier re-check is discarded, once nothing speaks against the new one.
    Raises MemfixError where anything that the detection read or found is not what it was.
    """
    detection = Detection.of(run)
    weights = weights or NewWeights.of(run)
    get_attacks(settings)  # one that is unknown is refused at once
    _require_fresh(detection, settings)
    detection.require_unchanged()
    weights.require_as_trained(run)
    inputs, memory = inputs_of(weights, settings), sampling_memory(detection.settings, later=True)
    if overwrite:  # once what is to be checked has shown that it can be loaded
        weights.load(detection, Talk(quiet=True), detection.settings.mixed_precision)
        run.discard("recheck")
    with run.lock(), run.stage(RecheckStage, settings, inputs, argv) as entry, memory:
        if (run.path / CHANGES).exists():
            talk.say(f"The re-check in {run.path} is already complete, so there is nothing to do.")
            return run.read(CHANGES, Change)
        entry.checked, entry.own = str(weights), weights.are_own(run)
        sampled = {sample.prompt_id for sample in detection.samples}
        prompts = [p for p in detection.prompts if p.id in sampled]
        if advice := precision_advice(detection.settings.mixed_precision):
            talk.warn(advice)
        model = weights.load(detection, talk, detection.settings.mixed_precision)
        entry.weights_doubt = weights.sampling_doubt(detection, model)
        judge, edit, wordings = detection.judge(model), *weights.rewording(run)
        if edit is None and any(r.applied for r in run.read("rewordings.jsonl", Rewording)):
            talk.warn(
                "These are not the run's own weights. If prompts are reworded in them as well, that cannot be taken "
                "off, and only attacks see what it hides."
            )
        check = Check(run, AFTER, model, detection.rule, judge, detection.settings, detection.stage.medoids)
        plan = [*detection.samples, *_fresh(prompts, detection, settings)]
        shown = [s for s in plan if s.prompt_id in wordings]
        bare = [_unworded(s) for s in shown]
        with talk.progress("Sampling again", len(plan)) as bar:
            for done in check.sample(plan):
                bar.at(done)
        if edit is not None:
            with talk.progress("Sampling without rewording", len(bare)) as bar, check.model.without(edit):
                for done in check.sample(bare):
                    bar.at(done)
        attack = Attacks(detection, settings, judge, talk, AFTER)
        attacked = attack(check.model, detection.asked_model)
        entry.attacks = list(dict.fromkeys(r.attack for r in attacked if r.curve and r.version is Version.AFTER))
        trained = run.header.stages.unlearn
        if trained and trained.settings.adversarial_steps:
            looked = trained.settings.closed
            made = {name: ATTACKS[name] for name in entry.attacks}
            entry.attacks_trained_against = [
                name for name, attack in made.items() if attack.trained_against or (looked and attack.ends_training)
            ]
        entry.attacks_left_out = [name for name in ATTACKS if name not in entry.attacks]
        entry.control_pictures = len({r.prompt_id for r in attacked if r.arm is Arm.CONTROL})
        after = check.conclude([*plan, *bare], beside={s.file_name for s in shown})
        _name_references(detection, judge)
        if detection.clip:
            write_clip_scores(run, AFTER, detection.clip, prompts)
        run.write(f"{AFTER}/verdicts.jsonl", after)
        changes = what_changed(detection, check.thumbnails, prompts, after, wordings, attacked)
        run.save()
        run.write(CHANGES, changes)
    with run.lock():
        apply_reviews(Detection.of(run))  # a picture that was judged before may have come again
    return run.read(CHANGES, Change)


def _require_fresh(detection: Detection, settings: RecheckSettings) -> None:
    """Raise MemfixError if noise of the first check would count as fresh, and so twice."""
    seeds = fresh_seeds(detection.run, settings)
    if used := {s.seed for s in detection.samples}.intersection(seeds):
        raise MemfixError(
            f"The first check used seed {min(used)}, so the noise of seeds {seeds[0]} to {seeds[-1]} is not fresh.",
            f"Give --fresh-seed a number above {max(s.seed for s in detection.samples)}.", ExitCode.USAGE,
        )  # fmt: skip


def _fresh(prompts: Sequence[Prompt], detection: Detection, settings: RecheckSettings) -> list[Sample]:
    """Samples from noise that the first check did not use."""
    seeds, first = fresh_seeds(detection.run, settings), detection.settings
    return plan_samples(
        prompts, seeds, steps=first.num_inference_steps, guidance=first.guidance_scale, condition=FRESH
    )  # fmt: skip


def _unworded(sample: Sample) -> Sample:
    """The same sample of the weights without their rewording."""
    condition = UNWORDED[sample.condition]
    return sample.model_copy(
        update={"condition": condition, "file_name": file_name(sample.prompt_id, condition, sample.seed)}
    )


def _name_references(detection: Detection, judge: Judge) -> None:
    """Write down the references that came up in either check; of an index, only those are listed."""
    if detection.index is None:
        return
    listed = [r.file_name for r in detection.references]
    after = detection.run.read(f"{AFTER}/scores.jsonl", Score)
    recorded = judge.recorded([*listed, *names(after)])
    with detection.run.amending("detect"):
        detection.run.write("references.jsonl", recorded)
        detected = detection.run.header.stages.detect
        assert detected, "there is no re-check without a detection"
        detected.references_sha256 = fingerprint(recorded)
