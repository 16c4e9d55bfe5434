"""What becomes of a row that cannot be read. Knows nothing of formats."""

from __future__ import annotations

from memfix.errors import MemfixError

KEPT = 20


class WrongRows:
    """Wrong rows of any number of files: an error at the first one or, with `skip`, counted and left out."""

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self.first: list[str] = []
        """The first of them, each as 'file:line what is wrong'; a file of a million wrong rows must not fill memory."""

    def add(self, place: str, problem: str, hint: str) -> None:
        """Take note of one row; `place` is 'file:line'. Raises MemfixError unless they are to be skipped."""
        if not self.skip:
            raise MemfixError(f"{place} {problem}.", f"{hint} With --skip-invalid such rows are left out and counted.")
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(f"{place} {problem}")

    def told(self) -> list[str]:
        """Lines for the user: the first wrong rows, and how many there are beyond them."""
        more = self.count - len(self.first)
        return [*(f"{row}; left out" for row in self.first), *([f"{more} more wrong rows are left out"] * (more > 0))]
