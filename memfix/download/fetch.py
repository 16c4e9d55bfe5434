"""Reference pictures by URL into a folder: what is still to do, and doing it with many threads. Knows nothing of lists.

`plan_jobs`, then `fetch`, then `coverage.settle`, all under one open Journal; to resume, do the same again.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from PIL import Image

from memfix.config.tools import FetchSettings
from memfix.download.addresses import parse
from memfix.download.fetched import Fetched, NotFetchedError, Status, failed, refused
from memfix.download.journal import PARTIAL, Journal
from memfix.download.pacing import HostQueue, backoff
from memfix.download.pictures import check_picture
from memfix.download.placeholders import check_redirect
from memfix.download.safe_http import Client
from memfix.inputs.links import Link

SHA256_LENGTH = 64


@dataclass(frozen=True)
class Job:
    """A URL to fetch."""

    url: str
    hashes: frozenset[str] = frozenset()
    attempt: int = 1


@dataclass(frozen=True)
class _Done:
    """The end of a job, with the file that holds what it brought."""

    record: Fetched
    partial: Path


def plan_jobs(links: Iterable[Link], journal: Journal, retry: bool = False) -> list[Job]:
    """Each URL that is new, failed in passing, or whose file is gone; with `retry` all that gave no picture."""
    hashes: dict[str, frozenset[str]] = {}
    for link in links:
        hashes[link.url] = hashes.get(link.url, frozenset()) | link.hashes
    return [Job(url, given) for url, given in hashes.items() if not _settled(url, given, journal, retry)]


def _settled(url: str, given: frozenset[str], journal: Journal, retry: bool) -> bool:
    record = journal.records.get(url)
    if record is None:
        return False
    if record.status is not Status.FETCHED:
        return not (record.transient or retry)
    contradicted = any(len(h) == SHA256_LENGTH and h != record.sha256 for h in given)
    return journal.picture(record) is not None and not contradicted


def fetch(jobs: list[Job], journal: Journal, settings: FetchSettings, client: Client) -> Iterator[Fetched]:
    """Do jobs, yielding each as it ends, when its line is in the journal and its file in the folder.

    Files are named by the sha256 of their bytes. What goes wrong with a URL is in its record; a full disk is raised.
    """
    schedule = HostQueue(((host_of(job.url), job) for job in jobs), settings.per_host, 1 / settings.per_second)
    results: SimpleQueue[_Done | Exception] = SimpleQueue()
    numbers = itertools.count()

    def work() -> None:
        while taken := schedule.take():
            host, job = taken
            partial = journal.folder / f"{PARTIAL}{next(numbers)}"
            try:
                record = _attempt(job, partial, settings, client)
            except NotFetchedError as error:
                partial.unlink(missing_ok=True)
                wait = error.wait or 0
                soon = error.transient and error.status is Status.FAILED and wait <= settings.longest_wait
                if soon and job.attempt <= settings.retries:
                    pause = max(backoff(job.attempt, settings.backoff), wait)
                    schedule.again(host, replace(job, attempt=job.attempt + 1), pause, host_wait=wait)
                    continue
                record = _not_fetched(job, error)
            except Exception as error:  # not lost here: the thread that consumes the results raises it
                results.put(error)
                return
            schedule.finish(host)
            results.put(_Done(record, partial))

    with warnings.catch_warnings():  # here, as filters of warnings are shared by all threads
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` is the limit
        for _ in range(min(settings.threads, len(jobs))):
            Thread(target=work, daemon=True).start()  # daemons: an interrupt need not wait for slow servers
        try:
            for _ in jobs:
                done = results.get()
                if isinstance(done, Exception):
                    raise done
                _keep(done, journal)
                yield done.record
        finally:
            schedule.stop()


def host_of(url: str) -> str:
    """The host whose patience a URL costs; nothing for what is no URL."""
    try:
        return parse(url).host
    except NotFetchedError:
        return ""


def _attempt(job: Job, partial: Path, settings: FetchSettings, client: Client) -> Fetched:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    with closing(client.get(job.url)) as body:
        if not job.hashes:
            check_redirect(job.url, body.url)
        with partial.open("wb") as file:
            for chunk in body:
                size += len(chunk)
                sha256.update(chunk)
                md5.update(chunk)
                file.write(chunk)
    wrong = job.hashes - {sha256.hexdigest(), md5.hexdigest()}
    if wrong:
        raise refused("hash", f"the bytes have sha256 {sha256.hexdigest()}, not {', '.join(sorted(wrong))}")
    try:
        picture = check_picture(partial, settings.max_pixels, settings.min_side)
    except NotFetchedError as error:
        if error.reason == "broken picture" and not body.sized:
            raise failed("broke off", error.error) from None  # without a length, this is how a cut connection shows
        raise
    return Fetched(
        url=job.url, status=Status.FETCHED, file_name=sha256.hexdigest() + picture.suffix, sha256=sha256.hexdigest(),
        bytes=size, width=picture.width, height=picture.height, final_url=body.url, verified=bool(job.hashes),
        look=picture.look, attempts=job.attempt,
    )  # fmt: skip


def _not_fetched(job: Job, error: NotFetchedError) -> Fetched:
    return Fetched(
        url=job.url, status=error.status, reason=error.reason, error=error.error, transient=error.transient,
        attempts=job.attempt,
    )  # fmt: skip


def _keep(done: _Done, journal: Journal) -> None:
    """The line first: a line without its file is fetched again, a file without its line would be anybody's."""
    journal.append(done.record)
    if done.record.status is Status.FETCHED:
        done.partial.replace(journal.folder / done.record.file_name)
