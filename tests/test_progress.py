"""How far a command is: a bar where somebody watches, lines in a log."""

import io

import pytest
from rich.console import Console

from memfix.console.progress import progress


def written(width: int, terminal: bool, title: str = "Sampling") -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=terminal), file


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    console, file = written(80, terminal=False)
    with progress(console, "Sampling", 1000, quiet=False) as bar:
        for done in range(1, 101):
            clock[0] += 1
            bar.at(done, f"loss {done}  [b]")
    lines = file.getvalue().splitlines()
    assert lines == [
        "Sampling: 30 of 1,000, 0:30, 16:10 left, loss 30 [b]",
        "Sampling: 60 of 1,000, 1:00, 15:40 left, loss 60 [b]",
        "Sampling: 90 of 1,000, 1:30, 15:10 left, loss 90 [b]",
        "Sampling: 100 of 1,000, 1:40, loss 100 [b]",
    ]


def test_a_total_may_be_known_only_later() -> None:
    console, file = written(80, terminal=False)
    with progress(console, "Describing", None, quiet=False) as bar:
        bar.at(1, total=2)
        bar.at(2)
    assert file.getvalue() == "Describing: 2 of 2, 0:00\n"


def test_quiet_means_quiet() -> None:
    for terminal in (False, True):
        console, file = written(80, terminal)
        with progress(console, "Sampling", 3, quiet=True) as bar:
            bar.at(3)
        assert file.getvalue() == ""


@pytest.mark.parametrize("width", [50, 80, 120])
def test_counts_are_whole_on_every_terminal(width: int) -> None:
    console, file = written(width, terminal=True)
    with progress(console, "Sampling keep images: beginnings of the prompt", 12_000, quiet=False) as bar:
        bar.at(12_000, "keep 29.1  forget 16.0")
    shown = file.getvalue()
    assert "12000/12000" in shown and "0:00:00" in shown
