"""The first check of a list: which prompts are sampled, how often, and what that says. Resumes with the run folder."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from memfix.config.checks import DetectSettings
from memfix.console import Talk, are, count_of, counted
from memfix.detect.cascade import screen_first
from memfix.detect.check import Check, names, undecided
from memfix.detect.design import Design
from memfix.detect.medoids import as_references
from memfix.detect.similar import Trial, try_similar
from memfix.findings import ScreeningRecord
from memfix.models.sampling import plan_samples
from memfix.records import Label, Prompt, Reference, Role, Sample, Score, Verdict
from memfix.run.folder import Run
from memfix.screens.skipping import Skipping, audit_bound


@dataclass(frozen=True)
class FirstCheck:
    """Screen if that is wanted, sample look by look, judge."""

    check: Check
    talk: Talk

    @property
    def run(self) -> Run:
        """Where it is written down."""
        return self.check.run

    @property
    def settings(self) -> DetectSettings:
        """The settings of the detection."""
        return self.check.settings

    def __call__(self, prompts: Sequence[Prompt]) -> list[Verdict]:
        """One verdict a prompt, in their order."""
        skipping = self._screen(prompts)
        left_out = set(skipping.not_generated) if skipping else set[str]()
        sampled, rest = ([p for p in prompts if (p.id in left_out) is out] for out in (False, True))
        plan = self._sample(sampled, "Sampling")
        found = self._judge(plan)
        trials = self._try_similar(skipping, prompts, found) if skipping else []
        caught = {t.prompt_id for t in trials if t.copy_}
        if trials:
            near = [p for p in prompts if p.id in caught]
            plan = [s for s in plan if s.prompt_id not in caught]
            plan += self._sample(near, "Sampling prompts that gave a copy", looks=(self.settings.num_samples,))
            rest = [p for p in rest if p.id not in caught]
            found = self._judge(plan, caught)
        if skipping and self._audit_failed(skipping, found, caught):
            plan += self._sample(rest, "Sampling prompts left out before")
            found, rest = self._judge(plan, caught), []
        by_prompt = {v.prompt_id: v for v in found}
        if skipping:
            tried: dict[str, list[Trial]] = {}
            for t in trials:
                tried.setdefault(t.prompt_id, []).append(t)
            by_prompt |= {p.id: self._unsampled(p.id, skipping, tried.get(p.id, [])) for p in rest}
        return [by_prompt[p.id] for p in prompts]

    def references(self, prompts: Sequence[Prompt]) -> list[Reference]:
        """What the run writes down of the references, once all is judged; without any, the samples standing in."""
        scores = self.run.read(self.check.scores_file, Score)
        if self.check.judge is None:
            texts = {p.id: p.text for p in prompts}
            return as_references(scores, str((self.run.path / self.check.folder).resolve()), texts)
        return self.check.judge.recorded(names(scores))

    def screening(self, prompts: Sequence[Prompt], found: Sequence[Verdict]) -> ScreeningRecord | None:
        """What the screen left out of this check and how far that can be trusted, for the record of the run."""
        kept = self.run.read(f"{self.check.folder}/skipping.jsonl", Skipping)
        if self.settings.screen is None or not kept:
            return None
        skipping, texts = kept[0], [p.text for p in prompts if p.role is Role.CONTROL]
        memorized = {v.prompt_id for v in found if v.verdict is Label.MEMORIZED}
        trials = self.run.read(f"{self.check.folder}/similar.jsonl", Trial)
        caught = {t.prompt_id for t in trials if t.copy_}
        bad = len(memorized & {*skipping.audited} - caught)
        return ScreeningRecord(
            screen=skipping.screen, threshold=skipping.threshold, skipped=len(skipping.skipped),
            expected_memorized=skipping.expected_memorized, expected_missed=skipping.expected_missed,
            audited=len(skipping.audited), audited_memorized=bad,
            share_bound=audit_bound(bad, len(skipping.audited), len(skipping.skipped)),
            odd_controls=[texts[i] for i in skipping.odd_controls],
            similar=len({t.prompt_id for t in trials}), similar_memorized=len(caught & memorized),
        )  # fmt: skip

    def design(self) -> Design:
        """When sampling of a prompt stops, and what its copies say then."""
        s, (chance, tolerance, confidence) = self.settings, self.settings.error_rates()
        if s.first_look is None:
            return self.check.fixed_design(s.num_samples)
        first = min(s.first_look, s.num_samples)
        return Design.doubling(first, s.num_samples, chance=chance, tolerance=tolerance, confidence=confidence)

    def _screen(self, prompts: Sequence[Prompt]) -> Skipping | None:
        if self.settings.screen is None:
            return None
        name = f"{self.check.folder}/skipping.jsonl"
        if kept := self.run.read(name, Skipping):
            skipping = kept[0]
        else:
            skipping = screen_first(self.run, self.check.folder, self.check.model, prompts, self.settings, self.talk)
            self.run.write(name, [skipping])
        skipped = len(skipping.not_generated)
        self.talk.say(
            f"{counted(skipped, 'prompt')} {are(skipped)} not sampled, since the screen {skipping.screen} scored "
            f"below {skipping.threshold:.4g}; the expected miss rate is {skipping.expected_miss_rate:.1%}."
        )
        return skipping

    def _try_similar(self, skipping: Skipping, prompts: Sequence[Prompt], found: Iterable[Verdict]) -> list[Trial]:
        """Trials of what was skipped, by what was found in the rest.

        Audited prompts are tried like others, and no neighbour is looked for on their account: they tell what trials
        miss.
        """
        skipped, texts = frozenset(skipping.skipped), {p.id: p.text for p in prompts}
        listed = (v for v in found if v.verdict is Label.MEMORIZED and v.prompt_id not in skipped)
        memorized = {texts[v.prompt_id]: v.reference for v in listed}
        if self.check.judge is None or not (self.settings.similar_prompts and memorized and skipped):
            return []
        return try_similar(self.check, prompts, skipped, memorized, self.talk)

    def _sample(self, prompts: Sequence[Prompt], title: str, looks: Sequence[int] | None = None) -> list[Sample]:
        """Draw from each prompt until its copies decide, or the last look is reached; the whole plan."""
        s, design, plan = self.settings, self.design(), list[Sample]()
        going_on = list(prompts)
        for first, last in pairwise([0, *(looks or design.looks)]):
            seeds = range(s.seed + first, s.seed + last)
            new = plan_samples(going_on, seeds, steps=s.num_inference_steps, guidance=s.guidance_scale)
            with self.talk.progress(title, len(new)) as bar:
                for done in self.check.sample(new):
                    bar.at(done)
            plan += new
            if last < design.looks[-1]:
                left = undecided(self.check.scores(plan), design)
                going_on = [p for p in going_on if p.id in left]
        place = {p.id: i for i, p in enumerate(prompts)}
        return sorted(plan, key=lambda sample: (place[sample.prompt_id], sample.seed))

    def _judge(self, plan: Sequence[Sample], whole: Container[str] = ()) -> list[Verdict]:
        """The verdicts on a plan; `whole` are prompts that were sampled to the end, whatever the looks."""
        return self.check.conclude(plan, self.design(), whole)

    def _audit_failed(self, skipping: Skipping, found: Iterable[Verdict], caught: Container[str]) -> bool:
        """Whether an audited prompt is memorized that no trial had found."""
        audited = {*skipping.audited}
        bad = [
            v for v in found if v.prompt_id in audited and v.prompt_id not in caught and v.verdict is Label.MEMORIZED
        ]
        if bad:
            self.talk.warn(
                f"{count_of(len(bad), len(skipping.audited), 'prompt')} that the screen would have left out "
                f"{are(len(bad))} memorized, "
                "so all prompts are sampled."
            )
        return bool(bad)

    def _unsampled(self, prompt_id: str, skipping: Skipping, own: Sequence[Trial]) -> Verdict:
        seeds = " and ".join(str(t.seed) for t in own)
        tried = f"; tried from seed {seeds}, the likeliest to give {own[0].reference}, without a copy" if own else ""
        rule = self.check.rule
        return Verdict(
            prompt_id=prompt_id, verdict=Label.CLEAN, copies=0, samples=0, share=0, interval=(0, 1),
            confidence=self.settings.confidence, measure=rule.measure.name, threshold=rule.threshold, score=None,
            reference="", reason=f"not sampled: {skipping.reason(prompt_id)}{tried}",
        )  # fmt: skip
