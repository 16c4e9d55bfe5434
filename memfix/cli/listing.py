"""`memfix list`: methods, kinds of variants, attacks, measures, thresholds, screens, presets, runs."""

from contextlib import suppress
from typing import Annotated

import typer

from memfix.cli.options import Call, command, runs_root
from memfix.console import emit
from memfix.errors import ExitCode, MemfixError, did_you_mean

KINDS = ["methods", "variants", "attacks", "measures", "thresholds", "screens", "presets", "runs"]
WHOLE = 12  # columns of words no longer than this are never wrapped


@command()
def list_(call: Call, what: Annotated[str, typer.Argument(help=f"What to list; one of: {', '.join(KINDS)}.")]) -> None:
    """List unlearning methods, kinds of prompt variants, attacks, measures, thresholds, screens, presets or runs."""
    if what not in KINDS:
        raise MemfixError(f"There is no list of '{what}'.", did_you_mean(what, KINDS), ExitCode.USAGE)
    lists = {
        "methods": _methods, "variants": _variants, "attacks": _attacks, "measures": _measures,
        "thresholds": _thresholds, "screens": _screens,
        "presets": _presets, "runs": _runs,
    }  # fmt: skip
    rows = lists[what]()
    if call.json:
        emit(rows)
    elif rows:
        cells = [[str(v) for v in row.values()] for row in rows]
        wide = [i for i, column in enumerate(zip(*cells, strict=True)) if max(map(len, column)) > WHOLE]
        call.talk.table(what, list(rows[0]), cells, text=wide)
    else:
        call.talk.tell(f"There are no {what} yet.")


def _methods() -> list[dict[str, object]]:
    from memfix.unlearn.objective.methods import METHODS

    return [
        {"name": m.name, "summary": m.summary, "passes": m.passes, "needs": ", ".join(m.needs) or "-"}
        for m in METHODS.values()
    ]


def _variants() -> list[dict[str, object]]:
    from memfix.variants.table import VARIANT_KINDS

    return [{"name": w.name, "summary": w.summary} for w in VARIANT_KINDS.values()]


def _attacks() -> list[dict[str, object]]:
    from memfix.recheck.attacks.table import ATTACKS

    return [
        {"name": a.name, "summary": a.summary, "usual": "yes" if a.usual else "no", "work": a.unit}
        for a in ATTACKS.values()
    ]


def _measures() -> list[dict[str, object]]:
    from memfix.measures import MEASURES

    return [
        {
            "name": m.name,
            "copy past": "-" if m.threshold is None else m.threshold,
            "closer is": "higher" if m.higher_is_closer else "lower",
            "source": m.source,
        }
        for m in MEASURES.values()
    ]


def _thresholds() -> list[dict[str, object]]:
    from memfix.thresholds import THRESHOLDS

    return [
        {"name": t.name, "measure": t.measure, "copy past": t.value, "source": t.source} for t in THRESHOLDS.values()
    ]


def _screens() -> list[dict[str, object]]:
    from memfix.screens import SCREENS

    return [{"name": s.name, "summary": s.summary, "fewest seeds": s.min_seeds} for s in SCREENS.values()]


def _presets() -> list[dict[str, object]]:
    from memfix.config.layers import presets

    return [
        {"name": name, "summary": path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")}
        for name, path in presets().items()
    ]


def _runs() -> list[dict[str, object]]:
    from memfix.run.folder import Run

    rows = list[dict[str, object]]()
    for file in sorted(runs_root().glob("*/run.json")):
        row: dict[str, object] = {"run": str(file.parent), "status": "cannot be read", "stages": "", "created": ""}
        with suppress(MemfixError):  # one that is damaged does not hide the others
            header = Run.open(file.parent).header
            row |= {"status": header.status, "stages": " ".join(header.stages.begun()), "created": header.created}
        rows.append(row)
    return rows
