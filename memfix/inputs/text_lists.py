"""Prompt lists in plain text: one prompt a line, or a table under the name of a text file. Never a guess in silence.

What other tools write into such files is understood or refused: comments, options behind a prompt, names of columns.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from memfix.inputs import columns
from memfix.inputs.line_marks import WrongMarkError, marks_of
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows

LINES_THAT_SHOW = 100
"""Lines that show what form a text file has."""

TABLE = "Give a table that says what is what: .csv, .tsv or .jsonl."
MARKS_TAKEN_OFF = "numbers of lines, or quotes around them, were taken off"
CUT_OPTIONS = "options of another tool were cut off"
OPTIONS = {
    "n", "w", "h", "d", "l", "s", "am", "of", "ct", "g", "t", "nf", "ar", "ss", "fs", "cn", "f", "i",  # sd-scripts
    "prompt", "negative_prompt", "negative-prompt", "steps", "seed", "width", "height", "cfg_scale", "cfg-scale",
    "sampler", "sampler_name", "sampler_index", "scheduler", "sd_model", "outpath_samples", "outpath_grids",
    "prompt_for_display", "styles", "seed_resize_from_h", "seed_resize_from_w", "subseed", "subseed_strength",
    "batch_size", "n_iter", "restore_faces", "tiling", "do_not_save_samples", "do_not_save_grid", "guidance",
    "num_inference_steps", "guidance_scale",  # stable-diffusion-webui, "prompts from file"
    "aspect", "v", "version", "q", "quality", "stylize", "style", "niji", "chaos", "c", "no", "iw", "stop", "tile",
    "uplight", "upbeta", "test", "testp", "creative", "video", "weird", "repeat", "sref", "cref", "cw", "sw", "p",
    "personalize", "raw", "fast", "relax", "turbo", "hd",  # Midjourney
}  # fmt: skip
"""Options of other tools that may stand behind a prompt."""

OPTION = re.compile(r"(?:^|\s)--([a-zA-Z][\w-]*)(?=[\s=]|$)")
VALUE = re.compile(r"""[ =]\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\S+(?:\s+(?!--)\S+)*)""")
LIKE_A_VALUE = re.compile(r"""\s*(?:$|--|=|["']|-?\d)""")
SHORT_OPTIONS = re.compile(r"(?:\s+-(?:[sSnWHCfUvc]\s?-?\d[\d.,:]*|A\s?[a-z]\w+|[gGt]))+$")
"""InvokeAI's: -s50 -W512 -C7.5 -A k_lms"""

MOST_OPTIONS = 300
"""Characters at the end of a line that these are looked for in: the time that it takes grows with their square."""

NEGATIVE = "Negative prompt:"
IS_COMMENT = re.compile(rf"//|;|#+(?:\s|$)|([-=*_~+])\1\1+$|{NEGATIVE}|Steps: \d+, ")
COMMENT_BEHIND = re.compile(r"\s(?:;|#|//)\s")
KEY = re.compile(
    r"""["']?(?:/imagine\s+)?(?:(?:negative[ _-]?)?prompts?|captions?|texts?|seeds?|steps|width|height|cfg[ _]scale"""
    r"""|sampler)["']?\s*[:=]|("|')[^"']*\1\s*:""",
    re.IGNORECASE,
)
"""What stands in front of a text in YAML, in JSON, in code, or in a chat with Midjourney."""

WILDCARD = re.compile(r"\{[^{}|]*\|[^{}]*\}|(?<!\w)__[A-Za-z][\w/*.-]*__(?!\w)")
MACRO = re.compile(r"!\s*\{")  # Wan2GP: ! {Animal}="owl","cat"
ENDS_A_LINE = re.compile("[\0\v\f\r\x1c-\x1e\x85\u2028\u2029]")
"""What ends a line, or a text, for other tools."""
LIST_ITEM = re.compile("[-*+•‣◦▪·–—] ")
PICTURE_NAME = rf"[^\t|]*?{columns.PICTURE_ENDING}"
TOKEN = re.compile(rf"\s*(?:{PICTURE_NAME}\s*[\t|]|[^\s,|:]+?{columns.PICTURE_ENDING},)", re.IGNORECASE)
ONLY_A_NAME = re.compile(rf"(?=\S+$){PICTURE_NAME}", re.IGNORECASE)
PATH = re.compile(r"|.*[/\\].*|.*\.\w{2,4}(?:#\d+)?|https?:.*", re.DOTALL)
"""What stands in a column of pictures."""

IDENTIFIER = re.compile(r"[A-Za-z_][\w .-]{0,30}|")

NumberedLine = tuple[int, str]


class Form(StrEnum):
    """What a text file is."""

    LINES = "one prompt a line"
    SEPARATED = "a table of cells"
    JSON = "JSON"
    JSON_LINES = "JSON, one object a line"


class WrongLineError(Exception):
    """A line that is no prompt; the message goes on from 'file:line'."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class Line(NamedTuple):
    """A prompt and the line that it stands on."""

    line: int
    text: str


def form_of(lines: Iterable[str]) -> Form:
    """The form of a text file, by its first lines; a byte order mark is none of them."""
    first = [text for text in (line.strip() for line in lines) if text]
    if not first:
        return Form.LINES
    alone = len(first) == 1 or first[0].startswith("[{")
    if first[0] in {"[", "{"} or (alone and _is_json(first[0], list)):
        return Form.JSON
    if _is_json(first[0], dict):
        return Form.JSON_LINES
    if _is_table(first) or sum(bool(TOKEN.match(text)) for text in first) > len(first) / 2:
        return Form.SEPARATED
    tabs = {text.count("\t") for text in first}
    return Form.SEPARATED if len(first) > 1 and len(tabs) == 1 and tabs != {0} else Form.LINES


def prompt_lines(
    path: object, begin: Iterable[str], lines: Iterable[NumberedLine], wrong: WrongRows, tally: Tally
) -> Iterator[Line]:
    """The prompts of a text file; what is none is counted, or goes to `wrong`. `begin` are lines that show its form."""
    marks = marks_of([text for text in map(str.strip, begin) if text and not IS_COMMENT.match(text)])
    first, negative = True, False
    for number, text in lines:
        text = text.strip()
        behind_negative, negative = negative, text.startswith(NEGATIVE)
        if not text:
            continue
        if IS_COMMENT.match(text) or (first and text.lower() in columns.TEXT):
            tally.pass_over(PassedOver.COMMENT, f"{path}:{number}")
            continue
        is_head, first = first and bool(_columns(text)), False
        try:
            if is_head:
                raise WrongLineError("names columns, but most lines below are no rows of such a table", TABLE)
            if behind_negative:
                raise WrongLineError(
                    "stands below a negative prompt, and may belong to it", "Put an empty line between them."
                )
            bare = marks.taken_off(text)
            prompt = without_options(_prompt(bare))
        except WrongMarkError as error:
            wrong.add(f"{path}:{number}", str(error), "Take the marks off all lines, or give a table (.csv, .jsonl).")
            continue
        except WrongLineError as error:
            wrong.add(f"{path}:{number}", str(error), error.hint)
            continue
        if bare != text:
            tally.alter(MARKS_TAKEN_OFF, f"{path}:{number}")
        if prompt != bare:
            tally.alter(CUT_OPTIONS, f"{path}:{number}")
        yield Line(number, prompt)


def _prompt(text: str) -> str:
    """The line itself. Raises WrongLineError where it is something else than a prompt."""
    if odd := ENDS_A_LINE.search(text):
        raise WrongLineError(
            f"has a character that ends lines elsewhere ({odd[0]!a})", "Save the file with ordinary line ends."
        )
    if LIST_ITEM.match(text):
        raise WrongLineError("is an item of a list, as in YAML or Markdown", "Take away what is in front of the text.")
    if text.startswith("#"):
        raise WrongLineError(
            "begins with '#', as a comment or a text may",
            "Write '# ' in front of a comment. Put a prompt that begins with '#' into a table (.csv, .jsonl).",
        )
    if columns.is_url(text):
        begins = "is" if len(text.split()) == 1 else "begins with"
        raise WrongLineError(f"{begins} a URL", "'memfix fetch' makes pictures of URLs, for --references.")
    if key := KEY.match(text):
        raise WrongLineError(f"has the name of a column in front ({key[0]})", TABLE)
    if comment := COMMENT_BEHIND.search(text):
        raise WrongLineError(f"has what may be a comment behind it ({comment[0].strip()})", f"Take it out. {TABLE}")
    if wildcard := WILDCARD.search(text):
        hint = "Write out the prompts that it stands for, or put the text as it is into a table (.csv, .jsonl)."
        raise WrongLineError(f"has a wildcard of another tool ({wildcard[0]})", hint)
    if MACRO.match(text):
        raise WrongLineError("is a macro of another tool", "Write out the prompts that it stands for.")
    if ONLY_A_NAME.fullmatch(text) or TOKEN.match(text):
        raise WrongLineError("names a picture, and is no prompt", TABLE)
    if text.endswith(("\\", ":")):
        raise WrongLineError(
            f"ends in '{text[-1]}', as a line that goes on or a heading",
            "Write each prompt on one line, and no headings.",
        )
    if text.startswith("{") and _is_json(text.rstrip(","), dict):
        raise WrongLineError("is a JSON object, and other lines are none", "Give a .jsonl file.")
    return text


def without_options(text: str) -> str:
    """A prompt without the options of another tool behind it. Raises WrongLineError where that is not clear."""
    found = list(OPTION.finditer(text))
    known = [option[1].lower() in OPTIONS for option in found]
    if found and any(known):
        if not all(known):
            odd = next(option[1] for option, is_known in zip(found, known, strict=True) if not is_known)
            raise WrongLineError(f"has an option --{odd} that memfix does not know", "Take the options out.")
        return _before_options(text, found)
    for option in found:
        if LIKE_A_VALUE.match(text, option.end()):
            raise WrongLineError(
                f"has what may be an option of another tool, --{option[1]}",
                "Take it out, or put the prompt into a table (.csv, .jsonl).",
            )
    short = SHORT_OPTIONS.search(text, max(0, len(text) - MOST_OPTIONS))
    if short is None:
        return text
    if len(re.findall(r"\s-[a-zA-Z]", short[0])) == 1:
        raise WrongLineError(
            f"ends in what may be an option of another tool,{short[0]}",
            "Take it out, or put the prompt into a table (.csv, .jsonl).",
        )
    return text[: short.start()].strip()


def holds_options(text: str) -> bool:
    """Whether a text has options of another tool in it."""
    return "--" in text and any(option[1].lower() in OPTIONS for option in OPTION.finditer(text))


def _before_options(text: str, options: Sequence[re.Match[str]]) -> str:
    """The text before the first option, or the value of --prompt."""
    prompt = text[: options[0].start()].strip()
    for option in options:
        if option[1].lower() == "prompt" and (value := VALUE.match(text, option.end())):
            prompt = value[1].strip()
            if len(prompt) > 1 and prompt[0] == prompt[-1] and prompt[0] in "\"'":
                prompt = re.sub(r"\\(.)", r"\1", prompt[1:-1]).strip()
    if not prompt:
        raise WrongLineError("has options of another tool and no prompt", "Write the prompt in front of them.")
    return prompt


def _is_table(lines: Sequence[str]) -> bool:
    """Whether the first line names columns and most lines below it are rows of these."""
    names = _columns(lines[0])
    try:
        rows = list(csv.reader(lines[1:], delimiter=_separator(lines[0]), skipinitialspace=True))
    except csv.Error:
        return False
    fitting = sum(len(row) == len(names) and all(map(_may_hold, names, row)) for row in rows)
    return bool(names) and 2 * fitting > len(rows)


def _separator(first: str) -> str:
    return max("\t;,|", key=first.count)


def _columns(first: str) -> list[str]:
    """The names of columns on the first line of a file: of a text, and of what goes with it. None if it has others."""
    names = [columns.normal(cell.strip().strip('"')) for cell in first.split(_separator(first))]
    if len(names) < 2 or not all(IDENTIFIER.fullmatch(name) for name in names):
        return []
    texts = [name for name in names if name in columns.TEXT or name == columns.COMMENT]
    others = [name for name in names if name not in texts and (columns.known(name) or name in columns.BESIDE_TEXT)]
    return names if texts and others else []


def _may_hold(name: str, cell: str) -> bool:
    """Whether a column of this name may hold a cell: pictures have paths, and numbers no spaces."""
    if name in {*columns.IMAGE, *columns.URL, columns.IMAGE_NAME}:
        return PATH.fullmatch(cell.strip()) is not None
    return name not in columns.NUMBERS or not cell.strip().count(" ")


def _is_json(text: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False
