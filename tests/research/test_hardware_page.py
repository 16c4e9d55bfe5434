"""The tables of memory are what the script writes, and what it wrote is what is counted now."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import hardware_page
from memfix.models.cards import COUNTED


def test_readme_has_the_table_that_the_script_writes() -> None:
    text = hardware_page.README.read_text(encoding="utf-8")
    assert hardware_page.readme(text) == text
    assert "| SDXL, 1024² | LoRA |" in text


def test_a_model_that_cannot_be_loaded_fits_nowhere() -> None:
    rows = hardware_page.counted_families()
    cells = [line for line in hardware_page.fits(rows, (12,)).splitlines() if line.startswith("| SDXL")]
    assert cells and all(line.endswith("| does not fit |") for line in cells)


@pytest.mark.slow
def test_what_is_kept_is_what_is_counted() -> None:
    """Of the smallest family; small differences come with versions of the libraries."""
    kept = {(row["family"], row["work"]): row for row in json.loads(Path(COUNTED).read_text(encoding="utf-8"))}
    for row in hardware_page.count(["sd1"]):
        known = kept[row["family"], row["work"]]
        assert (row["held"], row["plain"][0]) == (known["held"], known["plain"][0])
        for way in ("plain", "again"):
            assert row[way][1:] == pytest.approx(known[way][1:], rel=0.02)
