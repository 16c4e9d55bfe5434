"""What the short help of a command shows: the flags that people need, and examples. `--help-all` shows every flag."""

SHORT_LIST = {
    "detect": (
        "out", "fail", "model", "adapter", "references", "controls", "num_samples", "limit", "batch_size", "measure",
        "config", "dry_run",
    ),
    "unlearn": (
        "lora", "full", "overwrite", "method", "learning_rate", "max_train_steps", "adversarial_steps",
        "gradient_checkpointing", "use_8bit_adam", "checkpointing_steps", "config", "dry_run",
    ),
    "recheck": (
        "lora", "model", "overwrite", "fail", "num_fresh", "attacks", "paraphrases", "config", "dry_run",
    ),
    "run": (
        "out", "full", "fail", "model", "references", "controls", "num_samples", "limit", "batch_size", "attacks",
        "config", "dry_run",
    ),
    "demo": ("out", "full", "limit", "num_samples", "attacks", "dry_run"),
}  # fmt: skip
"""Command → parameters that its short help shows. Of a command that is not here, it shows all but SELDOM."""

SELDOM = ("preset", "verbose", "debug")
"""Flags of every command that few need."""

EXAMPLES = {
    "detect": (
        "memfix detect prompts.txt -m MODEL --references train/ --controls controls.txt",
        'memfix detect "a photo of a red fox" -m model.safetensors',
        "memfix detect train/ -m MODEL",
        "memfix detect prompts.csv -m MODEL --references train/ --fail-on memorized,undecided",
    ),
    "unlearn": (
        "memfix unlearn --lora",
        "memfix unlearn runs/mine --full --use-8bit-adam",
        "memfix unlearn --dry-run",
    ),
    "recheck": (
        "memfix recheck",
        "memfix recheck --attacks all --fail-on persistent,hidden,damaged,undecided",
        "memfix recheck runs/mine --lora other-adapter/",
    ),
    "attack": ("memfix attack --attacks embedding-long", "memfix attack runs/mine --lora other-adapter/"),
    "merge": ("memfix merge runs/a/model runs/b/model -m MODEL -o both/",),
    "export": ("memfix export --format kohya -o erased.safetensors", "memfix export runs/mine -o erased/"),
    "report": ("memfix report --open", "memfix report runs/mine -o report/ --fail-on memorized"),
    "review": ("memfix review", "memfix review --no-copy before/p1-3.png --by Ada"),
    "run": ("memfix run prompts.txt -m MODEL --references train/ --controls controls.txt",),
    "demo": ("memfix demo", "memfix demo --limit 3"),
    "index": ("memfix index train/ --descriptor sscd", "memfix index train/ -o train.index --approximate pq"),
    "fetch": ("memfix fetch nemo-memorized.csv", "memfix fetch urls.txt -o references/ --threads 4"),
    "doctor": ("memfix doctor", "memfix doctor runs/mine"),
    "list": ("memfix list methods", "memfix list runs --json"),
    "schema": ("memfix schema", "memfix schema --run"),
    "screen": ("memfix screen captions.parquet -m MODEL --top 50",),
}
"""Command → what people type."""


def is_usual(command: str, parameter: str) -> bool:
    """Whether the short help of a command shows a parameter."""
    if command not in SHORT_LIST:
        return parameter not in SELDOM
    return parameter in SHORT_LIST[command] or parameter == "help_all"
