"""The story on one screen: detect, unlearn, recheck, report. The stages meet here, through records and the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from memfix import planning
from memfix.config import DetectSettings, RecheckSettings, UnlearnSettings
from memfix.console import Talk, counted
from memfix.detect.check import check, conclude, names, scores_of
from memfix.detect.first import FirstCheck
from memfix.detect.threshold import check_weights, given_threshold, settle
from memfix.errors import ExitCode, MemfixError
from memfix.files import sha256
from memfix.gathering import gather, own_pictures, rewording
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import index_folder, read_references
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import get_measure
from memfix.measures.agreement import agreements, open_clip_of
from memfix.measures.clip import Clip
from memfix.measures.descriptor import weights_record
from memfix.measures.gallery import descriptors
from memfix.measures.quality import detail_range
from memfix.measures.reference_set import ReferenceSet, fingerprint, open_gallery
from memfix.models import lora, pipeline
from memfix.models.device import memory_for, peak_memory
from memfix.models.sampling import plan_samples
from memfix.opening import adapters_of, clip_of, detect_settings, gallery_of, load, wanted
from memfix.recheck.outcomes import change, rms_difference
from memfix.records import Change, Prompt, Reference, Role, Sample, Score, Seeds, Verdict
from memfix.report import build, card, html
from memfix.runs import AFTER, BEFORE, MODEL, Run, digest, slug
from memfix.saving import save
from memfix.training import CHECKPOINTS, clear, follow, train, train_apart
from memfix.unlearn.prepare import build_bank, encode_pairs
from memfix.unlearn.ranks import Ranks
from memfix.unlearn.resample import Sampler
from memfix.unlearn.sharding import check_sharding

LARGER = "Close other programs that use the GPU, or take a larger one."


def detect(
    prompt_list: str, settings: DetectSettings, out: Path | None, root: Path, argv: list[str], talk: Talk
) -> Run:
    """Sample every prompt, compare with the references, give verdicts."""
    wrong = WrongRows(settings.skip_invalid)
    adapters = adapters_of(settings)
    prompts = read_prompts(prompt_list, limit=settings.limit, wrong=wrong)
    if settings.controls:
        known = {p.text for p in prompts}
        prompts += [p for p in read_prompts(settings.controls, Role.CONTROL, wrong=wrong) if p.text not in known]
    references = read_references(settings.references, prompts, wrong)
    for line in wrong.told():
        talk.warn(line)
    index = index_folder(settings.references)
    weights = wanted(settings, index)
    given = given_threshold(settings, weights)
    source = pipeline.locate(settings.model, settings.revision, settings.variant)
    measure = get_measure(settings.measure, weights)
    check_weights(given, measure)
    inputs = {
        "measure": measure.identity,
        "prompts": digest(*(p.model_dump_json() for p in prompts)),
        "reference_files": fingerprint(references, index),
        "index": str(index.resolve()) if index else None,
        "model_sha256": source.sha256,
        "model_revision": source.revision,
    }
    clip = open_clip_of(weights.clip) if settings.agreement else None
    if clip:
        inputs["clip"] = clip.identity
    if adapters:
        inputs["adapter_sha256"] = sha256(map(lora.file_of, adapters))
    name = f"{slug(Path(prompt_list).stem)}-{digest(settings.model_dump_json(), *map(str, inputs.values()))}"
    run = Run.create(out or root / name)
    less = f"Lower --batch-size ({settings.batch_size})." if settings.batch_size > 1 else LARGER
    memory = memory_for("in the detection", less)
    with run.lock(), run.stage("detect", settings, inputs, argv) as entry, _timed(entry), memory:
        entry["wrong_rows"] = wrong.count
        if (run.path / BEFORE / "verdicts.jsonl").exists():
            talk.say(f"Detection in {run.path} is complete already; nothing to do.")
            return run
        gallery = None
        if references or index:
            broken = WrongRows(settings.skip_invalid)
            gallery = open_gallery(references, measure, given.value if given else None, index, weights, broken)
            for line in broken.told():
                talk.warn(line)
            wrong.pictures += broken.pictures
        entry["left_out_pictures"] = wrong.pictures
        used = descriptors(measure) if gallery is None else gallery.descriptors
        entry["weights"] = weights_record([*used, clip] if clip else used)
        held = counted(len(gallery) if gallery else "no", "reference")
        talk.say(f"Model {settings.model}, {counted(len(prompts), 'prompt')}, {held} → {run.path}")
        if gallery is None:
            talk.warn("No training image is given: what samples of a prompt have in common stands in for one.")
        entry |= settle(gallery, measure, given, settings)
        pipe = pipeline.load(source, settings.variant)
        lora.load(pipe, *adapters)
        prompts = [p.model_copy(update={"cut_tokens": pipeline.cut_tokens(pipe, p.text)}) for p in prompts]
        for p in prompts:
            if p.cut_tokens:
                talk.warn(f"{p.source}: the prompt is {p.cut_tokens} tokens too long; the model never sees its end.")
        run.write("prompts.jsonl", prompts)
        first = FirstCheck(run, BEFORE, pipe, gallery, measure, entry["threshold"], settings, talk)
        found = first(prompts)
        entry["screening"], entry["design"] = first.screening(prompts, found), first.design().summary()
        entry["search"] = gallery.search._asdict() if gallery else None
        run.write("references.jsonl", first.references(prompts))
        if clip:
            _agreements(run, BEFORE, clip, prompts)
        run.write(f"{BEFORE}/verdicts.jsonl", found)
    return run


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
    ranks, detected = Ranks.here(), detect_settings(run)
    if ranks.missing():
        talk.warn(
            "accelerate launch --cpu started one process, whatever --num_processes says. Several on CPUs: "
            "torchrun --nproc-per-node N -m memfix unlearn, without accelerate launch."
        )
    method = planning.check(settings, given)
    planning.check_run(run, settings, overwrite)
    targets, odd = planning.memorized(run)
    if not targets:
        talk.say("No memorized prompt was found, so nothing is unlearned.", "title")
        return False
    if settings.adapter_per_prompt and ranks.of > 1:
        raise MemfixError("--adapter-per-prompt runs in one process.", "Start it without accelerate.", ExitCode.USAGE)
    if ranks.sharded:
        check_sharding(settings, ranks.shared(not overwrite and any((run.path / CHECKPOINTS).glob("checkpoint-*"))))
    if not ranks.first:
        follow(ranks, load(run), method, settings, planning.precision_of(settings, detected))
        return False
    own = own_pictures(settings)
    inputs = planning.inputs(own)
    pipe = planning.open_model(run, settings) if overwrite else None
    if overwrite:  # now that nothing speaks against what takes its place
        run.discard("unlearn", "recheck")
    free = planning.changeable(run)
    with run.lock(), run.stage("unlearn", settings, inputs, argv, free) as entry, _timed(entry), _sampling(detected):
        if (run.path / MODEL).exists():
            talk.say(f"{run.path / MODEL} is there already; nothing to do.")
            ranks.shared(None)
            return True
        for control in odd:
            talk.warn(f"Control '{control.text}' is memorized; it is neither unlearned nor used as a keep image.")
        pipe = pipe or planning.open_model(run, settings)
        if free:
            clear(run)
        sample = Sampler(pipe, gallery_of(run, detected), detected, talk)
        pairs = gather(run, entry, sample, settings, method, own)
        latents = list(talk.track(encode_pairs(pipe, pairs), "Encoding pictures", len(pairs)))
        bank, apart = build_bank(pipe, pairs, latents), list[Path]()
        if settings.adapter_per_prompt:
            apart = train_apart(run, entry, sample, bank, pairs, method, settings)
        else:
            entry["ending"] = train(run, sample, bank, method, settings).model_dump()
        ranks.shared(None)
        edit = rewording(run, sample, pairs, settings) if settings.reword else None
        save(run, pipe, settings, edit, apart)
        entry["peak_memory_bytes"] = peak_memory()
    return True


def recheck(
    run: Run,
    settings: RecheckSettings,
    argv: list[str],
    talk: Talk,
    adapters: Sequence[Path] = (),
    model: Path | None = None,
) -> list[Change]:
    """Repeat the check on the new weights, with the same and with fresh noise; say what became of each prompt."""
    detected = detect_settings(run)
    if not adapters and model is None and not run.finished("unlearn"):
        raise MemfixError(
            f"{run.path} holds no unlearned model.", "Run 'memfix unlearn' first, or give --lora or --model."
        )
    inputs = {"lora": ", ".join(map(str, adapters)), "model": str(model or "")}
    with run.lock(), run.stage("recheck", settings, inputs, argv) as entry, _timed(entry), _sampling(detected):
        if (run.path / "changes.jsonl").exists():
            talk.say(f"The re-check in {run.path} is complete already; nothing to do.")
            return run.read("changes.jsonl", Change)
        same = run.read(f"{BEFORE}/metadata.jsonl", Sample)
        sampled = {sample.prompt_id for sample in same}
        prompts = [p for p in run.read("prompts.jsonl", Prompt) if p.id in sampled]
        gallery, clip = gallery_of(run, detected), clip_of(run, detected)
        pipe = load(run, adapters, model, unlearned=True)
        fresh = plan_samples(
            prompts, range(settings.fresh_seed, settings.fresh_seed + settings.num_fresh),
            steps=detected.num_inference_steps, guidance=detected.guidance_scale, kind=Seeds.FRESH,
        )  # fmt: skip
        plan = [*same, *fresh]
        with talk.progress("Sampling again", len(plan)) as bar:
            for done in check(run, AFTER, pipe, gallery, plan, detected):
                bar.at(done)
        after = conclude(run, AFTER, scores_of(run, AFTER, plan), gallery, detected)
        _name_references(run, gallery)
        if clip:
            _agreements(run, AFTER, clip, prompts)
        run.write(f"{AFTER}/verdicts.jsonl", after)
        changes = _changes(run, prompts, after)
        run.write("changes.jsonl", changes)
    return changes


def report(run: Run) -> Path:
    """Write report.json, report.html and the model card; the path of the page."""
    result = build.build(run)
    if run.finished("unlearn"):
        card.write(run.path / MODEL, result)
    return html.write(run.path, result)


# -- the parts of the story -------------------------------------------------------------------------------------


@contextmanager
def _timed(entry: dict[str, Any]) -> Iterator[None]:
    started = time.monotonic()
    yield
    entry["timings"].setdefault("seconds", round(time.monotonic() - started, 2))


def _sampling(detected: DetectSettings) -> AbstractContextManager[None]:
    """What samples as the detection did, and takes as much memory."""
    less = f"It samples in batches of the detection: detect in a new run with --batch-size below {detected.batch_size}."
    return memory_for("while sampling", less if detected.batch_size > 1 else LARGER)


def _agreements(run: Run, folder: str, clip: Clip, prompts: Sequence[Prompt]) -> None:
    """Write down how well the samples of a check fit their prompts."""
    texts = {p.id: p.text for p in prompts}
    found = agreements(clip, texts, run.read(f"{folder}/scores.jsonl", Score), run.path / folder)
    run.write(f"{folder}/agreement.jsonl", found)


def _name_references(run: Run, gallery: ReferenceSet) -> None:
    """Write down the references that came up in either check; of an index, only those are listed."""
    if run.header["stages"]["detect"]["inputs"]["index"] is None:
        return
    listed = [r.file_name for r in run.read("references.jsonl", Reference)]
    run.write("references.jsonl", gallery.recorded([*listed, *names(run.read(f"{AFTER}/scores.jsonl", Score))]))


def _changes(run: Run, prompts: Sequence[Prompt], after: Sequence[Verdict]) -> list[Change]:
    before = {v.prompt_id: v for v in run.read(f"{BEFORE}/verdicts.jsonl", Verdict)}
    now = {v.prompt_id: v for v in after}
    old_scores, scores = run.read(f"{BEFORE}/scores.jsonl", Score), run.read(f"{AFTER}/scores.jsonl", Score)
    detail = detail_range(old_scores)
    changes = []
    for prompt in prompts:
        own = [s for s in scores if s.prompt_id == prompt.id]
        drifts = [
            rms_difference(run.path / BEFORE / s.file_name, run.path / AFTER / s.file_name)
            for s in own if s.seeds is Seeds.SAME
        ]  # fmt: skip
        drift = sum(drifts) / len(drifts)
        changes.append(change(prompt, before[prompt.id], now[prompt.id], own, drift, detail))
    return changes
