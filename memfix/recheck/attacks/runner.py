"""Attacks carried out and judged: one result for each attack and training image. Knows nothing of runs.

Copies of the bench take turns with the training images of attacks that only ask the model, each in a thread of its own.
Every attack has generators of its own, so that nothing depends on which copy is the faster one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import NamedTuple

from PIL import Image

from memfix.recheck.attacks.base import Attack, Attacked, Attempt, Bench
from memfix.records import Arm, AttackPoint, AttackResult, DisputedSample, Score, Version
from memfix.references.judge import Judge

SHOWN = 4  # pictures of an attack that are kept besides disputed ones: its copies, else the last ones

Save = Callable[[str, Image.Image], str]
"""Keeps a picture under a name of its own, and says where."""


class Front(NamedTuple):
    """Training images that are attacked, and whether they were ever memorized; all on the same weights."""

    version: Version
    arm: Arm
    attacked: Sequence[Attacked]


class Judged(NamedTuple):
    """Samples of an attack at one point: which are copies, and the scores of those that are disputed, by place."""

    attempt: Attempt
    copies: list[bool]
    disputed: dict[int, Score]


@dataclass(frozen=True)
class AttackRunner:
    """Carries out attacks on a bench. groups: reference → the one that stands for its near-copies. copies: the bench
    again, each with a copy of the model elsewhere."""

    bench: Bench
    judge: Judge
    groups: dict[str, str]
    save: Save
    copies: Sequence[Bench] = ()
    _judging: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __call__(self, attack: Attack, front: Front) -> Iterator[AttackResult]:
        """A result for each training image, in their order; each is attacked until its first copy."""
        chunks = [front.attacked] if attack.together else [[one] for one in front.attacked]
        chunks = [chunk for chunk in chunks if chunk]
        stopped = Event()
        if not (attack.asks_only and self.copies):
            for chunk in chunks:
                yield from self._carry_out(attack, front, chunk, self.bench, stopped)
            return
        benches = [self.bench, *self.copies][: len(chunks)]
        with ExitStack() as stack:
            workers = [ThreadPoolExecutor(1) for _ in benches]
            for worker in workers:
                stack.callback(worker.shutdown, cancel_futures=True)
            stack.callback(stopped.set)
            turns = [(workers[i % len(benches)], benches[i % len(benches)], chunk) for i, chunk in enumerate(chunks)]
            waiting = [
                worker.submit(self._carry_out, attack, front, chunk, bench, stopped) for worker, bench, chunk in turns
            ]
            for results in waiting:
                yield from results.result()

    def _carry_out(
        self, attack: Attack, front: Front, chunk: Sequence[Attacked], bench: Bench, stopped: Event
    ) -> list[AttackResult]:
        """The attack on training images that are attacked together, on one bench; cut short if nobody waits for it."""
        bench.found.clear()
        attempts: dict[str, list[Judged]] = {one.prompt.id: [] for one in chunk}
        names = {one.prompt.id: one.reference for one in chunk}
        for attempt in attack.attempts(chunk, bench):
            with self._judging:
                judged = self._judge(attempt, names[attempt.prompt_id], front.arm)
            attempts[attempt.prompt_id].append(judged)
            if any(judged.copies):
                bench.found.add(attempt.prompt_id)
            if stopped.is_set() or bench.found.issuperset(names):
                break
        return [self._result(attack, front, one, attempts[one.prompt.id]) for one in chunk]

    def _judge(self, attempt: Attempt, name: str, arm: Arm) -> Judged:
        """Which pictures are copies, and which are disputed: of any training image, but where a clean one is attacked
        of that one alone."""
        if attempt.copies is not None:
            return Judged(attempt, list(attempt.copies), {})
        scores = self.judge.score(attempt.samples, attempt.images)
        wanted = self.groups.get(name, name)

        def counts(shown: str) -> bool:
            return arm is Arm.TARGET or self.groups.get(shown, shown) == wanted

        disputed = {i: s for i, s in enumerate(scores) if any(counts(told.reference) for told in s.accused.values())}
        return Judged(attempt, [s.copy_ and counts(s.shows) for s in scores], disputed)

    def _result(self, attack: Attack, front: Front, one: Attacked, attempts: Sequence[Judged]) -> AttackResult:
        curve = tuple(
            AttackPoint(work=a.work, copies=sum(copies), samples=len(copies), disputed=len(disputed))
            for a, copies, disputed in attempts
        )

        def kept(attempt: Attempt, i: int) -> str:
            name = f"{front.version}-{attack.name}-{attempt.samples[i].file_name}"
            return self.save(name, attempt.images[i])

        shown: list[str] = []
        if attempts:
            last, copies, _ = attempts[-1]
            order = sorted(range(len(copies)), key=lambda i: not copies[i])
            shown = [kept(last, i) for i in order[:SHOWN]]
        doubtful = [
            DisputedSample(picture=kept(judged.attempt, i), point=place, score=score)
            for place, judged in enumerate(attempts)
            for i, score in judged.disputed.items()
            if front.version is Version.AFTER and front.arm is Arm.TARGET
        ]
        return AttackResult(
            attack=attack.name, version=front.version, arm=front.arm, prompt_id=one.prompt.id, text=one.prompt.text,
            reference=one.reference, unit=attack.unit, curve=curve, shown=tuple(shown), doubtful=tuple(doubtful),
        )  # fmt: skip
