"""`memfix run`: detect, unlearn, recheck and report, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow import dry_run
from memfix.flow.detect import detect
from memfix.flow.recheck import recheck
from memfix.flow.report import report
from memfix.flow.rounds import open_again
from memfix.flow.unlearn import unlearn
from memfix.inputs.paraphrases import read_paraphrases
from memfix.inputs.wrong_rows import WrongRows
from memfix.recheck.attacks.table import get_attacks
from memfix.records import Change
from memfix.run.folder import Run


@dataclass(frozen=True)
class Chain:
    """The settings of all stages; `given` are those of the unlearning that the user named."""

    detect: DetectSettings
    unlearn: UnlearnSettings
    recheck: RecheckSettings
    given: frozenset[str] = frozenset()
    rounds: int = 1
    """How often a closed loop is re-checked at most, and goes on from what that saw."""

    def check(self) -> None:
        """Raise MemfixError for settings that cannot work, before anything is sampled."""
        dry_run.check(self.unlearn, self.given)
        get_attacks(self.recheck)
        if self.recheck.paraphrases is not None:
            read_paraphrases(self.recheck.paraphrases, WrongRows(skip=True))


@dataclass(frozen=True)
class Finished:
    """A chain that ended. Without a memorized prompt nothing is unlearned, and nothing changed."""

    run: Run
    changes: Sequence[Change]
    page: Path


def run(
    prompt_list: str, chain: Chain, place: tuple[Path | None, Path], argv: list[str], talk: Talk,
    ended: Callable[[str, Run], None],
) -> Finished:  # fmt: skip
    """All stages. `place` is the folder of the run, if one was given, and where runs lie else; `ended` is told the
    name of each check once it has ended."""
    chain.check()
    opened = detect(prompt_list, chain.detect, *place, argv, talk)
    ended("detect", opened)
    changes: Sequence[Change] = ()
    if unlearn(opened, chain.unlearn, argv, talk, chain.given):
        changes = recheck(opened, chain.recheck, argv, talk)
        while open_again(opened, changes, chain.rounds, talk):
            unlearn(opened, chain.unlearn, argv, talk, chain.given)
            changes = recheck(opened, chain.recheck, argv, talk)
        ended("recheck", opened)
    return Finished(opened, changes, report(opened))
