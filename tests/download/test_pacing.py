"""Busy threads, unhurried hosts: limits hold under many threads, a waiting job holds up nobody."""

import time
from collections import Counter
from threading import Lock, Thread

import pytest

from memfix.download.pacing import MAX_BACKOFF, HostQueue, backoff


def drain(schedule: HostQueue[int], threads: int, seconds: float) -> tuple[list[tuple[float, str, int]], Counter[str]]:
    """Starts (time, host, job) and the most jobs of each host at once."""
    starts: list[tuple[float, str, int]] = []
    running, most, lock = Counter[str](), Counter[str](), Lock()

    def work() -> None:
        while taken := schedule.take():
            host, job = str(taken[0]), taken[1]
            with lock:
                starts.append((time.monotonic(), host, job))
                running[host] += 1
                most[host] = max(most[host], running[host])
            time.sleep(seconds)
            with lock:
                running[host] -= 1
            schedule.finish(host)

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert not worker.is_alive()
    return starts, most


def test_concurrency_of_a_host() -> None:
    jobs = [("a", i) for i in range(20)] + [("b", i) for i in range(20)]
    starts, most = drain(HostQueue(jobs, per_host=3, interval=0), 16, 0.01)
    assert sorted((host, job) for _, host, job in starts) == sorted(jobs)
    assert most == {"a": 3, "b": 3}


def test_rate_of_a_host_and_no_wait_for_the_others() -> None:
    begun = time.monotonic()
    starts, _ = drain(HostQueue([("slow", i) for i in range(5)], per_host=2, interval=0.1), 2, 0)
    assert all(t - begun > 0.1 * place for place, t in enumerate(sorted(t for t, _, _ in starts)))
    others = [(f"h{i}", i) for i in range(50)]
    schedule = HostQueue([("slow", 0), ("slow", 1), *others], per_host=2, interval=3000)
    assert {schedule.take() for _ in range(51)} == {("slow", 0), *others}


def test_a_job_that_waits_and_a_host_that_asks_for_rest() -> None:
    schedule = HostQueue([("a", 1), ("a", 2), ("b", 3)], per_host=1, interval=0)
    begun = time.monotonic()
    assert schedule.take() == ("a", 1)
    schedule.again("a", 1, wait=3000)
    assert {schedule.take(), schedule.take()} == {("a", 2), ("b", 3)}  # the first one waits alone
    schedule.again("a", 2, wait=0.1, host_wait=0.2)
    schedule.finish("b")
    assert schedule.take() == ("a", 2)
    assert time.monotonic() - begun > 0.19
    schedule.again("a", 2, wait=0.1)
    assert schedule.take() == ("a", 2)
    assert time.monotonic() - begun > 0.28


def test_stop_wakes_everybody() -> None:
    schedule = HostQueue([("a", 1)], per_host=1, interval=0)
    schedule.take()
    waiting = Thread(target=schedule.take)
    waiting.start()
    schedule.stop()
    waiting.join(300)
    assert not waiting.is_alive()


def test_backoff_doubles_with_jitter() -> None:
    for attempt, middle in [(1, 2.0), (2, 4.0), (3, 8.0), (20, MAX_BACKOFF)]:
        waits = [backoff(attempt, 2.0) for _ in range(400)]
        assert middle * 0.5 <= min(waits) < middle * 0.6
        assert middle * 1.4 < max(waits) <= middle * 1.5
        assert sum(waits) / 400 == pytest.approx(middle, rel=0.1)
