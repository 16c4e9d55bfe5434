"""`memfix review`: a person says of disputed samples whether they are copies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memfix.cli.options import Call, RunArgument, command
from memfix.cli.unlearn import open_run
from memfix.console import counted, emit
from memfix.errors import ExitCode, MemfixError

if TYPE_CHECKING:
    from memfix.flow.review import Pending

Copies = Annotated[
    list[str] | None, typer.Option("--copy", help="A disputed sample that is a copy, by its path; may be repeated.")
]
NoCopies = Annotated[
    list[str] | None, typer.Option("--no-copy", help="A disputed sample that is no copy; may be repeated.")
]
By = Annotated[str | None, typer.Option("--by", help="Who says so; by default the name of the user.")]


@command()
def review(
    call: Call, run: RunArgument = None, copy: Copies = None, no_copy: NoCopies = None, by: By = None
) -> None:  # fmt: skip
    """List disputed samples, which another measure than the deciding one calls copies, and say which of them are.

    On a terminal each is asked for: c is a copy, n is none, and anything else leaves it open. The report shows them
    beside the training images. Words are kept in reviews.jsonl with name and time, and hold for that very picture.
    """
    opened = open_run(run)
    from memfix.flow.review import disputed_samples
    from memfix.flow.review import review as write

    if both := {*(copy or ())} & {*(no_copy or ())}:
        raise MemfixError(f"{min(both)} cannot be both.", "Give it to --copy or to --no-copy.", ExitCode.USAGE)
    words = dict.fromkeys(copy or (), True) | dict.fromkeys(no_copy or (), False)
    pending = disputed_samples(opened)
    _show(call, pending)
    if not words and not (call.json or call.dry_run) and sys.stdin.isatty():
        words = _ask([p for p in pending if p.score.judged is None])
    if words and not call.dry_run:
        pending = write(opened, words, by, call.talk)
        call.talk.say("Next: memfix report --open", "hint")
    if call.json:
        emit({"run": str(opened.path), "disputed": [{"picture": p.picture, **p.score.dump()} for p in pending]})


def _show(call: Call, pending: list[Pending]) -> None:
    rows = []
    for p in pending:
        told = [f"{name} {w.value:.3f}" for name, w in p.score.witnesses.items()]
        told += [f"{name} {value:.3f}" for name, value in p.score.measures.items()]
        word = {True: "copy", False: "no copy", None: "open"}[p.score.judged]
        rows.append([p.picture, p.score.suspected, ", ".join(told), word])
    if rows:
        call.talk.table("Disputed samples", ["sample", "training image", "measures", "judged"], rows, text=(0, 1, 2))
    left = sum(p.score.judged is None for p in pending)
    call.talk.tell(f"\n{counted(left or 'no', 'disputed sample')} to be judged.")


def _ask(pending: list[Pending]) -> dict[str, bool]:
    words = {}
    for p in pending:
        answer = typer.prompt(f"{p.picture} and {p.score.suspected}: [c]opy, [n]o copy, [s]kip", default="s", err=True)
        if answer[:1].lower() in ("c", "n"):
            words[p.picture] = answer[:1].lower() == "c"
    return words
