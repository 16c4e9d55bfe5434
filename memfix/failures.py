"""What the machine refuses (a full disk, a missing permission, too little memory), as one line and what to do."""

from __future__ import annotations

import errno

from memfix.errors import MemfixError

AGAIN = "and run the same command again: it goes on where it stopped."
HINTS = {
    errno.ENOSPC: f"Free some space, {AGAIN}",
    errno.EDQUOT: f"Free some space, {AGAIN}",
    errno.EFBIG: f"The file system, or a limit (ulimit -f), allows no file of this size. Raise it, {AGAIN}",
    errno.EROFS: "Give a folder that can be written: to -o, in HF_HOME or in MEMFIX_CACHE.",
    errno.EACCES: f"Make it readable and writable for this user, {AGAIN}",
    errno.EPERM: f"Make it readable and writable for this user, {AGAIN}",
    errno.ENAMETOOLONG: "Give a shorter path to -o.",
    errno.ENOLCK: "The file system has no locks. Give a folder on another one to -o.",
    errno.EMFILE: f"Raise the limit of open files (ulimit -n), {AGAIN}",
    errno.ENOMEM: f"Close other programs or lower --batch-size, {AGAIN}",
    errno.EIO: "The disk may be broken. Copy what you need, and give a folder on another one to -o.",
}
FULL, OUT_OF_MEMORY = "No space left on device", ("can't allocate memory", "not enough memory")


def machine_error(error: Exception) -> MemfixError | None:
    """What an error of the machine means for a user; None for one that is of memfix itself."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):  # a reader that went away is no failure
        what, where = error.strerror or type(error).__name__, f": {error.filename}" if error.filename else ""
        return MemfixError(f"{what}{where}.", HINTS.get(error.errno or 0, f"Mend that, {AGAIN}"))
    if FULL in str(error):  # as safetensors says it
        return MemfixError(f"{FULL}.", HINTS[errno.ENOSPC])
    if isinstance(error, MemoryError) or any(
        words in str(error) for words in OUT_OF_MEMORY
    ):  # the latter as torch says it
        return MemfixError("There is too little memory.", HINTS[errno.ENOMEM])
    return None
