"""`memfix prompts`: published prompt lists, pinned and hashed."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from memfix.cli.arguments import Command
from memfix.cli.options import Call, command
from memfix.cli.short_help import Commands
from memfix.console import emit
from memfix.download.published import BASE, PUBLISHED, fetch_list, get_published

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="List published prompt lists, memorized and ordinary, and download them.",
)


@command()
def list_(call: Call) -> None:
    """List the published prompt lists that memfix knows."""
    if call.json:
        emit([{**asdict(entry), "url": entry.url()} for entry in PUBLISHED.values()])
        return
    rows = [[e.name, e.about, str(e.prompts), e.kind, e.model, e.licence] for e in PUBLISHED.values()]
    call.talk.table("Published prompt lists", ["name", "what", "prompts", "kind", "model", "licence"], rows, (1, 4))
    call.talk.say("Next: memfix prompts get NAME", "hint")


@command()
def get(
    call: Call,
    name: Annotated[str, typer.Argument(help="Name of a list; see 'memfix prompts list'.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File or folder to write to; by default ./NAME.csv or ./NAME.txt."),
    ] = None,
    mirror: Annotated[str, typer.Option(help="Address of a mirror of raw.githubusercontent.com.")] = BASE,
) -> None:
    """Download a published prompt list at its pinned commit and verify its sha256."""
    entry = get_published(name)
    target = out or Path(entry.file_name)
    if target.is_dir():
        target /= entry.file_name
    if call.dry_run:
        call.talk.tell(f"{entry.url(mirror)} (sha256 {entry.sha256}) → {target}")
        return
    fresh = fetch_list(entry, target, mirror)
    if call.json:
        emit({**asdict(entry), "url": entry.url(), "file": str(target), "downloaded": fresh})
    call.talk.tell(
        f"{target}: {'downloaded' if fresh else 'already there'}, with the pinned sha256; licence {entry.licence}."
    )
    call.talk.say(f"Next: memfix detect {target}", "hint")


app.command("list", cls=Command)(list_)
app.command("get", cls=Command)(get)
