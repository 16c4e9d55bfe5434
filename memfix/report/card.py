"""The model card beside unlearned weights: what they are, what they were made from, what the re-check found."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from memfix.console import are, count_of, counted, near_percent, visible
from memfix.files import write_atomic
from memfix.report.bounds import NO_CONTROLS, meaning
from memfix.report.schema import Report

FOR_OTHER_TOOLS = ".kohya.safetensors"
"""How a LoRA ends that other tools read; see `models.kohya`."""


def write_card(folder: Path, report: Report, rechecked: bool) -> Path:
    """Write `folder`/README.md; `rechecked` says whether the report's re-check was of these very weights."""
    environment = Environment(loader=PackageLoader("memfix.report"), undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"near": near_percent, "line": _line}
    environment.globals |= {
        "counted": counted,
        "count_of": count_of,
        "are": are,
        "meaning": meaning(report),
        "no_controls": NO_CONTROLS,
    }
    found = sorted(file.name for file in folder.glob(f"*{FOR_OTHER_TOOLS}"))
    other = found[0] if found else None
    text = environment.get_template("card.md.j2").render(r=report, s=report.summary, rechecked=rechecked, kohya=other)
    write_atomic(folder / "README.md", text)
    return folder / "README.md"


def _line(text: object) -> str:
    """A text from outside on one line of Markdown."""
    return visible(" ".join(str(text).split())).replace("`", "'")
