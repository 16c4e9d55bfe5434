"""One check of a model: sample every prompt, hold each sample against the references, give verdicts.

Used on the original model and on the unlearned one. Resumes: what is on disk is not made again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.detect.design import MATCHES, Design
from memfix.detect.medoids import hold_against_medoid
from memfix.detect.thumbnails import Thumbnails
from memfix.detect.verdict import verdict_on, verdict_on_pair
from memfix.files import errors_of, sha256
from memfix.inputs.opening import open_image
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import COARSE, detail_of, to_tensor
from memfix.models.model import DiffusionModel
from memfix.models.replicas import drawn_batches
from memfix.models.sampling import batches
from memfix.quality import BLANK, MOST_BROKEN
from memfix.records import DrawnPicture, Kind, Label, Sample, Score, Verdict
from memfix.references.groups import representatives
from memfix.references.judge import Finding, Judge
from memfix.references.parts import kind_of
from memfix.run.folder import Run
from memfix.run.written import DRAWN, require_drawn


@dataclass(frozen=True)
class Check:
    """A check of one model, in a folder of a run; `judge` is None where no training image is given.

    `medoids`: the judge's references are samples of another model, so that what this one draws again and again is
    looked for among its own samples as well.
    """

    run: Run
    folder: str
    model: DiffusionModel
    rule: CopyRule
    judge: Judge | None
    settings: DetectSettings
    medoids: bool = False
    thumbnails: Thumbnails = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thumbnails", Thumbnails(self.run.path / self.folder))

    @property
    def scores_file(self) -> str:
        """Where the scores lie in the run."""
        return f"{self.folder}/scores.jsonl"

    def sample(self, plan: Sequence[Sample]) -> Iterator[int]:
        """Work through a plan, writing images, `metadata.jsonl` and `scores.jsonl`.

        Yields after each batch the number of samples that are done, first those found on disk. An image counts as done
        once its score is written, which is the last thing that happens to it; without a judge, once it is listed.
        """
        run, folder = self.run, self.run.path / self.folder
        listed = {s.file_name for s in run.read(f"{self.folder}/metadata.jsonl", Sample)}
        scored = {s.file_name for s in run.read(self.scores_file, Score)} if self.judge else listed
        planned = {s.file_name for s in plan}
        drawn_before = {d.file_name: d.sha256 for d in run.read(f"{self.folder}/{DRAWN}", DrawnPicture)}
        done = {name for name in scored & planned & drawn_before.keys() if (folder / name).is_file()}
        for name in sorted(done):
            require_drawn(folder / name, drawn_before[name])
        folder.mkdir(exist_ok=True)
        yield len(done)
        left = list(batches(plan, self.settings.batch_size, done))
        for batch, drawn in drawn_batches(self.model, left, self.settings.mixed_precision):
            new = [(s, image) for s, image in zip(batch, drawn, strict=True) if s.file_name not in done]
            samples, images = [s for s, _ in new], [image for _, image in new]
            for sample, image in new:
                with errors_of(folder / sample.file_name):
                    image.save(folder / sample.file_name, compress_level=1)
            written = [DrawnPicture(file_name=s.file_name, sha256=sha256([folder / s.file_name])) for s in samples]
            run.append(f"{self.folder}/{DRAWN}", written)
            self.thumbnails.add([s.file_name for s in samples], images)
            run.append(f"{self.folder}/metadata.jsonl", [s for s in samples if s.file_name not in listed])
            if self.judge:
                found = self.judge.score(samples, images)
                run.append(self.scores_file, [score for score in found if score.file_name not in scored])
            done |= {s.file_name for s in samples}
            yield len(done)

    def scores(self, plan: Sequence[Sample]) -> dict[str, list[Score]]:
        """The scores of a plan by prompt, in its order: a resumed run wrote its lines in another one.

        Without marks of copied parts, which are found anew when all samples are there.
        """
        place = {sample.file_name: i for i, sample in enumerate(plan)}
        found: dict[str, list[Score]] = {}
        own = (score for score in self.run.read(self.scores_file, Score) if score.file_name in place)
        for score in sorted(own, key=lambda score: place[score.file_name]):
            whole = score.model_copy(update={"copy_": False, "part": None}) if score.part else score
            found.setdefault(score.prompt_id, []).append(whole)
        return found

    def conclude(
        self, plan: Sequence[Sample], design: Design | None = None, whole: Container[str] = (),
        beside: Container[str] = (),
    ) -> list[Verdict]:  # fmt: skip
        """Find copies of a part, write the scores anew with them, and give one verdict for each prompt of a plan.

        Without a `design` the number of samples was fixed. So it counts for a prompt with copies of a part, which are
        looked for once and not at every interim look, and for those of `whole`, by id. Samples of `beside`, by file
        name, are scored and do not count for the verdict.
        """
        if self.judge is None:
            return self._conclude_medoids(plan)
        scores, verdicts, final = self.scores(plan), list[Verdict](), list[Score]()
        samples = {sample.file_name: sample for sample in plan}
        groups = representatives(self.judge.recorded(names(s for own in scores.values() for s in own)))
        for prompt_id, own in scores.items():
            found = self.judge.conclude(own, self.thumbnails.of([s.file_name for s in own]))
            fixed = prompt_id in whole or any(s.part for s in found.scores)
            counted = [s for s in found.scores if s.file_name not in beside]
            drawn = self.fixed_design(len(counted)) if fixed or design is None else design
            verdict = verdict_on(counted, self.rule, drawn, groups)
            if self.medoids and verdict.verdict is not Label.MEMORIZED:
                verdict = self._among_themselves(verdict, [samples[s.file_name] for s in counted])
            if verdict.verdict is Label.CLEAN and found.broken > MOST_BROKEN:
                verdict = verdict.model_copy(update={"verdict": Label.UNDECIDED, "reason": found.shapeless})
            verdicts.append(verdict.model_copy(update={"kind": found.kind, "common_area": found.common_area}))
            final += found.scores
        self.run.write(self.scores_file, final)
        return verdicts

    def fixed_design(self, samples: int) -> Design:
        """The design of a check whose number of samples was fixed beforehand."""
        chance, tolerance, confidence = self.settings.error_rates()
        return Design.fixed(samples, chance=chance, tolerance=tolerance, confidence=confidence)

    def _conclude_medoids(self, plan: Sequence[Sample]) -> list[Verdict]:
        """Without references: write the scores of each prompt against a sample of its own, and give the verdicts.

        Copies that agree all over are `verbatim`; others are a `template`, since something varies around what is fixed.
        """
        groups: dict[str, list[Sample]] = {}
        for sample in plan:
            groups.setdefault(sample.prompt_id, []).append(sample)
        verdicts, final = list[Verdict](), list[Score]()
        for own in groups.values():
            images = self._images(own)
            scores, verdict = self._against_medoid(own, images)
            kind, area = kind_of(scores, to_tensor(images, COARSE), {})
            kind = Kind.TEMPLATE if kind is Kind.PARTIAL else kind
            blank = float((detail_of(to_tensor(images, COARSE)) < BLANK).float().mean())
            if blank > MOST_BROKEN:  # pages of one colour are copies of each other, and of nothing
                reason = Finding(scores, kind, area, blank).shapeless
                verdict = verdict.model_copy(update={"verdict": Label.UNDECIDED, "reason": reason})
            verdicts.append(verdict.model_copy(update={"kind": kind, "common_area": area}))
            final += scores
        self.run.write(self.scores_file, final)
        return verdicts

    def _images(self, samples: Sequence[Sample]) -> list[Image.Image]:
        return [open_image(self.run.path / self.folder / sample.file_name) for sample in samples]

    def _against_medoid(
        self, samples: Sequence[Sample], images: Sequence[Image.Image]
    ) -> tuple[list[Score], Verdict]:  # fmt: skip
        """Samples of one prompt held against each other: scores, and the verdict by them."""
        scores, matches = hold_against_medoid(samples, images, self.rule)
        verdict = verdict_on(scores, self.rule, self.fixed_design(len(samples)), shown="another sample")
        return scores, verdict_on_pair(verdict) if 0 < matches < MATCHES else verdict

    def _among_themselves(self, verdict: Verdict, samples: Sequence[Sample]) -> Verdict:
        """A verdict without copies of the references, or the worse one that samples held against each other give."""
        _, found = self._against_medoid(samples, self._images(samples))
        if found.verdict is verdict.verdict or found.verdict is Label.CLEAN:
            return verdict
        told = {name: getattr(found, name) for name in ("verdict", "copies", "share", "interval", "reason")}
        return verdict.model_copy(update=told)


def names(scores: Iterable[Score]) -> list[str]:
    """Every reference that scores name, in order."""
    return list(dict.fromkeys(name for s in scores for name in (s.reference, s.shows)))


def undecided(scores: dict[str, list[Score]], design: Design) -> set[str]:
    """The prompts that a design would sample further."""
    counts = {i: (sum(s.copy_ for s in own), len(own)) for i, own in scores.items()}
    return {i for i, (k, n) in counts.items() if n < design.looks[-1] and design.decide(k, n) is None}
