"""report.json → report.html: one self-contained page. Every text is escaped; pictures are inlined, small."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from memfix.console import percent
from memfix.errors import MemfixError
from memfix.files import write_atomic
from memfix.inputs.references import open_image
from memfix.report.schema import Picture, Report, Summary

NAME = "report.html"
LARGEST = 160  # pixels of a picture's longer side on the page
SHOWN = 8  # pictures in a row
ESTIMATE = "clean by estimate of a screen"
STAND_INS = 3  # copies that it takes where samples are compared with each other: one, and two like it
GONE = "data:image/gif;base64,R0lGODlhAQABAIAAAMzMzP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="  # one grey pixel


def write(folder: Path, report: Report) -> Path:
    """Render a report beside its pictures in `folder`."""
    environment = Environment(loader=PackageLoader("memfix.report"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    pictures = Pictures(folder)
    environment.globals |= {
        "picture": pictures.inline,
        "curve": curve,
        "enough": enough,
        "one_of": one_of,
        "shown": SHOWN,
    }
    environment.filters |= {"percent": percent}
    page = environment.get_template("report.html.j2").render(r=report, s=report.summary, headline=headline(report))
    write_atomic(folder / NAME, page)
    return folder / NAME


def headline(report: Report) -> tuple[str, str, str]:
    """Tone (good, bad, warn, plain), the finding in one sentence, and what it rests on."""
    s = report.summary
    if s.memorized_before == 0 and s.mitigated is None:
        if s.undecided_before:
            unsure = "No memorized prompt was found, but not every prompt could be decided."
            return "warn", unsure, f"{_others(s)}Give --num-samples a higher number."
        if s.not_sampled:
            return (
                "warn",
                f"None of {s.prompts - s.not_sampled} sampled prompts is memorized.",
                f"{_others(s)}Nothing was unlearned.",
            )
        return "good", f"None of {s.prompts} prompts is memorized.", "Nothing was unlearned."
    if not report.run["unlearned"] and s.mitigated is None:
        return (
            "bad",
            f"{s.memorized_before} of {s.prompts} prompts {_shown(report)}.",
            f"{_others(s)}Nothing was unlearned.",
        )
    if s.mitigated is None:
        unproven = "Unlearned, but not checked: there is no proof that anything was erased."
        return "bad", unproven, f"{_warning(report)}Run memfix recheck."
    broken = [f"{n} {word}" for n, word in [(s.persistent, "persistent"), (s.damaged, "damaged"),
                                            (s.undecided, "undecided")] if n]  # fmt: skip
    if s.controls_changed:
        broken.append(f"{s.controls_changed} of {s.controls} controls changed")
    proof = f"{_warning(report)}{s.controls - (s.controls_changed or 0)} of {s.controls} controls are unchanged."
    if s.persistent:
        tone, text = (
            "bad",
            f"{s.persistent} of {s.memorized_before} memorized prompts still {_shown(report)}.",
        )
    elif (s.controls_changed or 0) > s.controls / 2:
        tone, text = (
            "bad",
            "The model is not what it was: most prompts that must not change draw other pictures.",
        )
    elif broken:
        tone, text = "warn", f"{s.mitigated} of {s.memorized_before} memorized prompts are mitigated; not all is well."
    else:
        tone, text = "good", f"All {s.mitigated} memorized prompts are mitigated."
    if s.not_sampled:
        proof += f" {s.not_sampled} of {s.prompts} prompts were sampled neither before nor after: {ESTIMATE}."
    return tone, text, ", ".join(broken) + ". " + proof if broken else proof


def _warning(report: Report) -> str:
    """What went wrong in training; empty if nothing did, or if nobody looked."""
    ending = report.training.get("ending")
    return f"{ending['sentence']} " if ending and not ending["good"] else ""


def _shown(report: Report) -> str:
    """What memorized prompts do; without training images, all that can be seen is that their samples are alike."""
    stand_ins = report.run["stages"]["detect"].get("stand_ins")
    return "draw one and the same picture from different noise" if stand_ins else "reproduce a training image"


def _others(s: Summary) -> str:
    """How many prompts are not memorized, by what is known of them; those that nobody sampled apart."""
    clean = (s.clean_sampled, "clean"), (s.not_sampled, f"not sampled ({ESTIMATE})"), (s.undecided_before, "undecided")
    told = [f"{n} {word}" for n, word in clean if n]
    return f"{', '.join(told)}. " if told else ""


def enough(detect: Mapping[str, Any]) -> str:
    """How many copies of how many samples make a prompt memorized, at each look of a detection; empty if none do."""
    least = STAND_INS if detect.get("stand_ins") else 1
    looks = zip(detect["design"]["looks"], detect["design"]["memorized_from"], strict=True)
    numbers = [(max(k, least), n) for n, k in looks if k is not None and max(k, least) <= n]
    return one_of([f"{k} or more of {n}" if k < n else f"{k} of {n}" for k, n in numbers])


def one_of(choices: Sequence[Any]) -> str:
    """`[4, 8, 16]` → `4, 8 or 16`."""
    *others, last = map(str, choices or [""])
    return f"{', '.join(others)} or {last}" if others else last


class Pictures:
    """Pictures as data URIs, each encoded once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}

    def inline(self, picture: Picture) -> Markup:
        """The `src` of an <img>. A picture that is gone becomes a grey square."""
        if picture.path not in self._known:
            self._known[picture.path] = self._encode(self._folder / picture.path)
        return Markup(self._known[picture.path])  # base64 of our own making

    @staticmethod
    def _encode(path: Path) -> str:
        try:
            image = open_image(path)
        except MemfixError:
            return GONE
        image.thumbnail((LARGEST, LARGEST))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=86)
        return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def curve(values: list[float], width: int = 600, height: int = 120) -> str:
    """Points of an SVG polyline, smoothed over a twentieth of the steps."""
    if not values:
        return ""
    span = max(1, len(values) // 20)
    smooth = [sum(values[max(0, i - span) : i + 1]) / len(values[max(0, i - span) : i + 1]) for i in range(len(values))]
    low, high = min(smooth), max(smooth)
    scale = (high - low) or 1.0
    step = width / max(1, len(values) - 1)
    return " ".join(f"{i * step:.1f},{height - (v - low) / scale * (height - 8) - 4:.1f}" for i, v in enumerate(smooth))
