"""`memfix detect`: sample every prompt, compare with the references, give verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.config.checks import AUTO, DetectSettings
from memfix.console import Talk, counted, percent
from memfix.detect.check import Check
from memfix.detect.first import FirstCheck
from memfix.detect.sources import Sources
from memfix.detect.threshold import check_reach, check_weights, given_threshold, settle_rule
from memfix.errors import MemfixError
from memfix.files import digest, sha256
from memfix.flow.detection import adapters_of, digest_of, identity_of, wanted
from memfix.flow.memory import sampling_memory
from memfix.inputs.references import index_folder
from memfix.inputs.wrong_rows import WrongRows
from memfix.measures import get_measure
from memfix.measures.base import Measure
from memfix.measures.clip import Clip
from memfix.measures.clip_score import clip_scores, open_clip_of
from memfix.measures.copy_rule import CopyRule
from memfix.measures.descriptor import weights_record
from memfix.measures.structure import Structure
from memfix.measures.weights import Wanted, is_there
from memfix.models import loading
from memfix.models.device import precision_advice
from memfix.models.model import DiffusionModel
from memfix.models.replicas import places_for
from memfix.quality import detail_of_references
from memfix.records import Prompt, Reference, Score
from memfix.references.appearance import Draw
from memfix.references.in_memory import descriptors
from memfix.references.judge import Judge
from memfix.references.kept import FILE as DESCRIBED
from memfix.references.known_copies import known_copies
from memfix.references.reference_set import ReferenceSet, fingerprint, open_references
from memfix.references.small import LEAST_SIDE, are_small
from memfix.references.witnesses import settle_witness
from memfix.run.folder import Run, slug
from memfix.run.header import DetectStage
from memfix.run.inputs import DetectInputs
from memfix.run.outputs import BEFORE
from memfix.thresholds import Threshold

DETAILED = 200  # references whose detail says what pictures have
WITHIN_REACH = 0.25  # of the margin of near-copies between a threshold and the 99th percentile of the background


PIXELS = (
    "Or decide by pixels knowingly, with --measure ssim: it needs no weights, but misses copies that were recoloured, "
    "shifted or mirrored, and takes white product shots for copies of each other."
)
"""What is offered where SSCD cannot be had."""


class Opened(NamedTuple):
    """What a detection reads; nothing of the references is opened yet."""

    read: Sources
    indexed: Path | None
    weights: Wanted
    source: loading.ModelSource
    measure: Measure
    witnesses: list[Measure]
    threshold: Threshold | None
    clip: Clip | None

    @property
    def prompts(self) -> list[Prompt]:
        """Prompts and controls."""
        return self.read.prompts

    @property
    def references(self) -> list[Reference]:
        """Training images that are not in an index."""
        return self.read.references


def detect(
    prompt_list: str, settings: DetectSettings, out: Path | None, root: Path, argv: list[str], talk: Talk
) -> Run:
    """Sample every prompt, compare with the references, give verdicts; the run, in `out` or under `root`."""
    wrong = WrongRows(settings.skip_invalid)
    opened = _open(prompt_list, settings, wrong)
    for line in wrong.told():
        talk.warn(line)
    opened.read.tell(talk)
    inputs = _inputs(opened, settings)
    identity = settings.model_dump_json(), inputs.model_dump_json(exclude={"model_revision"})
    run = Run.create(out or root / f"{slug(Path(prompt_list).stem)}-{digest(*identity)}")
    memory = sampling_memory(settings)
    with run.lock(), run.stage(DetectStage, settings, inputs, argv, _changeable(run)) as entry, memory:
        if (run.path / BEFORE / "verdicts.jsonl").exists():
            talk.say(f"Detection in {run.path} is already complete, so there is nothing to do.")
            return run
        entry.wrong_rows = wrong.count
        model = loading.load(
            opened.source, settings.picture_size, adapters_of(settings), asked_in=settings.mixed_precision
        )  # fmt: skip
        entry.sampling_doubt = _tell_of_model(model, settings, talk)
        entry.loaded_by, entry.drawn = model.loaded_by, bool(opened.references or opened.indexed)
        references = _open_references(opened, settings, wrong, talk, model.latents.drawn)
        if not opened.indexed:  # an index is read as samples are compared, so that its end is soon enough
            _require_still(opened, inputs)  # what was described is what was identified
        entry.left_out_pictures, entry.sources = wrong.pictures, opened.read.records()
        witnesses = [settle_witness(references, m) for m in opened.witnesses] if references else []
        entry.witnesses = [w.record for w in witnesses]
        used = descriptors(opened.measure) if references is None else references.descriptors
        entry.weights = weights_record([*used, opened.clip] if opened.clip else used)
        held = counted(len(references) if references else "no", "reference")
        talk.say(f"Model {settings.model}, {counted(len(opened.prompts), 'prompt')}, {held} → {run.path}")
        if references is None:
            talk.warn("No training image was given, so the samples of each prompt are compared with each other.")
        rule, background = settle_rule(references, opened.measure, opened.threshold, settings)
        entry.rule, entry.medoids = rule.record(), references is None
        entry.background = background.summary(rule) if background else None
        if references:
            entry.reference_detail = detail_of_references(references.detail(DETAILED))
            entry.known_copies = known_copies(references, rule, [w.rule for w in witnesses], model.latents.drawn)
            _tell_of_errors(rule, entry, talk)
        _tell_of_small_pictures(opened, min(model.latents.picture_size), talk)
        prompts = [_with_cut_tokens(model, p) for p in opened.prompts]
        for p in prompts:
            if p.cut_tokens:
                talk.warn(f"{p.source}: the prompt is {p.cut_tokens} tokens too long; the model does not see its end.")
        _tell_of_unused_words(model, opened, talk)
        run.write("prompts.jsonl", prompts)
        judge = Judge(references, rule, witnesses=[w.rule for w in witnesses]) if references else None
        first = FirstCheck(Check(run, BEFORE, model, rule, judge, settings), talk)
        found = first(prompts)
        entry.screening, entry.design = first.screening(prompts, found), first.design().summary()
        entry.search = references.search.record() if references else None
        _require_still(opened, inputs)  # what the run names is what was described
        written = first.references(prompts)
        entry.references_sha256 = fingerprint(written)
        run.write("references.jsonl", written)
        if references and not opened.indexed:
            references.keep(run.path / DESCRIBED)
            entry.described_sha256 = sha256([run.path / DESCRIBED])
        if opened.clip:
            write_clip_scores(run, BEFORE, opened.clip, prompts)
        run.save()
        run.write(f"{BEFORE}/verdicts.jsonl", found)  # last: with it, all that the header says of it is there
    return run


def _tell_of_unused_words(model: DiffusionModel, opened: Opened, talk: Talk) -> None:
    """A warning for each embedding that no prompt asks for, as one does whose name was changed."""
    for embedding in opened.source.embeddings:
        if not any(model.text.has_word(p.text, embedding.token) for p in opened.prompts):
            talk.warn(
                f"No prompt has the word '{embedding.token}' of embedding {embedding.path}, so that it changes no "
                f"sample. If prompts call it otherwise: --embedding {embedding.path}:WORD."
            )


def _with_cut_tokens(model: DiffusionModel, prompt: Prompt) -> Prompt:
    """A prompt with the tokens that the model does not see; the same one where there are none, as a list is long."""
    cut = model.text.cut_tokens(prompt.text)
    return prompt.model_copy(update={"cut_tokens": cut}) if cut else prompt


def _changeable(run: Run) -> frozenset[str]:
    """Settings and inputs that a detection which was begun may be given anew: all, as long as nothing is sampled."""
    if (run.path / BEFORE).exists():
        return frozenset()
    return frozenset({*DetectSettings.model_fields, *DetectInputs.model_fields})


def write_clip_scores(run: Run, folder: str, clip: Clip, prompts: Sequence[Prompt]) -> None:
    """Write down how well the samples of a check fit their prompts."""
    texts = {p.id: p.text for p in prompts}
    found = clip_scores(clip, texts, run.read(f"{folder}/scores.jsonl", Score), run.path / folder)
    run.write(f"{folder}/clip_scores.jsonl", found)


def _open(prompt_list: str, settings: DetectSettings, wrong: WrongRows) -> Opened:
    index = index_folder(settings.references)
    weights = wanted(settings, index)
    given = given_threshold(settings, weights)
    read = Sources.read(prompt_list, settings, wrong)
    source = loading.source_of(settings)
    measure = _measure(settings, weights)
    check_weights(given, measure)
    check_reach(given, measure)
    clip = open_clip_of(weights.clip) if settings.clip_score else None
    witnesses = witness_measures(settings, measure, weights, read.references, index)
    return Opened(read, index, weights, source, measure, witnesses, given, clip)


def _inputs(opened: Opened, settings: DetectSettings) -> DetectInputs:
    return DetectInputs(
        prompts=digest_of(opened.prompts), references=fingerprint(opened.references, opened.indexed),
        index=str(opened.indexed.resolve()) if opened.indexed else None, measure=opened.measure.identity,
        clip=opened.clip.identity if opened.clip else None, **identity_of(opened.source, settings),
    )  # fmt: skip


def _measure(settings: DetectSettings, weights: Wanted) -> Measure:
    """The deciding measure. Raises MemfixError, with the way out, where nobody named one and SSCD cannot be had."""
    try:
        return get_measure(settings.deciding, weights)
    except MemfixError as error:
        if settings.measure != AUTO:
            raise
        message = f"The measure that decides by default is SSCD, and its weights cannot be had: {error}"
        raise MemfixError(message, f"{error.hint} {PIXELS}") from None


def witness_measures(
    settings: DetectSettings, measure: Measure, weights: Wanted, references: Sequence[Reference], index: Path | None
) -> list[Measure]:
    """The measures that may dispute what the deciding one calls no copy.

    Structure, and sscd where its weights are there already, unless they are the authors' and the pictures are too small
    for them. Not the other measures on pixels: of altered copies they see none that structure misses.
    """
    found: list[Measure] = [] if measure.name == Structure.name else [Structure()]
    there = measure.name != "sscd" and index is None and is_there(weights.sscd)
    if there and not (settings.sscd_weights is None and are_small(references)):
        found.append(get_measure("sscd", weights))
    return found


def _tell_of_model(model: DiffusionModel, settings: DetectSettings, talk: Talk) -> str:
    """What is drawn, so that a wrong size is seen; a warning where the model may not predict what it says. Returns why
    samples are not what users of the model see, or nothing."""
    height, width = model.latents.picture_size
    talk.say(f"It draws pictures of {width} × {height} pixels (width × height).")
    if advice := precision_advice(settings.mixed_precision):
        talk.warn(advice)
    if len(gpus := places_for(settings.mixed_precision)) > 1:
        talk.say(f"{len(gpus)} GPUs sample beside each other.")
    for warning in filter(None, [*model.remarks, model.doubt()]):
        talk.warn(warning)
    on_top = [adapter.path for adapter in adapters_of(settings)]
    if told := model.ill_sampled(settings.model, settings.num_inference_steps, settings.guidance_scale, on_top):
        talk.warn(told)
    return told


def _tell_of_small_pictures(opened: Opened, side: int, talk: Talk) -> None:
    """A warning where the authors' weights of SSCD see pictures that are smaller than those they were trained on."""
    if not any(d.weights and d.weights.published for d in descriptors(opened.measure)):
        return
    small = {"samples": side < LEAST_SIDE, "training images": are_small(opened.references)}
    if any(small.values()):
        talk.warn(
            f"The {' and '.join(what for what, too in small.items() if too)} have fewer than {LEAST_SIDE} pixels. SSCD "
            "was trained on larger ones, and published thresholds do not hold: copies of such small pictures may stay "
            "below them. Look at the recall on altered training images, and consider --measure structure."
        )


def _tell_of_errors(rule: CopyRule, entry: DetectStage, talk: Talk) -> None:
    """Recall and false alarms of the threshold on these references; a warning where it is near to unrelated ones."""
    name, background = rule.measure.name, entry.background
    known = "; ".join(f"{k.altered} {percent(k.seen)}" for k in entry.known_copies)
    told = f"A copy is past {rule.threshold:.3g} of {name}. Of altered training images it sees: {known}."
    if any(k.disputed for k in entry.known_copies):
        missed = "; ".join(f"{k.altered} {percent(k.seen + k.disputed)}" for k in entry.known_copies if k.disputed)
        told += f" With what {' and '.join(w.measure for w in entry.witnesses)} disputes: {missed}."
    if background and background.false_alarms is not None:
        told += f" Of {background.references} unrelated ones it takes {percent(background.false_alarms, 1)} for copies."
    talk.say(told)
    if background and rule.is_near_copy(background.p99, rule.measure.margin * WITHIN_REACH):
        talk.warn(
            f"The threshold of {rule.threshold:.3g} is within reach of unrelated training images: 1 % of them come to "
            f"{background.p99:.3f} of {name}, the closest two to {background.closest:.3f}. Samples may pass by chance. "
            "Give a stricter --threshold, --false-alarm-rate, or another --measure."
        )


def _require_still(opened: Opened, inputs: DetectInputs) -> None:
    """Raise MemfixError if a training image is no longer what it was when the detection began."""
    if fingerprint(opened.references, opened.indexed) != inputs.references:
        raise MemfixError(
            "A training image changed while the detection ran.",
            "Put back what was there and detect again, or detect in a new run.",
        )


def _open_references(
    opened: Opened, settings: DetectSettings, wrong: WrongRows, talk: Talk, draw: Draw
) -> ReferenceSet | None:
    """The references, described; None where none was given. Those that cannot be read are counted in `wrong`."""
    if not opened.references and not opened.indexed:
        return None
    broken = WrongRows(settings.skip_invalid)
    found = open_references(
        opened.references, opened.measure, opened.indexed, opened.weights, broken, witnesses=opened.witnesses, draw=draw
    )
    for line in broken.told():
        talk.warn(line)
    wrong.pictures += broken.pictures
    opened.read.count_broken(broken.pictures)
    if further := opened.read.count_frames(broken):
        talk.warn(further)
    return found
