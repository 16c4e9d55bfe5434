"""`--fail-on`: findings that end a command with exit code 3. They are known before anything is sampled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from memfix.console import Talk, are, counted
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.records import Change, Label, Outcome, Prompt, Role, Verdict, Word
from memfix.run.outputs import CHANGES

if TYPE_CHECKING:
    from memfix.run.folder import Run


class Ground(Word):
    """What a command can be told to fail on."""

    MEMORIZED = "memorized"
    PERSISTENT = "persistent"
    HIDDEN = "hidden"
    DAMAGED = "damaged"
    UNDECIDED = "undecided"


ONLY_AFTER = (Ground.HIDDEN, Ground.DAMAGED)
"""What nobody can know before a re-check."""

FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with code 3 if anything is found to be so at the end: memorized (persistent and hidden ones count), "
        "persistent, hidden, damaged or undecided; several, separated by commas. Before a re-check, memorized prompts "
        "count as persistent. Prompts outside the list that were seen to copy count as memorized and persistent, and "
        "clean and mitigated ones as undecided where samples are not what users of the model see.",
        metavar="FINDINGS",
    ),
]


@dataclass(frozen=True)
class FailGate:
    """The findings that a command fails on."""

    findings: tuple[Ground, ...]

    @classmethod
    def of(cls, given: list[str] | None) -> FailGate:
        """The words of a command line. Raises MemfixError for one that is no finding."""
        words = [word.strip() for part in given or () for word in part.split(",")]
        known = [finding.value for finding in Ground]
        for word in words:
            if word not in known:
                raise MemfixError(f"--fail-on knows no finding '{word}'.", did_you_mean(word, known), ExitCode.USAGE)
        return cls(tuple(f for f in Ground if f.value in words))

    def judge(self, run: Run, talk: Talk) -> None:
        """Exit with code 3 where the run has such a finding."""
        if not self.findings:
            return
        rechecked = run.finished("recheck")
        prompts = {p.id: p.role for p in run.read("prompts.jsonl", Prompt)}
        stages = run.header.stages
        found = (
            after_recheck(run.read(CHANGES, Change), bool(stages.doubt)) if rechecked
            else before_recheck(run.read("before/verdicts.jsonl", Verdict), prompts, bool(stages.doubt))
        )  # fmt: skip
        for ground in (Ground.MEMORIZED, Ground.PERSISTENT):  # nothing was done about them, and nobody looked again
            found[ground] += len(stages.copied_besides)
        unknown = [finding.value for finding in self.findings if finding in ONLY_AFTER]
        if unknown and not rechecked and found[Ground.MEMORIZED]:
            talk.warn(f"Whether a prompt is {' or '.join(unknown)} is not known before a re-check.")
        if hit := [f for f in self.findings if found[f]]:
            told = ", ".join(f"{counted(found[f], 'prompt')} {are(found[f])} {f}" for f in hit)
            if besides := len(stages.copied_besides):
                told += f"; {counted(besides, 'prompt')} outside the list {are(besides)} known to copy"
            talk.say(f"--fail-on: {told}. {stages.doubt}".rstrip(), "quiet")
            raise typer.Exit(int(ExitCode.FINDINGS))


def before_recheck(verdicts: list[Verdict], roles: dict[str, Role], doubted: bool = False) -> Counter[Ground]:
    """How often each finding is in a first check. A control may be undecided: nothing is claimed of it.

    doubted: whether samples are not what users of the model see, so that no prompt is known to be clean.
    """
    unknown = (Label.UNDECIDED, Label.CLEAN) if doubted else (Label.UNDECIDED,)
    memorized = sum(v.verdict is Label.MEMORIZED for v in verdicts)
    undecided = sum(v.verdict in unknown and roles[v.prompt_id] is Role.PROMPT for v in verdicts)
    return Counter(
        {Ground.MEMORIZED: memorized, Ground.PERSISTENT: memorized, Ground.UNDECIDED: undecided}
    )  # fmt: skip


def after_recheck(changes: list[Change], doubted: bool = False) -> Counter[Ground]:
    """How often each finding is in a re-check, controls included; `doubted` as of `before_recheck`."""
    found = Counter(Ground(c.outcome.value) for c in changes if c.outcome.value in list(Ground))
    if doubted:
        said = (Outcome.MITIGATED, Outcome.UNCHANGED)
        clean = (c for c in changes if c.outcome in said and c.after is Label.CLEAN)
        found[Ground.UNDECIDED] += sum(c.role is Role.PROMPT for c in clean)
    back = (Outcome.PERSISTENT, Outcome.HIDDEN)
    found[Ground.MEMORIZED] = sum(c.after is Label.MEMORIZED or c.outcome in back for c in changes)
    return found
