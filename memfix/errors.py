"""The one error a user meets: what is wrong, and what to do next. Knows nothing of torch or of runs."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells the shell."""

    OK = 0
    ERROR = 1
    USAGE = 2
    FINDINGS = 3
    DAMAGED = 4
    INTERRUPTED = 130


class MemfixError(Exception):
    """Something the user can mend. `message` says what and where, `hint` what to type next."""

    def __init__(self, message: str, hint: str = "", exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint that names the nearest known word, or all of them."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
