"""The settings that should fit the cards that users have, and their names. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fit:
    """A setting; `items` of a pass of a training, of which 16 items make a step, or images at once of a sampling."""

    card: int
    """GiB"""
    model: str
    what: str
    """`sample`, `lora` or `full`"""
    items: int
    checkpointing: bool = False
    eight_bit: bool = False

    @property
    def name(self) -> str:
        """Of its piece."""
        marks = [
            "checkpointing" if self.checkpointing else "",
            "8bit" if self.eight_bit else "",
        ]
        size = str(self.items) if self.what == "sample" or self.items == 16 else f"{self.items}x{16 // self.items}"
        return "-".join(filter(None, [f"card{self.card}", self.model, self.what, size, *marks]))

    @property
    def words(self) -> str:
        """For a table."""
        model = {"sd1": "SD 1.x, 512²", "sd2": "SD 2.x, 768²", "sdxl": "SDXL, 1024²"}[self.model]
        if self.what == "sample":
            return f"{model}: {self.items} images at once"
        passes = (
            "16 items in one pass" if self.items == 16 else f"16 items in {16 // self.items} passes of {self.items}"
        )
        marks = [
            "gradient checkpointing" if self.checkpointing else "",
            "8-bit AdamW" if self.eight_bit else "",
        ]
        what = {"lora": "LoRA", "full": "full"}[self.what]
        return ", ".join(filter(None, [f"{model}: {what} step, {passes}", *marks]))


FITS = [
    Fit(12, "sd1", "lora", 2, checkpointing=True),
    Fit(24, "sd1", "full", 2, checkpointing=True, eight_bit=True),
    Fit(48, "sd1", "full", 16, checkpointing=True),
    Fit(12, "sd1", "sample", 8),
    Fit(24, "sd1", "full", 2, checkpointing=True),
    Fit(48, "sd2", "full", 16, checkpointing=True),
    Fit(12, "sd2", "lora", 2, checkpointing=True),
    Fit(24, "sd1", "lora", 16, checkpointing=True),
    Fit(48, "sd1", "sample", 32),
    Fit(12, "sd2", "sample", 4),
    Fit(24, "sd2", "sample", 8),
    Fit(24, "sd2", "lora", 16, checkpointing=True),
    Fit(24, "sdxl", "lora", 2, checkpointing=True),
    Fit(24, "sdxl", "sample", 4),
]
