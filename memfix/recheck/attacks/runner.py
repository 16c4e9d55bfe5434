"""Attacks carried out and judged: one result for each attack and training image. Knows nothing of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from memfix.recheck.attacks.base import Attack, Attacked, Attempt, Bench
from memfix.records import Arm, AttackPoint, AttackResult, Version
from memfix.references.judge import Judge

SHOWN = 4  # pictures of an attack that are kept: its copies, else the last ones

Save = Callable[[str, Image.Image], str]
"""Keeps a picture under a name of its own, and says where."""


class Front(NamedTuple):
    """Training images that are attacked, and whether they were ever memorized; all on the same weights."""

    version: Version
    arm: Arm
    attacked: Sequence[Attacked]


@dataclass(frozen=True)
class AttackRunner:
    """Carries out attacks on a bench. groups: reference → the one that stands for its near-copies."""

    bench: Bench
    judge: Judge
    groups: dict[str, str]
    save: Save

    def __call__(self, attack: Attack, front: Front) -> Iterator[AttackResult]:
        """A result for each training image, in their order; each is attacked until its first copy."""
        self.bench.found.clear()
        chunks = [front.attacked] if attack.together else [[one] for one in front.attacked]
        for chunk in chunks:
            if not chunk:
                continue
            attempts: dict[str, list[tuple[Attempt, list[bool], int]]] = {one.prompt.id: [] for one in chunk}
            names = {one.prompt.id: one.reference for one in chunk}
            for attempt in attack.attempts(chunk, self.bench):
                copies, disputed = self._judge(attempt, names[attempt.prompt_id], front.arm)
                attempts[attempt.prompt_id].append((attempt, copies, disputed))
                if any(copies):
                    self.bench.found.add(attempt.prompt_id)
                if self.bench.found.issuperset(names):
                    break
            for one in chunk:
                yield self._result(attack, front, one, attempts[one.prompt.id])

    def _judge(self, attempt: Attempt, name: str, arm: Arm) -> tuple[list[bool], int]:
        """Which pictures are copies, and how many are disputed: of any training image, but where a clean one is
        attacked of that one alone."""
        if attempt.copies is not None:
            return list(attempt.copies), 0
        scores = self.judge.score(attempt.samples, attempt.images)
        wanted = self.groups.get(name, name)

        def counts(shown: str) -> bool:
            return arm is Arm.TARGET or self.groups.get(shown, shown) == wanted

        disputed = sum(any(counts(told.reference) for told in s.accused.values()) for s in scores)
        return [s.copy_ and counts(s.shows) for s in scores], disputed

    def _result(
        self, attack: Attack, front: Front, one: Attacked, attempts: Sequence[tuple[Attempt, list[bool], int]]
    ) -> AttackResult:
        curve = tuple(AttackPoint(work=a.work, copies=sum(c), samples=len(c), disputed=d) for a, c, d in attempts)
        shown: list[str] = []
        if attempts:
            last, copies, _ = attempts[-1]
            order = sorted(range(len(copies)), key=lambda i: not copies[i])
            kept = f"{front.version}-{attack.name}-"
            shown = [self.save(kept + last.samples[i].file_name, last.images[i]) for i in order[:SHOWN]]
        return AttackResult(
            attack=attack.name, version=front.version, arm=front.arm, prompt_id=one.prompt.id, text=one.prompt.text,
            reference=one.reference, unit=attack.unit, curve=curve, shown=tuple(shown),
        )  # fmt: skip
