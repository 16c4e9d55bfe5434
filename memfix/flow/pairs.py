"""The pictures of an unlearning: those of the first check, the user's own, and what is sampled for it. All of them are
written down before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.files import digest, sha256
from memfix.flow.control_pictures import never_copied
from memfix.flow.detection import Detection
from memfix.inputs.inside import container
from memfix.inputs.references import read_references
from memfix.models.context import ContextEdit
from memfix.records import Pair, Reference, Score, Side
from memfix.references.groups import representatives
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.unlearn.data.given import given_surrogates, given_to_keep
from memfix.unlearn.data.keep_images import keep_variants
from memfix.unlearn.data.pairs import build_pairs, short_of_prior, stock_of
from memfix.unlearn.data.prior import prior_pictures
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.data.surrogates import make_surrogates
from memfix.unlearn.objective.methods import Method, Need, check_data
from memfix.unlearn.reading import drawn_mixture, kinds_used, prior_prompts, prior_strength, settings_of
from memfix.unlearn.rewording import reword
from memfix.variants.table import VARIANT_KINDS

PAIRS, VARIANTS, PRIOR, SURROGATES = "pairs.jsonl", "variants", "prior", "surrogates"
KEEP, INSTEAD = "keep_pictures", "surrogate_pictures"
GATHERED = frozenset(
    {
        "forget_from",
        "keep_folder",
        "keep_margin",
        "keep_variants",
        "keep_enough",
        "variant_kinds",
        "surrogates",
        "prior_prompts",
    }
)
"""Settings that the pictures depend on; what they are used for does not matter to them."""

Pictures = Mapping[str, Sequence[Reference]]
CLOSE = 0.1  # of a share: what whole items are off by without anyone minding


def own_pictures(settings: UnlearnSettings) -> dict[str, list[Reference]]:
    """Pictures of the user's own that unlearning reads: what for → pictures. None is opened."""
    named = {KEEP: ("--keep-folder", settings.keep_folder), INSTEAD: ("--surrogates", settings.surrogates)}
    return {what: read_references(place, [], flag=flag) for what, (flag, place) in named.items() if place is not None}


def found_pairs(detection: Detection, settings: UnlearnSettings, distinct: Callable[[Score], bool]) -> list[Pair]:
    """What the first check found to forget and to keep."""
    return build_pairs(
        detection.prompts, detection.verdicts, detection.scores, detection.references, detection.folder.resolve(),
        distinct, settings.forget_from,
    )  # fmt: skip


def gather(detection: Detection, entry: UnlearnStage, sample: Sampler, method: Method, own: Pictures) -> list[Pair]:
    """What is forgotten and what is kept, written down; a training that goes on keeps what it began with.

    `entry` of the stage remembers which kinds of variants were open to it, so that another method can take the pictures
    over unless it needs more. Raises MemfixError if the method lacks something; what was sampled stays.
    """
    run, settings = detection.run, entry.settings
    distinct = partial(sample.judge.is_distinct, margin=settings.keep_margin)
    pairs, kinds = written_pairs(run), kinds_used(method, settings)
    known = list(VARIANT_KINDS) if entry.variant_kinds is None else entry.variant_kinds
    if not pairs or not set(kinds) <= set(known):
        pairs = found_pairs(detection, settings, distinct)
        if keep := own.get(KEEP):
            pairs += given_to_keep(pairs, keep, sample.judge, settings.keep_margin, sample.talk)
        chosen = [VARIANT_KINDS[name] for name in kinds]
        made = keep_variants(sample, pairs, distinct, settings, chosen, run.path / VARIANTS)
        run.write("yields.jsonl", made.yields)
        pairs += made.pairs
        if short := short_of_prior(pairs, prior_prompts(method, settings)):
            captions = [r.text for r in reversed(never_copied(detection, representatives(detection.references)))]
            known = [p.text for p in detection.prompts]
            prior = prior_pictures(sample, known, captions, distinct, short, run.path / PRIOR)
            pairs, entry.copied_besides = pairs + prior.pairs, prior.copied
        entry.variant_kinds = list(kinds)
        run.save()
        pairs = _write(run, pairs)  # last: with it, all that it names is there
    if Need.SURROGATES in method.needs and not stock_of(pairs).has_surrogates:
        pairs = given_surrogates(pairs, own.get(INSTEAD, []), sample.judge, sample.talk)
        pairs = make_surrogates(sample, pairs, distinct, run.path / SURROGATES)
        pairs = _write(run, pairs)
    check_data(method, stock_of(pairs), prior=prior_strength(method, settings) > 0)
    _warn(sample.talk, pairs, method, settings)
    return pairs


def written_pairs(run: Run) -> list[Pair]:
    """The pairs that a run has written down, none if it has not, with paths as they are now.

    Raises MemfixError where a picture is another one by now.
    """
    root, pairs, hashes = run.path.resolve(), run.read(PAIRS, Pair), dict[Path, str]()
    found = [pair.model_copy(update=_paths(pair, lambda path: str(root / path))) for pair in pairs]
    for pair in found:
        if pair.content != _content(pair, hashes):
            raise MemfixError(
                f"{pair.path} is not the picture that was gathered for unlearning.",
                "Put it back, or unlearn again with --overwrite.",
            )
    return found


def _write(run: Run, pairs: Sequence[Pair]) -> list[Pair]:
    """Write pairs down, with what their pictures are; the same pairs."""
    root, hashes = run.path.resolve(), dict[Path, str]()

    def inside(path: str) -> str:
        return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path

    known = [pair.model_copy(update={"content": _content(pair, hashes)}) for pair in pairs]
    run.write(PAIRS, (pair.model_copy(update=_paths(pair, inside)) for pair in known))
    return known


def _paths(pair: Pair, told: Callable[[str], str]) -> dict[str, str]:
    return {name: told(path) for name in ("path", "surrogate") if (path := getattr(pair, name))}


def _content(pair: Pair, known: dict[Path, str]) -> str:
    """Of the files that hold a pair's pictures, of which each is read once: `known` are those that were read."""
    files = [container(path) for path in (pair.path, pair.surrogate) if path]
    for file in files:
        if file not in known:
            known[file] = sha256([file]) if file.is_file() else ""
    return digest(*(known[file] for file in files))


def _warn(talk: Talk, pairs: Sequence[Pair], method: Method, settings: UnlearnSettings) -> None:
    """Tell of settings that the pictures, or the size of a pass, do not let come true."""
    read, drawn, asked = settings_of(method, settings), drawn_mixture(settings), settings.mixture
    if "mixture" in read and abs(drawn - asked) > CLOSE * min(asked, 1 - asked):
        talk.warn(
            f"A pass of {settings.train_batch_size} items cannot hold a mixture of {asked:g}; {drawn:.3g} is drawn. "
            "A higher --train-batch-size comes closer."
        )
    if "prior_batch_size" in read and settings.prior_batch_size and not stock_of(pairs).has_prior:
        talk.warn(
            "There are no prior items, since no prompt besides the memorized ones is clean and has pictures to keep. "
            "Detect with --controls, or with more samples if they are undecided, or give --keep-folder."
        )


def rewording(
    detection: Detection, sample: Sampler, pairs: Sequence[Pair], settings: UnlearnSettings
) -> ContextEdit | None:
    """The edit for fully memorized prompts that give no copies any more; what was decided is written down."""
    others = [p.text for p in detection.prompts]
    variants = [p for p in pairs if p.origin == "variant"]
    rewordings, edit = reword(sample, variants, settings.keep_variants, others)
    detection.run.write("rewordings.jsonl", rewordings)
    for kept in (r for r in rewordings if not r.applied):
        sample.talk.warn(f"'{kept.text}' is not reworded: {kept.reason}.")
    return edit


def targets(pairs: Sequence[Pair]) -> dict[str, str]:
    """Id → text of what is unlearned."""
    return {p.prompt_id: p.text for p in pairs if p.side is Side.FORGET}
