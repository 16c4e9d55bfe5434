"""Contact sheets to look at: a row a prompt, the planted picture as drawn, then samples; copies have a red frame."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from plants.truth import GroundTruth

MOST, GAP, WORDS = 16, 3, 240
RED = (220, 0, 0)


def sheet(truth: GroundTruth, samples: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """samples: prompt → pictures, of which the first ones are shown."""
    height, width = (int(truth.facts[side]) for side in ("height", "width"))
    w, h = width + 2 * GAP, height + 2 * GAP
    page = Image.new("RGB", (WORDS + (MOST + 1) * w, max(1, len(samples)) * h), "white")
    draw = ImageDraw.Draw(page)
    for row, (text, images) in enumerate(samples.items()):
        draw.text((4, row * h + h / 2), text[:42], "black", anchor="lm")
        planted, shown = truth.planted_under(text), list(images[:MOST])
        if planted:
            page.paste(truth.drawn[planted[0]], (WORDS + GAP, row * h + GAP))
        for i, (image, copied) in enumerate(zip(shown, truth.copied(shown), strict=True)):
            x, y = WORDS + (i + 1) * w, row * h
            if copied:
                draw.rectangle((x, y, x + w - 1, y + h - 1), fill=RED)
            page.paste(image, (x + GAP, y + GAP))
    return page
