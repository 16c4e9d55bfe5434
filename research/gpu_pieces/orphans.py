"""No process of a piece outlives the script, even one that is killed so that it can end nothing itself (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with(script: int) -> None:
    """Let this process, the leader of its group, and all of the group end when its parent `script` does.

    A child of its own waits for this process to end and then ends what is left of the group.
    """
    if sys.platform != "linux":
        return
    leader = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    if os.fork() == 0:
        _end_group_after(leader)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    _tell_at_death_of(script, signal.SIGKILL)


def _end_group_after(leader: int) -> None:
    try:
        if _tell_at_death_of(leader, signal.SIGUSR1):
            signal.sigwait({signal.SIGUSR1})
            os.killpg(leader, signal.SIGKILL)  # this process among them
    finally:
        os._exit(0)


def _tell_at_death_of(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send a signal to this process when its parent ends, at once if it has; False if it cannot."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        return False
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
    return True
