"""What a detection reads prompts and training images from, with a count of all that was seen there."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shlex import quote

from memfix.config.checks import DetectSettings
from memfix.console import Talk, counted
from memfix.detect.design import MATCHES
from memfix.errors import ExitCode, MemfixError
from memfix.findings import SourceRecord
from memfix.inputs.prompts import NOT_THERE, is_a_prompt, read_prompts
from memfix.inputs.references import first_picture, first_row_with_picture, index_folder, read_references
from memfix.inputs.tally import PassedOver, Tally, listed
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Reference, Role

MOST_LOOKED_THROUGH = 200_000
"""Pictures of an index whose folder is looked through for newer ones at each detection: a minute on a local disk."""
NOT_LOOKED_THROUGH = "index of a folder too large to be looked through for newer pictures"


class SourceName(StrEnum):
    """What a source is of."""

    PROMPTS = "prompts"
    CONTROLS = "controls"
    REFERENCES = "references"


@dataclass
class Sources:
    """Prompts, controls and references of a detection as they were read; no reference is decoded yet."""

    prompts: list[Prompt]
    references: list[Reference]
    named: dict[SourceName, str]
    """How each source was named."""
    tallies: dict[SourceName, Tally]
    limit: int | None = None
    """How many prompts were read at most, each with its own training images."""

    @classmethod
    def read(cls, prompt_list: str, settings: DetectSettings, wrong: WrongRows) -> Sources:
        """Read all of them. Raises MemfixError where one that was named holds nothing, or all of it is left out,
        and where nothing could be found without training images."""
        of_prompts, of_controls, of_references = Tally(), Tally(), Tally()
        names = settings.captions_from
        prompts = read_prompts(prompt_list, limit=settings.limit, wrong=wrong, tally=of_prompts, captions_from=names)
        limit = settings.limit if len(prompts) == settings.limit else None
        if settings.controls:
            known = {p.text for p in prompts}
            controls = read_prompts(
                settings.controls, Role.CONTROL, wrong=wrong, tally=of_controls, captions_from=names
            )
            own = [p for p in controls if p.text not in known]
            of_controls.use(len(own) - len(controls))
            of_controls.pass_over(PassedOver.LISTED, count=len(controls) - len(own))
            prompts += own
        index = index_folder(settings.references)
        indexed = _counted(index, of_references) if index else ()
        references = read_references(
            settings.references, prompts, wrong, taken=indexed, tally=of_references, captions_from=names
        )
        if not references and not index and (first := _missing(wrong, of_prompts)):
            raise MemfixError(
                f"The prompts name training images, and none of them is there: {first}.",
                "Without any, samples could only be compared with each other: correct the paths, or give --references.",
            )
        if not references and not index:
            _require_no_pictures(prompt_list, of_prompts)
            if limit:
                _require_no_later_pictures(prompt_list, limit)
            _require_comparable(settings)
        named = prompt_list, settings.controls or "", settings.references or ""
        tallies = of_prompts, of_controls, of_references
        return cls(
            prompts, references, dict(zip(SourceName, named, strict=True)), dict(zip(SourceName, tallies, strict=True)),
            limit,
        )  # fmt: skip

    def count_broken(self, count: int) -> None:
        """Take note that so many of the references cannot be decoded."""
        self.tallies[SourceName.REFERENCES].use(-count)
        self.tallies[SourceName.REFERENCES].pass_over(PassedOver.BROKEN, count=count)

    def count_frames(self, wrong: WrongRows) -> str:
        """Take note of further frames of references, most of which are references of their own: what to warn of."""
        tally = self.tallies[SourceName.REFERENCES]
        tally.use(wrong.own_frames)
        tally.pass_over(PassedOver.AGAIN, count=wrong.same_frames)
        tally.pass_over(PassedOver.FRAMES, wrong.first_frames, wrong.frames)
        return tally.warning(PassedOver.FRAMES) if wrong.frames else ""

    def records(self) -> dict[str, SourceRecord]:
        """What a run writes down of each source that there is."""
        found = {name.value: tally.record(self.named[name]) for name, tally in self.tallies.items()}
        return {name: record for name, record in found.items() if record.seen}

    def tell(self, talk: Talk) -> None:
        """A line for each source, and a warning for what may be missing from it."""
        for source in filter(is_a_prompt, self.named.values()):
            talk.say(f"Nothing is there under the name '{source}', so it is taken for a prompt.")
        for name, record in self.records().items():
            talk.say(in_words(name, record))
        for tally in self.tallies.values():
            for line in tally.warnings():
                talk.warn(line)
        self._tell_of_training_images(talk)

    def _tell_of_training_images(self, talk: Talk) -> None:
        """Warn where prompts bring their own training images, and others in their source are not compared with."""
        source, uncaptioned = self.named[SourceName.PROMPTS], PassedOver.UNCAPTIONED
        if self.named[SourceName.REFERENCES] or not self.references:
            return
        give = f"Give --references {source} to compare with all of them."
        if count := self.tallies[SourceName.PROMPTS].passed_over[uncaptioned]:
            talk.warn(f"{counted(count, 'picture')} without a caption in {source} cannot be found in samples. {give}")
        if self.limit:
            talk.warn(f"With --limit {self.limit} only training images of these prompts are compared with. {give}")


def _counted(index: Path, tally: Tally) -> Container[str]:
    """The names of the pictures in an index, which are counted; so is what is in its folder by now and not in it."""
    from memfix.index.build import newer
    from memfix.index.store import Store  # it takes torch along, which a --dry-run can do without

    store = Store.open(index)
    tally.use(len(store))
    for row in store.all_rows():
        if row.reason:
            tally.pass_over(PassedOver.UNINDEXED, f"{row.file_name}, which {row.reason}")
        tally.pass_over(PassedOver.AGAIN, row.file_name, row.same_frames)
        tally.pass_over(PassedOver.FRAMES, row.file_name, row.unused_frames)
    source = Path(store.manifest.source)
    update = f"memfix index {quote(str(source))} --out {quote(str(index))}"
    if len(store) > MOST_LOOKED_THROUGH:
        tally.alter(NOT_LOOKED_THROUGH, f"{source} (bring the index up to date by {update})")
    elif source.exists():
        count, first = newer(store, source)
        tally.pass_over(PassedOver.NEWER, f"{first} (bring the index up to date by {update})", count)
    return store


def _require_no_pictures(prompt_list: str, tally: Tally) -> None:
    """Refuse a source of prompts that holds pictures where none of them is the training image of a prompt."""
    first = "" if is_a_prompt(prompt_list) else first_picture(prompt_list)
    if first or tally.passed_over[PassedOver.UNCAPTIONED]:
        raise MemfixError(
            f"{prompt_list} holds pictures, and none of them goes with a prompt, "
            f"{first or tally.first[PassedOver.UNCAPTIONED]} among them.",
            f"Give --references {prompt_list} to compare with them, or a list of the texts alone.",
        )


def _require_no_later_pictures(prompt_list: str, limit: int) -> None:
    """Refuse a table of prompts whose training images all belong to rows that the limit leaves out."""
    first = "" if is_a_prompt(prompt_list) else first_row_with_picture(prompt_list)
    if first:
        raise MemfixError(
            f"{prompt_list} holds pictures, and none of them in the rows that --limit {limit} takes: the first is in "
            f"{first}.",
            f"Give --references {prompt_list} to compare with all of them, or a higher --limit.",
        )


def _require_comparable(settings: DetectSettings) -> None:
    """Refuse what makes no sense where samples can only be compared with each other: no copy could be found."""
    if settings.false_alarm_rate is not None or settings.first_look is not None:
        raise MemfixError(
            "--false-alarm-rate and --first-look need training images to compare with.",
            "Give --references, or leave them out.",
            ExitCode.USAGE,
        )
    if settings.num_samples <= MATCHES:
        raise MemfixError(
            f"No training image was given, and {counted(settings.num_samples, 'sample')} of a prompt cannot show that "
            f"the model draws the same again and again: a copy is what {MATCHES} other samples are alike to.",
            f"Give --references, or --num-samples of {MATCHES + 1} at least; 16 tell more.",
            ExitCode.USAGE,
        )


def _missing(wrong: WrongRows, tally: Tally) -> str:
    """The first training image that prompts name and that is not there; nothing if there is none."""
    return tally.first.get(NOT_THERE) or next(iter(wrong.first_pictures), "")


def in_words(name: str, record: SourceRecord) -> str:
    """A source in a sentence."""
    over = f"; passed over: {listed(record.passed_over)}" if record.passed_over else ""
    where = f" of {record.source}" if record.source else ""
    return f"{name.capitalize()}{where}: {record.seen:,} seen, {record.used:,} used{over}."
