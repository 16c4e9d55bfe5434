"""`memfix review`: what a person says of disputed samples, and what then follows for verdicts and outcomes."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.console import Talk, are, counted
from memfix.detect.design import Design
from memfix.detect.thumbnails import Thumbnails
from memfix.detect.verdict import verdict_on
from memfix.errors import ExitCode, MemfixError
from memfix.files import sha256
from memfix.flow.changes import UNWORDED, what_changed
from memfix.flow.detection import Detection
from memfix.quality import MOST_BROKEN, broken_share
from memfix.records import FRESH, SAME, AttackResult, Change, Label, Review, Role, Score, Verdict
from memfix.references.groups import representatives
from memfix.run.disputes import disputed_by_attacks
from memfix.run.folder import Run, now
from memfix.run.outputs import AFTER, ATTACK_RESULTS, BEFORE, CHANGES, REVIEWS


class Pending(NamedTuple):
    """A disputed sample: where it lies in the run, its score, and what was said of it before, if anything."""

    picture: str
    score: Score
    sha256: str


def disputed_samples(run: Run) -> list[Pending]:
    """All samples of both checks and of attacks that a witness disputes, whether a person has spoken of them or not."""
    found = [
        (f"{folder}/{score.file_name}", score)
        for folder in (BEFORE, AFTER)
        for score in run.read(f"{folder}/scores.jsonl", Score)
        if score.accused or score.judged is not None
    ]
    found += [(sample.picture, sample.score) for sample in disputed_by_attacks(run)]
    return [Pending(picture, score, sha256([run.path / picture])) for picture, score in found]


def review(run: Run, words: Mapping[str, bool], by: str | None, talk: Talk) -> list[Pending]:
    """Write down what a person says of disputed samples (whether each is a copy, by its path in the run or its name),
    and make verdicts and outcomes anew. Returns all disputed samples then.

    A word is tied to the content of a picture: the same picture under another name has it too, and one that changed
    loses it. Raises MemfixError for a picture that is not disputed, or a run that changed.
    """
    detection = Detection.of(run)
    run.require_intact("detect", "recheck")
    _ = detection.verdicts  # as they were
    pending = disputed_samples(run)
    chosen = [(_find(name, pending), copy) for name, copy in words.items()]
    name, time = by or _user(), now()
    said = [
        Review(picture=p.picture, sha256=p.sha256, reference=p.score.suspected, copy_=copy, by=name, time=time)
        for p, copy in chosen
    ]
    with run.lock():
        apply_reviews(detection, said)
    found = {p.id for p in Detection.of(run).memorized(Role.PROMPT)}
    if run.finished("unlearn") and (new := found - {p.id for p in detection.memorized(Role.PROMPT)}):
        talk.warn(
            f"{counted(len(new), 'prompt')} {are(len(new))} memorized now, and nothing of that was unlearned: "
            "memfix unlearn --overwrite."
        )
    copies = sum(copy for _, copy in chosen)
    talk.say(f"{counted(len(chosen), 'word')} of {name}: {copies} copy, {len(chosen) - copies} no copy.")
    return disputed_samples(run)


def _user() -> str:
    """Who is logged in. Raises MemfixError where the system has no name for that."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise MemfixError("This user has no name here.", "Say who judges, with --by NAME.", ExitCode.USAGE) from None


def apply_reviews(detection: Detection, said: Sequence[Review] = ()) -> None:
    """Let verdicts, and the outcomes of a finished re-check, say what follows from all words in a run and those that
    are `said` now: all of it is written down, or nothing is."""
    every = [*detection.run.read(REVIEWS, Review), *said]
    if every:
        with detection.run.amending("detect", "recheck"):
            detection.run.write(REVIEWS, every)
            _apply({r.sha256: r.copy_ for r in every}, detection)  # of two on one picture the later one


def _apply(words: Mapping[str, bool], detection: Detection) -> None:
    run = detection.run
    for stage, folder in (("detect", BEFORE), ("recheck", AFTER)):
        if run.finished(stage):
            scores = judged(run, folder, words)
            run.write(f"{folder}/scores.jsonl", scores)
            run.write(f"{folder}/verdicts.jsonl", _verdicts(detection, folder, scores))
    if run.finished("recheck"):
        detection = Detection.of(run)  # what it has read of verdicts is of before
        old = run.read(CHANGES, Change)
        known = {c.prompt_id for c in old}
        prompts = [p for p in detection.prompts if p.id in known]
        after = run.read(f"{AFTER}/verdicts.jsonl", Verdict)
        wordings = {c.prompt_id: c.wording for c in old if c.wording is not None}
        attacked = _judged_attacks(run, words)
        run.write(ATTACK_RESULTS, attacked)
        thumbnails = Thumbnails(run.path / AFTER)
        run.write(CHANGES, what_changed(detection, thumbnails, prompts, after, wordings, attacked))


def judged(run: Run, folder: str, words: Mapping[str, bool]) -> list[Score]:
    """The scores of a check, with what was said of the pictures that are disputed; digest of a picture → word."""
    scores = run.read(f"{folder}/scores.jsonl", Score)
    return [_judged(run, f"{folder}/{score.file_name}", score, words) for score in scores]


def _judged_attacks(run: Run, words: Mapping[str, bool]) -> list[AttackResult]:
    """What attacks got, with what was said of their disputed samples."""
    found = []
    for result in run.read(ATTACK_RESULTS, AttackResult):
        doubtful = [d.model_copy(update={"score": _judged(run, d.picture, d.score, words)}) for d in result.doubtful]
        found.append(result.model_copy(update={"doubtful": tuple(doubtful)}))
    return found


def _judged(run: Run, picture: str, score: Score, words: Mapping[str, bool]) -> Score:
    """The score of a picture in the run, with what was said of it where it is disputed."""
    if not (score.accused or score.judged is not None):
        return score
    word = words.get(sha256([run.path / picture]))
    return score.model_copy(update={"copy_": bool(word), "judged": word})


def _verdicts(detection: Detection, folder: str, scores: Sequence[Score]) -> list[Verdict]:
    """The verdicts of a check; those on prompts of whose samples a person has spoken are made anew."""
    spoken = {s.prompt_id for s in scores if s.judged is not None}
    return [
        _verdict(detection, verdict, [s for s in scores if s.prompt_id == verdict.prompt_id])
        if verdict.prompt_id in spoken
        else verdict
        for verdict in detection.run.read(f"{folder}/verdicts.jsonl", Verdict)
    ]


def _verdict(detection: Detection, old: Verdict, own: Sequence[Score]) -> Verdict:
    """As a check of a fixed number of samples gives it; of a reworded prompt by those without its rewording."""
    if any(s.condition in UNWORDED.values() for s in own):
        own = [s for s in own if s.condition not in (SAME, FRESH)]
    chance, tolerance, confidence = detection.settings.error_rates()
    design = Design.fixed(len(own), chance=chance, tolerance=tolerance, confidence=confidence)
    found = verdict_on(own, detection.rule, design, representatives(detection.references))
    if found.verdict is Label.CLEAN and broken_share(own, detection.detail) > MOST_BROKEN:
        found = found.model_copy(update={"verdict": Label.UNDECIDED, "reason": "many samples are blank or noise"})
    said = sum(s.judged is not None for s in own)
    reason = f"{found.reason}; {counted(said, 'disputed sample')} judged by a person"
    return found.model_copy(update={"reason": reason, "kind": old.kind, "common_area": old.common_area})


def _find(name: str, pending: Iterable[Pending]) -> Pending:
    """The disputed sample of a path in the run, a path on disk, or a file name."""
    path = Path(name).as_posix()
    found = [p for p in pending if path == p.picture or path.endswith(f"/{p.picture}")]
    found = found or [p for p in pending if path in (p.score.file_name, Path(p.picture).name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise MemfixError(
            f"{name} is the name of several disputed samples.", f"Give one of: {', '.join(p.picture for p in found)}.",
            ExitCode.USAGE,
        )  # fmt: skip
    raise MemfixError(f"{name} is no disputed sample of this run.", "'memfix review RUN' lists them.", ExitCode.USAGE)
