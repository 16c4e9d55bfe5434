"""`memfix fetch`: download the reference images that a list names by URL, into a folder that --references reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfix.cli import show
from memfix.cli.options import Call, command
from memfix.config.tools import FetchSettings
from memfix.console import are, count_of, counted, emit, percent
from memfix.errors import MemfixError
from memfix.offline import is_offline

if TYPE_CHECKING:
    from memfix.download.coverage import Coverage
    from memfix.download.fetch import Job

SHOWN = 5


@command("fetch")
def fetch(
    call: Call,
    file: Annotated[
        str, typer.Argument(help="Table with a column of URLs, or a text file of URLs.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the pictures; by default ./<list>-references.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again the URLs that an earlier run found dead or refused.")
    ] = False,
) -> None:
    """Download the reference images that a list names by URL. Run it again to fetch what is still missing.

    Placeholders for lost pictures are refused. Private addresses are not reached by default, and no proxy is used.
    """
    from memfix.download import coverage
    from memfix.download import fetch as fetching
    from memfix.download.addresses import PORTS, Gate, is_public, is_public_or_intranet
    from memfix.download.journal import Journal
    from memfix.download.safe_http import Client, Limits
    from memfix.inputs.links import read_links
    from memfix.inputs.wrong_rows import WrongRows

    settings = call.settings(FetchSettings)
    policy = is_public_or_intranet if settings.allow_private else is_public
    client = Client(
        Gate(policy, PORTS | set(settings.allow_port)),
        Limits(total_seconds=settings.timeout, bytes=settings.max_bytes),
        settings.user_agent or Client.user_agent,
    )
    wrong = WrongRows(settings.skip_invalid)
    links = read_links(file, wrong, settings.limit)
    for line in wrong.told():
        call.talk.warn(line)
    folder = out or Path(f"{'list' if file == '-' else Path(file).stem}-references")
    if call.dry_run and not folder.exists():
        _plan(call, settings, folder, [fetching.Job(url) for url in dict.fromkeys(link.url for link in links)])
        return
    with Journal.open(folder) as journal:
        jobs = fetching.plan_jobs(links, journal, retry)
        if call.dry_run:
            _plan(call, settings, folder, jobs)
            return
        if jobs and is_offline():
            raise MemfixError(
                f"{counted(len(jobs), 'URL')} {are(len(jobs))} still to be fetched, but memfix is offline.",
                "Leave out --offline, or unset HF_HUB_OFFLINE.",
            )
        done = fetching.fetch(jobs, journal, settings, client)
        fresh = {record.url for record in call.talk.track(done, "Fetching", len(jobs))}
        found = coverage.settle(links, journal, fresh)
    _show(call, folder, found, wrong.count)
    if not found.pictures:
        raise MemfixError("No picture could be fetched.", f"The reasons are listed above and in {folder}/fetch.jsonl.")
    call.talk.say(f"Next: memfix detect {file} --references {folder} -m MODEL", "hint")


def _plan(call: Call, settings: FetchSettings, folder: Path, jobs: list[Job]) -> None:
    from memfix.download.fetch import host_of

    hosts = Counter(host_of(job.url) for job in jobs)
    data = {"folder": str(folder), "urls": len(jobs), "hosts": dict(hosts.most_common())}
    show.settings(call, {"fetch": settings}, **(data if call.json else {}))
    call.talk.tell(f"{counted(len(jobs), 'URL')} of {counted(len(hosts), 'host')} would be fetched into {folder}.")


def _show(call: Call, folder: Path, found: Coverage, wrong_rows: int) -> None:
    rows = [("fetched", "", found.fetched), ("already there", "", found.there)]
    rows += [(status.value, reason, count) for (status, reason), count in found.missing.items()]
    table = [[what, why, str(count), percent(count / found.urls, 1)] for what, why, count in rows]
    from memfix.download.placeholders import hosts_of

    call.talk.table("Coverage", ["what", "why", "URLs", ""], [*table, ["all", "", str(found.urls), ""]], (0, 1))
    for group in found.suspects[:SHOWN]:
        hosts = counted(len(hosts_of(group)), "host")
        call.talk.warn(
            f"{len(group)} URLs of {hosts}, {group[0].url} among them, give the same picture {group[0].file_name}: "
            "check whether it is a placeholder for lost pictures."
        )
    if len(found.suspects) > SHOWN:
        call.talk.warn(f"{len(found.suspects) - SHOWN} more pictures come from several URLs; --json lists all of them.")
    have = "has" if found.pictures == 1 else "have"
    call.talk.tell(f"\n{count_of(found.pictures, found.urls, 'URL')} {have} a picture, in {folder}", "title")
    if call.json:
        emit({"folder": str(folder), "wrong_rows": wrong_rows, **_data(found)})


def _data(found: Coverage) -> dict[str, Any]:
    reasons: dict[str, dict[str, int]] = {"dead": {}, "refused": {}, "failed": {}}
    for (status, reason), count in found.missing.items():
        reasons[status.value][reason] = count
    suspects = [{"file_name": group[0].file_name, "urls": [r.url for r in group]} for group in found.suspects]
    return {"urls": found.urls, "fetched": found.fetched, "already_there": found.there, **reasons, "suspects": suspects}
