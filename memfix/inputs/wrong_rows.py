"""What becomes of a row that cannot be read, and of a picture that is missing, broken or more than one.

Knows nothing of formats.
"""

from __future__ import annotations

from memfix.errors import MemfixError

KEPT = 20


class WrongRows:
    """Wrong rows and pictures of any number of files: an error at the first, or with `skip` counted and left out."""

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self.pictures = 0
        """Pictures that are left out; a prompt that names one stays, without it."""
        self.frames = 0
        """Frames and pages behind the first one of a picture that are not used."""
        self.first_frames = ""
        """The first picture that has some."""
        self.own_frames = 0
        """Further frames and pages that are pictures of their own."""
        self.same_frames = 0
        """Those that are the same as one before them."""
        self.first: list[str] = []
        """The first rows, each as 'file:line what is wrong'; a file of a million wrong rows must not fill memory."""
        self.first_pictures: list[str] = []

    def add(self, place: str, problem: str, hint: str) -> None:
        """Take note of one row; `place` is 'file:line'. Raises MemfixError unless they are to be skipped."""
        if not self.skip:
            raise MemfixError(f"{place} {problem}.", f"{hint} With --skip-invalid such rows are left out and counted.")
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(f"{place} {problem}")

    def add_picture(self, place: str, problem: str, hint: str) -> None:
        """Take note of one picture; `place` is its file, or the 'file:line' that names it. Raises as `add` does."""
        if not self.skip:
            hint = f"{hint} With --skip-invalid such pictures are left out and counted."
            raise MemfixError(f"{place} {problem}.", hint)
        self.pictures += 1
        if len(self.first_pictures) < KEPT:
            self.first_pictures.append(f"{place} {problem}")

    def add_frame(self, place: str, same: bool) -> None:
        """Take note that a frame of a picture is not used, or that it is the `same` as one before it."""
        self.same_frames += same
        self.frames += not same
        self.first_frames = self.first_frames or ("" if same else place)

    def told(self) -> list[str]:
        """Lines for the user: the first wrong rows and pictures, and how many there are beyond them."""
        told = []
        for first, count, what in [(self.first, self.count, "rows"), (self.first_pictures, self.pictures, "pictures")]:
            more = count - len(first)
            told += [f"{one}; it is left out" for one in first]
            told += [f"{more} more invalid {what} are left out"] * (more > 0)
        return told
