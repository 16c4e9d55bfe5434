"""Lines that are no prompts: comments, markup, code, logs, names of pictures. And those that may be none."""

from __future__ import annotations

import re
from typing import NamedTuple

from memfix.inputs import columns
from memfix.inputs.contents import POINTER

TABLE = "Give a table that says what is what: .csv, .tsv or .jsonl."
PULL = "Fetch the file: git lfs pull."
TAKE_OUT = "Take it out, or put a prompt that begins so into a table (.csv, .jsonl)."
NEGATIVE = "Negative prompt:"
IS_COMMENT = re.compile(
    rf"//|;|#+(?:\s|$)|([-=*_~+`])\1\1+(?:te?xt)?$|{NEGATIVE}|Steps: \d+, |<!--.*-->$|/\*.*\*/$|@?REM\s+=*$"
)
NO_VALUES = {"nan", "none", "null", "nil", "n/a", "#n/a", "<na>", "undefined"}
"""How programs write a cell that says nothing."""

ENDS_A_LINE = re.compile("[\0\v\f\r\x1c-\x1e\x85\u2028\u2029]")
"""What ends a line, or a text, for other tools."""

PICTURE_NAME = rf"[^\t|]*?{columns.PICTURE_ENDING}"
TOKEN = re.compile(rf"\s*(?:{PICTURE_NAME}\s*[\t|]|[^\s,|:]+?{columns.PICTURE_ENDING},)", re.IGNORECASE)
PICTURE_BESIDE = re.compile(
    rf"\S+?{columns.PICTURE_ENDING}\s*(?:[:=;,]\s*\S|->)|.*(?:[,;|=]|->)\s*[^\s,;|=>]+?{columns.PICTURE_ENDING}$",
    re.IGNORECASE,
)
"""A text with the name of its picture in front or behind, and a mark between them."""
ONLY_A_NAME = re.compile(rf"(?=\S+$){PICTURE_NAME}", re.IGNORECASE)
KEY = re.compile(
    r"""["']?(?:/imagine\s+)?(?:(?:(?:negative|positive)[ _-]?)?prompts?|negative|positive|neg|pos|captions?|texts?"""
    r"""|seeds?|steps|width|height|cfg[ _]scale|sampler)["']?\s*[:=]|("|')[^"']*\1\s*:""",
    re.IGNORECASE,
)
"""What stands in front of a text in YAML, in JSON, in code, or in a chat with Midjourney."""

ASSIGNED = re.compile(r"(?:prompts?|captions?|texts?|p)_?(?:\d+|\[\d+\])\s*[:=]", re.IGNORECASE)
HTML = (
    "html|meta|link|script|img|main|article|nav|form|button|p|br|hr|li|ul|ol|dl|dt|dd|div|span|td|tr|th|table|h[1-6]"
    "|pre|code|blockquote|body|head|item|row|prompts?|caption"
)
MARKUP = re.compile(rf"<!--|<!doctype\b|-->|</(?!(?:b|i|u|em|strong)>)[A-Za-z]|<(?:{HTML})\b[^<>]*>", re.IGNORECASE)
WILDCARD = re.compile(
    r"\{[^{}|]*\|[^{}]*\}|(?<!\w)__[A-Za-z][\w/*.-]*__(?!\w)|\$\{\w+\}|\{\{\s*(?:prompt|text|caption)s?\s*\}\}"
    r"|^(?:%s|%\(\w+\)s|\$\w+|\{\{[^{}]*\}\}|\{\w*\})$(?<!\{prompt\})"
)
WEB_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|www\.|file:|data:[\w.+-]+/[\w.+-]+[;,])\S*$|(?:[\w-]+\.)+[a-z]{2,}/\S*$", re.IGNORECASE
)
A_PATH = re.compile(r"(?:/|~/|\.{1,2}/|[A-Za-z]:[\\/]|\\\\)\S+$")
SAID_BY_SERVERS = re.compile(
    r"(?:[45]\d\d: [A-Za-z ]+|(?:[45]\d\d )?(?:(?:entry |repository |page |file )?not found|forbidden|unauthorized"
    r"|access denied|bad (?:request|gateway|credentials)|internal server error|service unavailable|gateway timeout"
    r"|too many requests|invalid username or password))\.?$",
    re.IGNORECASE,
)
CONFLICT = re.compile(r"(?:<{7}|>{7}|\|{7})(?:\s|$)")
"""What git writes around the two sides of a merge."""

SUBTITLE = re.compile(r"(?:\d+:)?\d\d:\d\d[,.]\d{3}\s*-->|WEBVTT(?:\s|$)")
IN_PYTHON = re.compile(r"""[bruf]{1,2}(["']).*\1,?$""", re.IGNORECASE)
LOG = re.compile(
    r"\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)(?:\]|:\s|\s+-\s)|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d"
    r"|\[\d\d:\d\d(?::\d\d)?\]"
)


class Refusal(NamedTuple):
    """A form of line that is no prompt, how it is told, and what to do."""

    begins: re.Pattern[str]
    problem: str
    hint: str


REFUSALS = (
    Refusal(CONFLICT, "is a mark of a merge conflict", "Settle the conflict: both of its sides are here."),
    Refusal(re.compile(POINTER.decode()), "belongs to a pointer of Git LFS, which stands for a file", PULL),
    Refusal(SAID_BY_SERVERS, "is what a server says in place of a file", "Fetch the file again."),
    Refusal(SUBTITLE, "belongs to subtitles", "Give the texts alone."),
    Refusal(PICTURE_BESIDE, "names a picture beside its text", TABLE),
    Refusal(WEB_ADDRESS, "is a URL", "'memfix fetch' makes pictures of URLs, for --references."),
    Refusal(A_PATH, "is a path, and no prompt", TABLE),
    Refusal(IN_PYTHON, "is a text of Python", "Give the text alone."),
    Refusal(re.compile(r"([-=*_~+])\1+\s.*\s\1\1+$"), "is a heading", TAKE_OUT),
    Refusal(
        re.compile(r"[-*+•‣◦▪·–—] |\[[ xX]?\] |> |[a-z]\) "),
        "is an item of a list, as in YAML or Markdown", "Take away what is in front of the text.",
    ),
    Refusal(
        re.compile(r"--(?:\s|$)|%+(?:\s|$)|/\*|\*/|\(\*|@echo\b|'\s|\{[#%]|\[//\]:|\"{3}|'{3}|<!--|`{3}"),
        "is a comment, or a mark of code", TAKE_OUT,
    ),
    Refusal(
        re.compile("#"), "begins with '#', as a comment or a text may",
        "Write '# ' in front of a comment. Put a prompt that begins with '#' into a table (.csv, .jsonl).",
    ),
    Refusal(ASSIGNED, "has the name of a variable in front", TABLE),
    Refusal(re.compile(r"\[(?:prompts?|captions?|positive|negative|default|general|[\w.-]+\d)\]$", re.IGNORECASE),
        "is the name of a section, as in an .ini file", TABLE),
    Refusal(re.compile(r"\|.*\|$"), "is a row of a table in Markdown", TABLE),
    Refusal(LOG, "is a line of a log", "Take away what is in front of the text."),
    Refusal(re.compile(r"!\s*\{"), "is a macro of another tool", "Write out the prompts that it stands for."),
    Refusal(
        re.compile(r"""(?:"[^"]*"\s*[,;\t]\s*)+(?:-?\d[\d.]*|"[^"]*")$"""),
        "is a row of cells, without their names", TABLE,
    ),
)  # fmt: skip

COMMENT_BEHIND = re.compile(r"\s(?:;|#+|//|<!--|/\*)\s")
MAY_BE_NONE = re.compile(
    r"REM\s|\d+ (?:an?|the) |(?:title|description|author|date|model|tags?|style|note|name|type|category)\s*:\s"
    r"|[A-Za-z_]\w*\s=\s|\d+\s*[,;|]\s*(?!\d{3}\b)\S|.*[;|]\s*-?\d[\d.]*$|\[[^\[\]]*\]$|.*(?:\{\w*\}|\{\{|%s\b)(?<!\{prompt\})",
    re.IGNORECASE,
)
"""What honest prompts are, too: a comment of batch files, a number in front, a cell behind, a key of YAML, a variable,
a name in brackets, or with a place for a text in it."""


class WrongLineError(Exception):
    """A line that is no prompt; the message goes on from 'file:line'."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def as_prompt(text: str) -> str:
    """The line itself. Raises WrongLineError where it is something else than a prompt."""
    if odd := ENDS_A_LINE.search(text):
        raise WrongLineError(
            f"has a character that ends lines elsewhere ({odd[0]!a})", "Save the file with ordinary line ends."
        )
    if text.lower() in NO_VALUES:
        raise WrongLineError(f"says nothing ({text})", "Leave the line out, or write a prompt of several words.")
    for refusal in REFUSALS:
        if refusal.begins.match(text):
            raise WrongLineError(refusal.problem, refusal.hint)
    if columns.is_url(text):
        begins = "is" if len(text.split()) == 1 else "begins with"
        raise WrongLineError(f"{begins} a URL", "'memfix fetch' makes pictures of URLs, for --references.")
    if key := KEY.match(text):
        raise WrongLineError(f"has the name of a column in front ({key[0]})", TABLE)
    if comment := COMMENT_BEHIND.search(text):
        raise WrongLineError(f"has what may be a comment behind it ({comment[0].strip()})", f"Take it out. {TABLE}")
    if markup := MARKUP.match(text):
        raise WrongLineError(f"begins with markup ({markup[0]})", "Give the text alone.")
    if wildcard := WILDCARD.search(text):
        hint = "Write out the prompts that it stands for, or put the text as it is into a table (.csv, .jsonl)."
        raise WrongLineError(f"has a wildcard of another tool ({wildcard[0]})", hint)
    if ONLY_A_NAME.fullmatch(text) or TOKEN.match(text):
        raise WrongLineError("names a picture, and is no prompt", TABLE)
    if text.endswith(("\\", ":")):
        raise WrongLineError(
            f"ends in '{text[-1]}', as a line that goes on or a heading",
            "Write each prompt on one line, and no headings.",
        )
    if columns.written(text.rstrip(",")) is not None or _is_tuple(text.rstrip(",")):
        raise WrongLineError("is a list or a JSON object, or one of Python", "Give a .json or .jsonl file.")
    return text


def _is_tuple(text: str) -> bool:
    """Whether a text is in brackets as one of Python, alone or with others; (masterpiece) is none."""
    return text[:1] == "(" and text[-1:] == ")" and columns.written(f"[{text[1:-1]}]") is not None


def may_be_none(text: str) -> bool:
    """Whether a line that is taken as a prompt may as well be something else."""
    return MAY_BE_NONE.match(text) is not None or MARKUP.search(text) is not None
