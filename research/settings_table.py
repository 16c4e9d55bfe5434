"""Write docs/settings.md from the settings classes: python research/settings_table.py"""

import json
from pathlib import Path
from typing import Any

from memfix.config import STAGE_SETTINGS

INTRO = """# Settings

Every setting is a flag (`--num-samples 32`), an environment variable (`MEMFIX_NUM_SAMPLES=32`) and a key of a TOML file
given as `--config FILE`, with one table for each stage of a run and for each of `screen`, `fetch` and `index`:

```toml
[detect]
model = "stable-diffusion-v1-5/stable-diffusion-v1-5"
revision = "0123abcd…"
controls = "controls.txt"
num_samples = 16

[unlearn]
max_train_steps = 200

[recheck]
num_fresh = 32

[screen]
screen = ["fine_detail", "magnitude"]

[fetch]
per_second = 2
allow_port = [8081]
```

`memfix screen` takes the model, seed, guidance and similar settings from `[detect]`. In a variable, several values are
separated by commas (`MEMFIX_ALLOW_PORT=8081,8082`). A variable applies to every table that has a setting of its name:
`MEMFIX_BATCH_SIZE` sets that of `[detect]` and of `[index]`. `--out`, `--retry` and `--merge` are only
flags. `--process-index` and `--num-processes` of `memfix index` are flags, or the variables RANK and WORLD_SIZE that
accelerate and torchrun set. Commands without settings still check the file that is given to `--config`.

Tables `[unlearn.lora]` and `[unlearn.full]` override `[unlearn]` when LoRA or full weights are trained.

A flag has priority over the environment, the environment over the file, the file over `--preset NAME` (`memfix list
presets`; the files are in `memfix/presets/`), the preset over the settings for the bundled model
(`memfix/demo/settings.toml`), and these over the defaults. `--dry-run` shows the settings in use and does nothing. A
run keeps the settings of each stage in its `run.json` and refuses to continue with other ones. [Commands](commands.md)
lists all flags.

This page is written by `python research/settings_table.py`.
"""


def plain(value: Any) -> str:
    """A default as it is written in TOML, or nothing."""
    if isinstance(value, tuple):
        value = json.dumps(value) if value else None
    return "" if value is None else f"`{value}`"


def page() -> str:
    """The whole of settings.md."""
    parts = [INTRO]
    for stage, settings in STAGE_SETTINGS.items():
        parts.append(f"\n## `[{stage}]`\n\n{settings.__doc__}\n\n| setting | default | meaning |\n|---|---|---|\n")
        for name, field in settings.model_fields.items():
            meaning = str(field.description).replace("|", "/").replace("<", "&lt;")
            parts.append(f"| `{name}` | {plain(field.default)} | {meaning} |\n")
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent.parent / "docs" / "settings.md").write_text(page())
