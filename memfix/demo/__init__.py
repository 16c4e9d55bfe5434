"""Where the bundled model, its references, prompt lists and settings lie. Knows paths only."""

from pathlib import Path

DEMO = "demo"
HERE = Path(__file__).parent
MODEL = HERE / "model"
REFERENCES = HERE / "references"
SETTINGS = HERE / "settings.toml"
DESCRIPTOR = HERE / "descriptor.torchscript.pt"
"""A copy-detection network in the form of SSCD's file, trained on posters like the references."""
DESCRIPTOR_SIDE = 64

LISTS = {"demo": "demo.txt", "controls": "controls.txt"}


def list_path(name: str) -> Path:
    """A bundled prompt list: inside the package when installed, in prompts/ in the repository."""
    installed = HERE / "prompts" / LISTS[name]
    return installed if installed.exists() else HERE.parent.parent / "prompts" / LISTS[name]
