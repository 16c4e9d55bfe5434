"""report.json → report.html: one page. Every text is escaped; pictures are inlined, small, of many the first ones."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from memfix.console import are, count_of, counted, near_percent, percent, visible
from memfix.errors import MemfixError
from memfix.files import write_atomic
from memfix.inputs.opening import open_image
from memfix.records import Label, Outcome
from memfix.report.bounds import NO_CONTROLS, bound_of, meaning
from memfix.report.schema import Picture, PromptEntry, Report, Summary
from memfix.run.header import DetectStage

NAME = "report.html"
LARGEST = 160  # pixels of a picture's longer side on the page
NO_BREAK = "\N{NO-BREAK SPACE}"  # between a number and its sign
MOST_DISPUTED = 48  # pairs on the page
SHOWN = 8  # pictures in a row
LARGE_RUN, INLINED = 2000, 240
"""A page holds the pictures of a run itself; of one with more than LARGE_RUN samples only the first INLINED of them,
since to make a thousand of them small takes 20 seconds and 10 MB."""
ESTIMATE = "clean by estimate of a screen"
MEDOID_COPIES = 3  # copies that it takes where samples are compared with each other: one, and two like it
GONE = "data:image/gif;base64,R0lGODlhAQABAIAAAMzMzP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="  # one grey pixel


TEMPLATES: BaseLoader = PackageLoader("memfix.report")


def write_page(folder: Path, report: Report, run: Path | None = None) -> Path:
    """Render a report to a folder, with pictures of a run; of the one that the folder is, if none is named."""
    made, pictures = template_environment(), Pictures(run or folder, folder, inlined(report))
    made.globals |= {"picture": pictures.inline, "curve": curve, "enough": enough, "one_of": one_of,
                     "shot": lambda path: pictures.inline(Picture(path=path)),
                     "linked": pictures.linked, "shown": SHOWN, "most_disputed": MOST_DISPUTED,
                     "listed": sorted(report.prompts, key=urgency), "bound": bound_of, "left": copies_left}  # fmt: skip
    page = made.get_template("report.html.j2").render(r=report, s=report.summary, headline=headline(report))
    write_atomic(folder / NAME, page)
    return folder / NAME


def inlined(report: Report) -> int:
    """How many pictures a page holds itself at most."""
    samples = sum(len(e.samples_before) + len(e.samples_after) for e in (*report.prompts, *report.controls))
    return LARGE_RUN if samples <= LARGE_RUN else INLINED


def urgency(entry: PromptEntry) -> int:
    """A prompt's place in the table of verdicts: first what was found and is not mended, last what was not sampled."""
    bad = (Outcome.PERSISTENT, Outcome.HIDDEN, Outcome.DAMAGED, Outcome.UNDECIDED)
    if entry.outcome in bad:
        return bad.index(entry.outcome)
    before = (Label.MEMORIZED, Label.UNDECIDED, Label.CLEAN)
    return len(bad) + before.index(entry.verdict_before) + (not entry.sampled)


def template_environment() -> Environment:
    """How the page is made of its template."""
    made = Environment(loader=TEMPLATES, autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True, finalize=_visible)  # fmt: skip
    made.filters |= {"percent": printed, "near": lambda share, digits=0: _unbroken(near_percent(share, digits))}
    made.globals |= {"counted": counted, "are": are}
    return made


def _visible(value: Any) -> Any:
    """What the template prints: every text, save what it has made itself, shows its hidden characters."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def headline(report: Report) -> tuple[str, str, str]:
    """Tone (good, bad, warn, plain), the finding in one sentence, and what it rests on."""
    s = report.summary
    doubt = f"This says little. {report.run.stages.doubt} " if report.run.stages.doubt else ""
    if s.memorized_before == 0 and s.mitigated is None:
        if s.undecided_before:
            unsure = "No memorized prompt was found, but not every prompt could be decided."
            if s.disputed:
                disputed = f"{counted(s.disputed, 'sample')} {are(s.disputed)} disputed"
                other = f"copies by another measure than {_measure(report)}"
                return "warn", unsure, f"{doubt}{_others(s)}{disputed}: {other}."
            return "warn", unsure, f"{doubt}{_others(s)}Draw more samples: give a higher --num-samples."
        if s.not_sampled:
            sampled = count_of("None", s.prompts - s.not_sampled, "sampled prompt")
            return "warn", f"{sampled} is memorized.", f"{doubt}{_others(s)}Nothing was unlearned."
        nothing = f"{count_of('None', s.prompts, 'prompt')} is memorized."
        if doubt:
            return "warn", nothing, f"{doubt}Nothing was unlearned."
        return "good", nothing, "Nothing was unlearned."
    if not report.run.unlearned and s.mitigated is None:
        unseen = f"Clean says little here. {report.run.stages.doubt} " if doubt and s.clean_sampled else ""
        return (
            "bad",
            f"{count_of(s.memorized_before, s.prompts, 'prompt')} {_show(report, s.memorized_before)}.",
            f"{_others(s)}{unseen}Nothing was unlearned.",
        )
    if s.mitigated is None:
        unproven = "The model was unlearned but not re-checked, so there is no proof that anything was erased."
        return "bad", unproven, f"{_warning(report)}Run memfix recheck."
    problems = [f"{n} {word}" for n, word in [(s.persistent, "persistent"), (s.hidden, "hidden"),
                                              (s.damaged, "damaged"), (s.undecided, "undecided")] if n]  # fmt: skip
    if s.controls_changed:
        problems.append(f"{count_of(s.controls_changed, s.controls, 'control')} changed")
    unchanged = s.controls - (s.controls_changed or 0)
    if s.disputed:
        problems.append(f"{counted(s.disputed, 'sample')} disputed")
    if besides := len(report.run.stages.copied_besides):
        problems.append(
            f"{counted(besides, 'prompt')} outside the list gave copies before and {are(besides)} not unlearned"
        )
    proof = f"{_warning(report)}{count_of(unchanged, s.controls, 'control')} {are(unchanged)} unchanged."
    if not s.controls:
        proof = f"{_warning(report)}{NO_CONTROLS}"
    tone, text = _finding(report, bool(problems))
    if not s.attacks:
        proof += " No attack was made, so nothing says how easily the pictures could be brought back."
    elif s.attacks == s.known_attacks:
        proof += " Every attack that was made is one that the model was trained against, or that ended its training: "
        proof += "others may succeed."
    if s.reworded and tone != "bad":
        read = "reads" if s.reworded == 1 else "read"
        proof += f" {count_of(s.reworded, s.mitigated, 'mitigated prompt')} now {read} like a shorter wording."
    if s.not_sampled:
        left_out = count_of(s.not_sampled, s.prompts, "prompt")
        proof += f" {left_out} {are(s.not_sampled, past=True)} sampled neither before nor after: {ESTIMATE}."
    if told := meaning(report):
        proof += f" {told}"
    if report.run.stages.doubt:
        proof += f" {report.run.stages.doubt}"
    return tone, text, ", ".join(problems) + ". " + proof if problems else proof


def _finding(report: Report, problems: bool) -> tuple[str, str]:
    """Tone and sentence of a run that was re-checked: what is worst is said first."""
    s = report.summary
    assert s.mitigated is not None
    if s.persistent:
        still = count_of(s.persistent, s.memorized_before, "memorized prompt")
        return "bad", f"{still} still {_show(report, s.persistent)}."
    if s.hidden:
        hidden = count_of(s.hidden, s.memorized_before, "memorized prompt")
        return "bad", f"{hidden} {are(s.hidden)} only hidden: the training image comes back."
    if s.damaged:
        return "bad", "The model is damaged: not drawing a picture any more is not forgetting it."
    if s.newly_memorized:
        new = counted(s.newly_memorized, "prompt")
        return "bad", f"{new} that gave no copies before now {_show(report, s.newly_memorized)}."
    if s.harmed:
        return "bad", f"{counted(s.harmed, 'prompt')} that must not change {are(s.harmed)} damaged."
    if (s.controls_changed or 0) > s.controls / 2:
        return "bad", "Most prompts that must not change now draw other pictures."
    if problems:
        mitigated = count_of(s.mitigated, s.memorized_before, "memorized prompt")
        return "warn", f"{mitigated} {are(s.mitigated)} mitigated, but there are problems."
    shown = s.controls and (s.attacks or 0) > (s.known_attacks or 0) and not report.run.stages.doubt
    tone = "good" if shown else "warn"
    if s.mitigated == 1:
        return tone, "The one memorized prompt is mitigated."
    return tone, f"All {s.mitigated} memorized prompts are mitigated."


def _warning(report: Report) -> str:
    """What went wrong in training; empty if nothing did, or if there was no validation."""
    ending = report.training.ending if report.training else None
    return f"{ending.sentence} " if ending and ending.good is False else ""


def _measure(report: Report) -> str:
    """The measure that decides."""
    detected = report.run.stages.detect
    return detected.rule.measure if detected and detected.rule else "the deciding one"


def _show(report: Report, prompts: int) -> str:
    """What memorized prompts do; without training images, all that can be seen is that their samples are alike."""
    s = "s" if prompts == 1 else ""
    detected = report.run.stages.detect
    medoids = detected is not None and detected.medoids
    return f"draw{s} the same picture from different noise" if medoids else f"reproduce{s} a training image"


def _others(s: Summary) -> str:
    """How many prompts are not memorized, by what is known of them; those that nobody sampled apart."""
    clean = (s.clean_sampled, "clean"), (s.not_sampled, f"not sampled ({ESTIMATE})"), (s.undecided_before, "undecided")
    told = [f"{n} {word}" for n, word in clean if n]
    return f"{', '.join(told)}. " if told else ""


def enough(detect: DetectStage) -> str:
    """How many copies of how many samples make a prompt memorized, at each look of a detection; empty if none do."""
    assert detect.design
    least = MEDOID_COPIES if detect.medoids else 1
    looks = zip(detect.design.looks, detect.design.memorized_from, strict=True)
    numbers = [(max(k, least), n) for n, k in looks if k is not None and max(k, least) <= n]
    same = {k for k, _ in numbers}
    if len(numbers) > 1 and len(same) == 1:
        return f"{same.pop()} or more of {one_of([n for _, n in numbers])}"
    return one_of([f"{k} or more of {n}" if k < n else f"{k} of {n}" for k, n in numbers])


def one_of(choices: Sequence[Any]) -> str:
    """`[4, 8, 16]` → `4, 8 or 16`."""
    *others, last = map(str, choices or [""])
    return f"{', '.join(others)} or {last}" if others else last


def printed(share: float | None, digits: int = 0) -> str:
    """A share as it stands in the page: number and sign on one line, a dash for nothing."""
    return "–" if share is None else _unbroken(percent(share, digits))


def _unbroken(number: str) -> str:
    return number.replace(" %", f"{NO_BREAK}%")


def copies_left(s: Summary) -> str:
    """How many copies are left in which samples, and what brings more: no share of zero stands alone beside a prompt
    that still copies."""
    told = f"{s.copies_left or 'none'} of {s.samples_left:,} samples after, from the same and from fresh noise"
    if s.persistent and not s.copies_left:
        told += f"; {counted(s.persistent, 'prompt')} {'shows' if s.persistent == 1 else 'show'} another picture again"
    if s.hidden:
        told += f"; {counted(s.hidden, 'picture')} can be brought back"
    if s.newly_memorized:
        told += (
            f"; {counted(s.newly_memorized, 'other prompt')} now {'gives' if s.newly_memorized == 1 else 'give'} copies"
        )
    return told


class Pictures:
    """Pictures of a run as data URIs, each encoded once; past the first `most`, as links from a page in `page`."""

    def __init__(self, run: Path, page: Path, most: int = LARGE_RUN) -> None:
        self._run, self._page, self._most = run, page, most
        self._known: dict[str, str] = {}

    def inline(self, picture: Picture) -> Markup:
        """The `src` of an <img>. A picture that is gone becomes a grey square."""
        if picture.path not in self._known:
            src = self._encode if len(self._known) < self._most else self._link
            self._known[picture.path] = src(self._run / picture.path)
        return Markup(self._known[picture.path])  # base64, or quoted, of our own making

    def linked(self) -> int:
        """How many of them are no part of the page."""
        return max(0, len(self._known) - self._most)

    def _link(self, path: Path) -> str:
        return quote(os.path.relpath(path, self._page))

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
