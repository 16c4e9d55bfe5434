"""Write docs/licences.md: under which licences the packages are that `requirements.lock` names, as they say themselves.

python research/licences_page.py, in an environment that has them
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAD = """# Licences of dependencies

memfix is under Apache-2.0. These are the packages that `requirements.lock` pins, with the licence that each states of
itself; `python research/licences_page.py` writes this page. The packages of NVIDIA come with the wheel of torch for
CUDA, and may be redistributed under NVIDIA's own terms only.

| package | licence |
|---|---|
"""


def licence(package: str) -> str:
    """What a package says of its licence: the expression, else its classifiers, else a line of the old field."""
    try:
        said = metadata(package)
    except PackageNotFoundError:
        return "NVIDIA's own" if package.startswith(("nvidia-", "cuda-")) else "not installed where this was written"

    def stated(field: str) -> list[str]:
        return [str(words) for words in said.get_all(field, []) if words]

    if expressions := stated("License-Expression"):
        return expressions[0]
    classifiers = [c.rpartition(" :: ")[2] for c in stated("Classifier") if c.startswith("License ::")]
    return ", ".join(classifiers) or [*stated("License"), "not stated"][0].splitlines()[0]


def page() -> str:
    """The whole page."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.findall(r"^([\w.-]+)==", lock, re.M)
    return HEAD + "".join(f"| {name} | {licence(name)} |\n" for name in packages)


if __name__ == "__main__":
    (ROOT / "docs/licences.md").write_text(page(), encoding="utf-8")
