"""What became of a URL: the words, the line of the journal, and the exception that carries a bad end."""

from __future__ import annotations

from pydantic import Field

from memfix.records import Record, Word


class Status(Word):
    """How a URL ended."""

    FETCHED = "fetched"
    DEAD = "dead"
    REFUSED = "refused"
    FAILED = "failed"


class Fetched(Record):
    """One URL that was tried to its end."""

    url: str
    status: Status
    reason: str = Field("", description="why there is no picture, in one or two words that a table can count")
    transient: bool = Field(False, description="another day may go better: a later run tries again")
    error: str = Field("", description="the same at length")
    file_name: str = ""
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    final_url: str = Field("", description="where redirects led; the URL itself without any")
    verified: bool = Field(False, description="the list gave a hash, and it is that of the bytes")
    look: str = Field("", description="8x8 grey levels in hex, of plain graphics only: what placeholders look like")
    attempts: int = 1


class NotFetchedError(Exception):
    """A URL gives no picture. `wait` is how many seconds its host asks to be left alone."""

    def __init__(
        self, status: Status, reason: str, error: str = "", *, transient: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(error or reason)
        self.status = status
        self.reason = reason
        self.error = error
        self.transient = transient
        self.wait = wait


def refused(reason: str, error: str = "") -> NotFetchedError:
    """It is there, and not wanted."""
    return NotFetchedError(Status.REFUSED, reason, error)


def failed(reason: str, error: str = "", *, wait: float | None = None) -> NotFetchedError:
    """It may be there: worth another try."""
    return NotFetchedError(Status.FAILED, reason, error, transient=True, wait=wait)
