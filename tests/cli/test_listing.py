"""`memfix list`: what there is, by name, for people and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from memfix.cli import app, listing
from memfix.recheck.attacks.table import ATTACKS
from memfix.variants.table import VARIANT_KINDS


def listed(what: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["list", what, "--json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("what", [kind for kind in listing.KINDS if kind != "runs"])
def test_every_list_names_things_once_and_says_what_they_are(what: str) -> None:
    rows = listed(what)
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) > 0
    assert all(all(str(value) for value in row.values()) for row in rows)


def test_lists_are_the_tables() -> None:
    assert [row["name"] for row in listed("attacks")] == list(ATTACKS)
    assert [row["name"] for row in listed("attacks") if row["usual"] == "yes"] == [
        "wording", "frame", "embedding", "noised",
    ]  # fmt: skip
    assert [row["name"] for row in listed("variants")] == list(VARIANT_KINDS)


def test_an_unknown_list_is_a_usage_error() -> None:
    done = CliRunner().invoke(app, ["list", "attack"])
    assert done.exit_code == 2
    assert "Did you mean 'attacks'?" in done.output
