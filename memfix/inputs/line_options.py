"""Options of other tools behind a prompt, as sd-scripts, web UIs and Midjourney write them: cut off, or told."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memfix.inputs.no_prompts import WrongLineError

OPTIONS = {
    "n", "w", "h", "d", "l", "s", "am", "of", "ct", "g", "t", "nf", "ar", "ss", "fs", "cn", "f", "i",  # sd-scripts
    "prompt", "negative_prompt", "negative-prompt", "neg", "negative", "steps", "seed", "width", "height", "cfg_scale",
    "cfg-scale", "sampler", "sampler_name", "sampler_index", "scheduler", "sd_model", "outpath_samples",
    "outpath_grids",
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
LONG_DASH = re.compile(rf"\s+[—–](?=(?:{'|'.join(sorted(OPTIONS, key=len, reverse=True))})\s+-?\d)", re.IGNORECASE)
"""What phones make of two dashes."""

SHORT_OPTIONS = re.compile(r"(?:\s+-(?:[sSnWHCfUvc]\s?-?\d[\d.,:]*|A\s?[a-z]\w+|[gGt]))+$")
"""InvokeAI's: -s50 -W512 -C7.5 -A k_lms"""

MOST_OPTIONS = 300
"""Characters at the end of a line that these are looked for in: the time that it takes grows with their square."""


def without_options(text: str) -> str:
    """A prompt without the options of another tool behind it. Raises WrongLineError where that is not clear."""
    text = LONG_DASH.sub(" --", text)
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


def may_hold_options(text: str) -> bool:
    """Whether there are words in a text that are written as options are, and that no tool is known for."""
    return OPTION.search(text) is not None


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
