"""Which job is next, so that threads stay busy and no host is hurried. Knows nothing of what a job is."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from threading import Condition
from typing import Generic, TypeVar

J = TypeVar("J")
MAX_BACKOFF = 60.0  # seconds


def backoff(attempt: int, base: float) -> float:
    """Seconds before the next try after `attempt` (1, 2, …) failed: doubled each time, half to one and a half of it."""
    return min(base * 2.0 ** (attempt - 1), MAX_BACKOFF) * random.uniform(0.5, 1.5)


@dataclass
class _Host(Generic[J]):
    waiting: list[tuple[float, int, J]] = field(default_factory=list)  # a heap by the time a job may start
    running: int = 0
    free_at: float = 0.0
    version: int = 0  # entries of the schedule's heap with an older one are void


class HostQueue(Generic[J]):
    """Jobs by host; threads take them one by one. A job that must wait, and a host that is busy, hold up no thread."""

    def __init__(self, jobs: Iterable[tuple[Hashable, J]], per_host: int, interval: float) -> None:
        """`per_host` jobs of a host run at once, and start at least `interval` seconds apart."""
        self._per_host, self._interval = per_host, interval
        self._hosts: dict[Hashable, _Host[J]] = {}
        self._ready: list[tuple[float, int, int, Hashable]] = []
        self._numbers = itertools.count()
        self._changed = Condition()
        self._left = 0
        for host, job in jobs:
            self._hosts.setdefault(host, _Host()).waiting.append((0.0, next(self._numbers), job))
            self._left += 1
        for name in self._hosts:
            self._offer(name)

    def take(self) -> tuple[Hashable, J] | None:
        """The next host and job, as soon as it may start; None when all is done or stopped.

        What was taken ends with `finish` or `again`.
        """
        with self._changed:
            while self._left:
                while self._ready and self._ready[0][2] != self._hosts[self._ready[0][3]].version:
                    heapq.heappop(self._ready)
                now = time.monotonic()
                if self._ready and self._ready[0][0] <= now:
                    name = heapq.heappop(self._ready)[3]
                    host = self._hosts[name]
                    job = heapq.heappop(host.waiting)[2]
                    host.running += 1
                    host.free_at = now + self._interval
                    self._offer(name)
                    self._changed.notify()  # the others sleep until the time of what was first in line before
                    return name, job
                self._changed.wait(self._ready[0][0] - now if self._ready else None)
            return None

    def finish(self, name: Hashable) -> None:
        """A job came to its end."""
        with self._changed:
            self._left -= 1
            self._release(name)

    def again(self, name: Hashable, job: J, wait: float, host_wait: float = 0.0) -> None:
        """A job is to be tried again in `wait` seconds; its host asks for `host_wait` without any."""
        now = time.monotonic()
        with self._changed:
            host = self._hosts[name]
            heapq.heappush(host.waiting, (now + wait, next(self._numbers), job))
            host.free_at = max(host.free_at, now + host_wait)
            self._release(name)

    def stop(self) -> None:
        """Give no more jobs."""
        with self._changed:
            self._left = 0
            self._changed.notify_all()

    def _release(self, name: Hashable) -> None:
        self._hosts[name].running -= 1
        self._offer(name)
        self._changed.notify_all()

    def _offer(self, name: Hashable) -> None:
        """Enter a host where its next job belongs, in place of where it stood."""
        host = self._hosts[name]
        host.version += 1
        if host.waiting and host.running < self._per_host:
            start = max(host.free_at, host.waiting[0][0])
            heapq.heappush(self._ready, (start, next(self._numbers), host.version, name))
