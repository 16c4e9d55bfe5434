"""Put together what memfix ships: model, references with ground truth, prompt lists, attribution."""

import json
import shutil
import sys
from pathlib import Path
from random import Random

from transformers import CLIPTokenizer

from drawings import NAMES, SOURCES
from posters import PARTIAL, PLANTS, TEMPLATES, VARIANTS, VERBATIM, Poster, Studio

ROOT = Path(__file__).parent.parent
DEMO, PROMPTS = ROOT / "memfix" / "demo", ROOT / "prompts"
ORDINARY = 220  # distractors among the references


def references(build: Path, studio: Studio) -> None:
    """`memfix/demo/references`: planted posters, near-misses of each, and ordinary training posters."""
    target = DEMO / "references"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    planted = json.loads((build / "plants.json").read_text())
    rows = []

    def add(name: str, poster: Poster, **facts: object) -> None:
        studio.render(poster).save(target / name, optimize=True)
        rows.append({"file_name": name, "text": poster.text, **facts})

    for plant in PLANTS:
        stem = plant.text.lower().replace(" ", "-")
        for v in range(VARIANTS if plant.kind == "template" else 1):
            name = f"{stem}-{v:02d}.png" if plant.kind == "template" else f"{stem}.png"
            share = round(planted["share"][plant.text], 4)
            add(name, studio.planted_poster(plant, v), kind=plant.kind, duplicates=planted["duplicates"][plant.text],
                caption_share=share)  # fmt: skip
    # the first posters of the training set itself: the same generator, the same seed
    rng = Random(0)
    for i in range(ORDINARY):
        add(f"poster-{i:03d}.png", studio.ordinary_poster(rng), kind="ordinary", duplicates=1)
    (target / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def prompt_lists(studio: Studio) -> None:
    """`prompts/demo.txt`: planted captions among ordinary ones; `prompts/controls.txt`: others.

    A control must not be memorized itself. "a cake" gives the poster of "cake poster by Wanda Sorel" about once in a
    thousand samples, so no control names an object of a partly memorized caption, and none begins a planted one.
    """
    rng = Random("prompts")
    words = studio.objects[:]
    rng.shuffle(words)
    leaking = {p.object for p in PARTIAL}
    ordinary, controls = words[:10], [w for w in words[10:] if w not in leaking][:24]
    lines = [p.text for p in PLANTS] + [studio.caption(rng, w, rng.choice(["red", "teal", "navy"])) for w in ordinary]
    rng.shuffle(lines)
    PROMPTS.mkdir(exist_ok=True)
    (PROMPTS / "demo.txt").write_text("\n".join(lines) + "\n")
    captions: list[str] = []
    while len(captions) < len(controls):
        caption = studio.caption(rng, controls[len(captions)], rng.choice(["blue", "green", "cream"]))
        if not any(p.text.startswith(caption) for p in PLANTS):
            captions.append(caption)
    (PROMPTS / "controls.txt").write_text("\n".join(captions) + "\n")


def notice() -> None:
    lines = [
        "The bundled model was trained on posters composed from these emoji drawings, and the folder references/",
        "holds such posters. The drawings were resized, rotated, mirrored and placed on coloured backgrounds.",
        "",
        *(
            f"{name}: npm package {package} {version}, {licence}"
            for name, (package, version, licence) in SOURCES.items()
        ),
        f"Unicode names: npm package {NAMES[0]} {NAMES[1]}, {NAMES[2]}",
        "",
        "Fluent Emoji: Copyright (c) Microsoft Corporation, MIT License (https://github.com/microsoft/fluentui-emoji).",
        "Noto Emoji: Copyright Google Inc., Apache License 2.0 (https://github.com/googlefonts/noto-emoji).",
        "FxEmojis: Copyright Mozilla Foundation, Apache License 2.0 (https://github.com/mozilla/fxemoji).",
        "Twemoji: Copyright Twitter, Inc. and other contributors, graphics licensed under CC BY 4.0",
        "(https://creativecommons.org/licenses/by/4.0/, https://github.com/jdecked/twemoji).",
        "Emoji One (version 2): Copyright Emoji One, artwork licensed under CC BY 4.0",
        "(https://creativecommons.org/licenses/by/4.0/, https://github.com/EmojiTwo/emojitwo).",
        "",
        "The names of artists in prompts and captions are invented.",
        "The model's weights, the posters' composition and the lists are under memfix's own licence, Apache-2.0.",
    ]
    (DEMO / "NOTICE").write_text("\n".join(lines) + "\n")


def model(build: Path) -> None:
    shutil.rmtree(DEMO / "model", ignore_errors=True)
    shutil.copytree(build / "model", DEMO / "model")
    for path in (DEMO / "model").glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # where it lay while it was trained
        path.write_text(json.dumps(config, indent=2) + "\n")
    folder = DEMO / "model" / "tokenizer"
    bpe = json.loads(CLIPTokenizer.from_pretrained(folder).backend_tokenizer.to_str())["model"]
    # transformers before version 5 reads these two instead of tokenizer.json
    (folder / "vocab.json").write_text(json.dumps(bpe["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in bpe["merges"]))


if __name__ == "__main__":
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    studio = Studio(build / "drawings")
    model(build)
    references(build, studio)
    prompt_lists(studio)
    notice()
    files = [f for folder in (DEMO, PROMPTS) for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    print(f"{len(VERBATIM)} verbatim, {len(PARTIAL)} partly memorized, {len(TEMPLATES)} templates")
    print(f"{sum(f.stat().st_size for f in files) / 1e6:.2f} MB in {len(files)} files")
