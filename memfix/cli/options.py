"""Command-line options made from the settings classes, and what every command does around its work."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from memfix.cli.short_help import help_all
from memfix.config import STAGE_SETTINGS
from memfix.config.base import Settings
from memfix.config.checks import DetectSettings
from memfix.config.layers import ENV_PREFIX, for_weights, read_config, read_environment, read_preset, resolve
from memfix.console import Talk
from memfix.demo import DEMO
from memfix.errors import ExitCode, MemfixError
from memfix.failures import machine_error

if TYPE_CHECKING:
    from memfix.records import Change

S = TypeVar("S", bound=Settings)

SHORT = {"model": ["-m", "--model", "--pretrained-model-name-or-path"]}
ALSO = {"train_seed": ("--seed", "seed")}
"""Setting → another flag of it, as in training scripts, where no other setting of the command has that name."""

RunArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", help="Run folder, or name of a run under runs/; by default the newest one."),
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", "--output-dir", help="Run folder; by default runs/<list>-<digest>.")
]

COMMON: dict[str, Any] = {
    "config": Annotated[Path | None, typer.Option(help="TOML file of settings, with one table per stage.")],
    "preset": Annotated[
        str | None, typer.Option(help="Settings that come with memfix, by name; see 'memfix list presets'.")
    ],
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")],
    "json_": Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Print errors and warnings only.")],
    "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="Print more details.")],
    "offline": Annotated[bool, typer.Option("--offline", help="Never use the network.")],
    "help_all": Annotated[bool, typer.Option("--help-all", is_eager=True, callback=help_all, help="Show all flags.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
}


@dataclass
class Call:
    """One invocation: the voice, the flags common to all commands, and the settings given on the command line."""

    talk: Talk
    json: bool = False
    dry_run: bool = False
    config: Path | None = None
    preset: str | None = None
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    @property
    def argv(self) -> list[str]:
        """The command line as typed."""
        return sys.argv[1:]

    def settings(self, stage: type[S], model: str | None = None) -> S:
        """Settings of a stage: flags > environment > --config > --preset > what suits the model > defaults."""
        name = _table(stage)
        flags, environment, files = self._own(stage)
        self._tell_environment(environment)
        if self.preset:
            files.append(read_preset(self.preset).get(name, {}))
        model = model or next((layer["model"] for layer in [flags, environment, *files] if layer.get("model")), None)
        if model == DEMO:
            from memfix.demo import SETTINGS

            files.append(read_config(SETTINGS).get(name, {}))
        if "weights" in stage.model_fields:
            weights = next((layer["weights"] for layer in [flags, environment, *files] if layer.get("weights")), "lora")
            files = [for_weights(table, weights) for table in files]
        return resolve(stage, flags, environment, *files)

    def named(self, stage: type[Settings], weights: str) -> frozenset[str]:
        """The settings of a stage that the user gave: by a flag, in the environment or in the file of --config."""
        flags, environment, files = self._own(stage)
        layers = [flags, environment, *(for_weights(table, weights) for table in files)]
        return frozenset(k for layer in layers for k, v in layer.items() if v is not None)

    def tell_model(self, settings: DetectSettings) -> None:
        """Say which model is taken where nobody named one, and how to name another."""
        default = DetectSettings.model_fields["model"].default
        if settings.model == default and "model" not in self.named(DetectSettings, ""):
            self.talk.say(
                f"No model was named, so it is {default}, Stable Diffusion 1.4. Name another with -m MODEL, "
                "MEMFIX_MODEL, or model under [detect] in the file of --config."
            )

    def _tell_environment(self, environment: Mapping[str, str]) -> None:
        """Say once what comes from the environment: nobody sees it on the command line."""
        if new := [name for name in environment if name not in self._told]:
            self._told |= {*new}
            told = ", ".join(f"{ENV_PREFIX}{name.upper()}={environment[name]}" for name in new)
            self.talk.say(f"From the environment: {told}.")

    def _own(self, stage: type[Settings]) -> tuple[dict[str, Any], dict[str, str], list[dict[str, Any]]]:
        """Flags, environment and file."""
        name = _table(stage)
        files = [read_config(self.config).get(name, {})] if self.config else []
        return self.given.get(name, {}), read_environment(stage), files


def _table(stage: type[Settings]) -> str:
    """The name of a stage's table in a settings file."""
    return next(n for n, cls in STAGE_SETTINGS.items() if cls is stage)


def runs_root() -> Path:
    """Where runs go that are given no folder: $MEMFIX_RUNS, else ./runs. Raises MemfixError where that is empty."""
    root = os.environ.get("MEMFIX_RUNS", "runs")
    if not root.strip():
        raise MemfixError("MEMFIX_RUNS is empty.", "Name a folder in it, or unset it.", ExitCode.USAGE)
    return Path(root)


def _plain_type(annotation: Any) -> Any:
    """The type typer should parse: unions with None lose it, tuples are lists, literals are words."""
    if get_origin(annotation) in (Union, types.UnionType):
        words = get_args(annotation)
        annotation = str if str in words else next(a for a in words if a is not type(None))
    if get_origin(annotation) is tuple:
        return types.GenericAlias(list, get_args(annotation)[:1])
    return str if get_origin(annotation) is Literal else annotation


def _bounds(info: Any) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [f"{sign} {getattr(m, word)}" for m in info.metadata for word, sign in signs.items() if hasattr(m, word)]


def _option(stage: str, name: str, info: Any, text: str = "", taken: Container[str] = ()) -> Any:
    plain = _plain_type(info.annotation)
    dashed = f"--{name.replace('_', '-')}"
    names = SHORT.get(name, [f"{dashed}/--no-{dashed[2:]}" if plain is bool else dashed])
    if name in ALSO and ALSO[name][1] not in taken:
        names = [*names, ALSO[name][0]]
    words = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    text = text or str(info.description)
    text += f" One of: {', '.join(words)}." if words else ""
    default = ", ".join(map(str, info.default)) if isinstance(info.default, tuple) else info.default
    notes = [*([] if default in (None, "") else [str(default)]), *_bounds(info)]
    text += f" [{'; '.join(notes)}]" if notes else ""
    return Annotated[
        plain | None,
        typer.Option(
            *names,
            help=text.replace("[", "\\["),
            rich_help_panel=f"Settings of {stage}",
            show_default=False,
            metavar=None if plain is bool else "N" if plain in (int, float) else "NAME",
        ),
    ]


def command(*stages: str, **parts: Mapping[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of the stages it runs, and those common to all.

    Of a stage in `parts` it has only the options named there, each with a help text of its own where one is given.
    The function takes a `Call` first. MemfixError becomes a message and an exit code, Ctrl-C exit code 130.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        options: dict[str, tuple[str, Any]] = {}
        for s in stages:  # of a name that two stages have, the flag is the first one's, which the second one follows
            for n, f in STAGE_SETTINGS[s].model_fields.items():
                options.setdefault(n, (s, _option(s, n, f, taken=options)))
        options |= {
            n: (s, _option(s, n, STAGE_SETTINGS[s].model_fields[n], text))
            for s, part in parts.items()
            for n, text in part.items()
        }
        taken = {p.name for p in own}
        options = {n: o for n, o in options.items() if n not in taken and (n != "weights")}

        @functools.wraps(function)
        def wrapper(**kwargs: Any) -> None:
            common = {n: kwargs.pop(n) for n in COMMON}
            given: dict[str, dict[str, Any]] = {s: {} for s in (*stages, *parts)}
            for name, (stage, _) in options.items():
                given[stage][name] = kwargs.pop(name)
            if common["offline"]:
                os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
            talk = Talk(quiet=common["quiet"], verbose=common["verbose"], data=common["json_"])
            call = Call(talk, common["json_"], common["dry_run"], common["config"], common["preset"], given)
            try:
                if call.config:
                    read_config(call.config)  # a wrong file is an error also where nothing in it applies
                function(call, **kwargs)
            except Exception as error:  # raised again, unless it is one that a user can do something about
                told = error if isinstance(error, MemfixError) else machine_error(error)
                if told is None or common["debug"]:
                    raise
                talk.error(told.message, told.hint)
                raise typer.Exit(int(told.exit_code)) from None
            except KeyboardInterrupt:
                talk.error("Interrupted.", "Run the same command again to continue where it stopped.")
                raise typer.Exit(int(ExitCode.INTERRUPTED)) from None

        empty = inspect.Parameter.empty
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        for name, (_, annotation) in options.items():
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
        for name, annotation in COMMON.items():
            default = None if name in ("config", "preset") else False
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it off the function
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters if p.annotation is not empty}
        del wrapper.__wrapped__
        return wrapper

    return decorate


def fail_if_damaged(changes: Iterable[Change]) -> None:
    """Exit with code 4 if a re-check found pictures damaged: nobody should take such a model for a success."""
    if any(change.outcome.value == "damaged" for change in changes):
        raise typer.Exit(int(ExitCode.DAMAGED))
