"""What a command prints at its end: a summary table, or JSON on stdout, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memfix.cli.options import Call
from memfix.console import are, count_of, counted, duration, emit, near_percent, percent
from memfix.records import Change, Label, Outcome, Prompt, Rewording, Role, Step, Verdict
from memfix.run.outputs import CHANGES

if TYPE_CHECKING:
    from memfix.config.base import Settings
    from memfix.config.checks import DetectSettings, RecheckSettings
    from memfix.config.unlearn import UnlearnSettings
    from memfix.flow.attacks import Attacks
    from memfix.report.sections import BroughtBack
    from memfix.run.folder import Run


def settings(call: Call, stages: dict[str, Settings], **more: Any) -> None:
    """`--dry-run`: resolved settings, and what else is known beforehand."""
    data = {**more, "settings": {name: s.model_dump(mode="json") for name, s in stages.items()}}
    if call.json:
        emit(data)
        return
    for key, value in more.items():
        call.talk.tell(f"{key}: {value}")
    for name, values in data["settings"].items():
        call.talk.table(f"[{name}]", ["setting", "value"], [[k, str(v)] for k, v in values.items()])


def unlearning_plan(call: Call, unlearning: UnlearnSettings, todo: dict[str, Any]) -> None:
    """`--dry-run` of an unlearning: what there is to do, and what it takes."""
    if not call.json:
        rows = [[key.replace("_", " "), _readable(key, value)] for key, value in todo.items()]
        call.talk.table("Unlearning", ["what", "how much"], rows)
        call.talk.say(
            "Memory is counted, without what kernels take for themselves. Times assume the detection's speed, without "
            "validation and rewording.",
            "quiet",
        )
    settings(call, {"unlearn": unlearning}, **(todo if call.json else {}))


def _readable(key: str, value: int | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "not known"
    return f"{value / 2**30:.2f} GiB" if "bytes" in key else f"{value:,}"


def detection_plan(
    call: Call, prompt_list: str, detecting: DetectSettings, later: dict[str, Settings] | None = None
) -> None:
    """`--dry-run` of a detection: rows read and images to come."""
    from memfix.detect.sources import SourceName, Sources
    from memfix.inputs.references import index_folder
    from memfix.inputs.wrong_rows import WrongRows

    wrong = WrongRows(detecting.skip_invalid)
    read = Sources.read(prompt_list, detecting, wrong)
    for line in wrong.told():
        call.talk.warn(line)
    read.tell(call.talk)
    index, controls = index_folder(detecting.references), sum(p.role is Role.CONTROL for p in read.prompts)
    if detecting.threshold is not None:  # checking it loads torch
        from memfix.detect.threshold import given_threshold
        from memfix.flow.detection import wanted

        given_threshold(detecting, wanted(detecting, index))
    from memfix.flow.outlook import outlook

    sources = {name: record.model_dump() for name, record in read.records().items()}
    images = len(read.prompts) * detecting.num_samples
    found = outlook(detecting, images)
    if not call.json:
        _tell_of_outlook(call, found, bool(later))
    settings(
        call, {"detect": detecting, **(later or {})}, prompts=len(read.prompts) - controls, controls=controls,
        references=read.tallies[SourceName.REFERENCES].used, wrong_rows=wrong.count, left_out_pictures=wrong.pictures,
        images=images,
        unet_evaluations=2 * images * detecting.num_inference_steps,
        **({"sources": sources, **found} if call.json else {}),
    )  # fmt: skip


def _tell_of_outlook(call: Call, found: dict[str, Any], chain: bool) -> None:
    """The model, and how long its sampling takes."""
    if not found["model_here"]:
        call.talk.tell(f"Model {found['model']} is not on this machine yet. It is downloaded first, unless offline.")
        call.talk.tell("How long sampling takes is not known before that.")
        return
    about = f"{found['loaded_by']}, {found['weights'] / 1e6:,.0f} million weights"
    call.talk.tell(f"Model {found['model']}: {about}, pictures of {found['picture_size']}, on {found['device']}.")
    seconds = found["seconds_of_sampling"]
    call.talk.tell(f"Sampling takes about {duration(seconds)}, by two short batches; comparing comes on top.")
    call.talk.tell(_memory(found))
    if chain:
        call.talk.tell("The re-check samples at least twice as many; unlearning depends on what is found.")


def recheck_plan(call: Call, rechecking: RecheckSettings, found: dict[str, Any]) -> None:
    """`--dry-run` of a re-check: settings, and how much memory it takes."""
    if not call.json:
        call.talk.tell(_memory(found))
        if "attack_memory_bytes" in found:
            call.talk.tell(_memory(found, "attack_", "item", "Memory of attacks that search embeddings"))
    settings(call, {"recheck": rechecking}, **(found if call.json else {}))


def _memory(found: dict[str, Any], which: str = "", thing: str = "image", title: str = "Memory of sampling") -> str:
    """How much memory a sampling takes, counted, and how that fits; `which`: what keys begin with."""
    whole, own = (found[f"{which}memory_bytes{of}"] / 2**30 for of in ("", "_without_activations"))
    items = counted(found[f"{which}items_at_once"], thing)
    told = f"{title}: {whole:.2f} GiB for {items} at once, {own:.2f} of it weights (counted)."
    if f"{which}fits" not in found:
        return told
    card = found[f"{which}memory_bytes_of_the_gpu"] / 2**30
    return f"{told} The GPU has {card:.0f} GiB: {found[f'{which}fits']}."


def verdicts(call: Call, run: Run, last: bool = True) -> None:
    """Verdicts of the first check."""
    prompts = {p.id: p for p in run.read("prompts.jsonl", Prompt)}
    found = run.read("before/verdicts.jsonl", Verdict)
    own = [v for v in found if prompts[v.prompt_id].role is Role.PROMPT]
    controls = [v for v in found if prompts[v.prompt_id].role is Role.CONTROL]
    counts = {label.value: sum(v.verdict is label for v in own) for label in Label}
    rows = [[prompts[v.prompt_id].text, *_row(v)] for v in own if v.verdict is not Label.CLEAN or len(own) <= 40]
    share = f"share ({percent(own[0].confidence)})"
    columns = ["prompt", "copies", share, own[0].measure, "reference", "verdict"]
    call.talk.table("Verdicts", columns, rows, text=(0, 4), cut=True)
    call.talk.tell(f"\n{count_of(_tally(own), len(own), 'prompt')}", "title")
    if controls:
        call.talk.tell(f"Controls: {_tally(controls)} of {len(controls)}")
    _tell_of_disputes(call, found)
    if run.header.stages.doubt and counts["clean"]:
        call.talk.tell(f"Clean says little here. {run.header.stages.doubt}", "undecided")
    if last:
        if call.json:
            counted = {**counts, "not_sampled": sum(not v.samples for v in own)}
            emit({"run": str(run.path), **counted, "verdicts": [v.model_dump(mode="json") for v in found]})
        call.talk.tell(f"Run folder: {run.path}")
        call.talk.say("Next: memfix unlearn --lora" if counts["memorized"] else "Next: memfix report", "hint")


def _tell_of_disputes(call: Call, found: Sequence[Verdict]) -> None:
    """How many samples are no copies by the rule, and are by another measure."""
    disputed = [v for v in found if v.disputed and v.verdict is not Label.MEMORIZED]
    if disputed:
        samples = sum(v.disputed for v in disputed)
        told = f"{counted(samples, 'sample')} of {counted(len(disputed), 'prompt')} {are(samples)} disputed: no copies "
        told += f"by {disputed[0].measure}, and copies by another measure. Look at them: memfix review"
        call.talk.tell(told, "undecided")


def _row(v: Verdict) -> list[str]:
    if not v.samples:
        return ["not sampled", "", "", "", f"{v.verdict} (by estimate)"]
    interval = f"{percent(v.interval[0])} to {percent(v.interval[1])}"
    score = "" if v.score is None else f"{v.score:.3f}"
    return [
        f"{v.copies}/{v.samples}", interval, score, v.reference,
        f"{v.verdict} ({v.kind})" if v.kind else v.verdict.value,
    ]  # fmt: skip


def _tally(found: list[Verdict]) -> str:
    """How many of each verdict; apart from the clean ones, how many only a screen takes for clean."""
    sampled = [v.verdict for v in found if v.samples]
    told = [f"{sampled.count(label)} {label}" for label in Label]
    if estimated := len(found) - len(sampled):
        told.append(f"{estimated} not sampled (clean by estimate of a screen)")
    return ", ".join(told)


def trained(call: Call, run: Run) -> None:
    """The end of unlearning. It says that nothing is proven yet."""
    steps = run.read("training.jsonl", Step)
    reworded = sum(r.applied for r in run.read("rewordings.jsonl", Rewording))
    if call.json:
        model, last = str(run.path / "model"), steps[-1].model_dump()
        emit({"run": str(run.path), "model": model, "steps": len(steps), "last": last})
    sides = {"keep": [s.loss_keep for s in steps], "forget": [s.loss_forget for s in steps if s.norm_forget]}
    losses = [f"{side} loss {v[0]:.1f} → {v[-1]:.1f}" for side, v in sides.items() if any(v)]  # none without a term
    call.talk.tell(f"\n{counted(len(steps), 'step')}; {', '.join(losses)}. Weights: {run.path / 'model'}")
    if reworded:
        read = "reads" if reworded == 1 else "read"
        told = f"{counted(reworded, 'prompt')} without other pictures to keep now {read} like a shorter wording."
        call.talk.say(told)
    call.talk.say("Whether this worked is not known before a re-check. Next: memfix recheck", "hint")


def changes(call: Call, run: Run, last: bool = True) -> None:
    """Before and after."""
    prompts = {p.id: p for p in run.read("prompts.jsonl", Prompt)}
    before = {v.prompt_id: v for v in run.read("before/verdicts.jsonl", Verdict)}
    every = run.read(CHANGES, Change)
    shown = [c for c in every if c.before is Label.MEMORIZED or c.outcome is not Outcome.UNCHANGED]
    rows = [
        [prompts[c.prompt_id].text, f"{before[c.prompt_id].copies}/{before[c.prompt_id].samples}",
         f"{c.copies_same}/{c.samples_same}", f"{c.copies_fresh}/{c.samples_fresh}", _outcome(c)]
        for c in shown
    ]  # fmt: skip
    call.talk.table(
        "Before and after", ["prompt", "copies before", "same noise", "fresh noise", "outcome"], rows, cut=True
    )
    reworded = [c for c in every if c.wording is not None]
    if reworded:
        read = "reads" if len(reworded) == 1 else "read"
        told = f"{counted(len(reworded), 'prompt')} now {read} like a shorter wording."
        call.talk.tell(f"\n{told} Copies are counted with that taken off.")
    controls = [c for c in every if c.role is Role.CONTROL]
    if controls:
        moved = sum(c.outcome is not Outcome.UNCHANGED for c in controls)
        drift = sum(c.damage.drift for c in controls) / len(controls)
        call.talk.tell(f"\n{count_of(moved, len(controls), 'control')} changed; same-noise difference {drift:.3f} rms")
    _tell_of_disputes(call, run.read("after/verdicts.jsonl", Verdict))
    _tell_of_longer_looks(call, run, every)
    _tell_of_adversarial_steps(call, run, every)
    if last:
        if call.json:
            emit({"run": str(run.path), "changes": [c.model_dump(mode="json") for c in every]})
        call.talk.say("Next: memfix report --open", "hint")


def _tell_of_longer_looks(call: Call, run: Run, found: Sequence[Change]) -> None:
    """Where prompts still copy: what makes the training of this run go on for longer."""
    from memfix.report.next_steps import longer_looks

    left = sum(c.outcome is Outcome.PERSISTENT for c in found)
    if left and (step := longer_looks(run.header.stages, str(run.path))):
        told = f"{counted(left, 'prompt')} still {'gives' if left == 1 else 'give'} copies."
        call.talk.say(f"\n{told} {step.why} {step.command}", "hint")


def _tell_of_adversarial_steps(call: Call, run: Run, found: Sequence[Change]) -> None:
    """Where attacks bring back what the run itself has unlearned."""
    from memfix.report.next_steps import against_attacks

    hidden = sum(c.outcome is Outcome.HIDDEN for c in found)
    if hidden and (step := against_attacks(run.header.stages, str(run.path))):
        call.talk.say(f"\n{counted(hidden, 'image')} can be brought back. {step.why} {step.command}", "hint")


def _outcome(change: Change) -> str:
    if change.outcome is Outcome.CHANGED and change.after is Label.MEMORIZED:
        return f"{change.outcome} (memorized now)"
    if change.wording is None:
        return change.outcome.value
    return f"{change.outcome} (reworded)"  # the page says as what; here the prompt itself would be cut for it


def attacked(call: Call, done: Attacks) -> None:
    """What attacks brought back, beside what they force from clean pictures and from the original model."""
    from memfix.flow.attack import folder_of
    from memfix.report.sections import attack_rows

    folder, rows = folder_of(done), attack_rows(done.results())
    arms = {
        "after_target": "brought back",
        "after_control": "clean pictures",
        "before_control": "clean, original model",
        "before_target": "memorized, original model",
    }
    cells = [[row.attack, *(_came(getattr(row, arm)) for arm in arms)] for row in rows]
    call.talk.table("Attacks", ["attack", *arms.values()], cells, text=range(1 + len(arms)))
    if not rows:
        call.talk.tell("No attack was made.")
    call.talk.tell(f"\nNot tried: {', '.join(done.left_out) or 'none'}.")
    call.talk.tell(f"Results and pictures: {folder}")
    if call.json:
        emit({"folder": str(folder), "attacks": [row.model_dump() for row in rows], "left_out": done.left_out})


def _came(arm: BroughtBack) -> str:
    if not arm.tried:
        return "–"
    earliest = f" (from {arm.earliest} {arm.unit})" if arm.came else ""
    return f"{arm.came} of {arm.tried}{earliest}"


def reported(call: Call, run: Run, page: Path) -> None:
    """The closing summary and where the report lies."""
    from memfix.report.html import headline
    from memfix.report.schema import Report

    report = Report.model_validate_json((page.parent / "report.json").read_text(encoding="utf-8"))
    s = report.summary
    tone, text, basis = headline(report)
    style = {"good": "bold green", "bad": "bold red", "warn": "bold yellow"}.get(tone, "title")
    call.talk.tell(f"\n{text}", style)
    call.talk.tell(basis)
    if s.copies_after is not None:
        call.talk.table("Summary", ["", "before", "after"], [
            ["memorized prompts", str(s.memorized_before), str(s.memorized_after)],
            ["copies in their samples", near_percent(s.copies_before, 1), f"{s.copies_left} of {s.samples_left}"],
            ["mitigated", "", f"{s.mitigated} of {s.memorized_before}"],
            *([[word, "", str(n)] for word, n in [("hidden", s.hidden), ("damaged", s.damaged)] if n]),
            ["controls changed", "", f"{s.controls_changed} of {s.controls}" if s.controls else "none given"],
            ["intact pictures", near_percent(s.quality_before), near_percent(s.quality_after)],
        ])  # fmt: skip
    call.talk.tell(f"\nReport: {page}", "title")
    if call.json:
        emit(report.model_dump(mode="json", by_alias=True))
