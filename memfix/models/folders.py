"""Models in a diffusers folder: refused by name before weights are read, and which of their files are in use."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffusers.pipelines.pipeline_loading_utils import variant_compatible_siblings

from memfix.errors import MemfixError
from memfix.files import files_below

INDEX = "model_index.json"
SUPPORTED = "models of Stable Diffusion 1, 2 and XL"
WEIGHT_FILES = ".safetensors"
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
OF_NETWORKS = "model"
"""In the names of files that hold a network's weights."""
CONFIG = {".json", ".txt"}
UNUSED = {"safety_checker", "feature_extractor", "image_encoder"}
"""Parts of a pipeline that have no say in what it draws here."""
INPUTS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a model that is told of depth"}
"""Channels that the network reads, where a model of texts alone reads 4 → what it is then."""
ENCODING = ("AutoencoderKL", "AsymmetricAutoencoderKL")
"""Classes of autoencoders that tell the latents of a picture; that of tiny ones (taesd) does it in another scale."""
PART_SETTINGS, QUANTIZED = "config.json", "quantization_config"


class UsedFiles(NamedTuple):
    """What a model is loaded from."""

    weights: list[Path]
    config: list[Path]


def require_supported(
    name: str, index: Mapping[str, Any], supported: Sequence[str], folder: Path | None, without: Container[str] = ()
) -> None:
    """Raise MemfixError for a pipeline of another class than those supported, by the name that its index gives, and for
    one with a part that is not.

    folder: where the configuration of its parts lies, as far as it is there. without: parts that come from elsewhere.
    """
    kind = str(index.get("_class_name"))
    hint = f"Give a {' or '.join(supported)}."
    if kind not in supported:
        message = f"{name} is a {kind}; so far only {SUPPORTED} are supported."
        raise MemfixError(message, hint)
    network = _settings(folder / "unet/config.json") if folder else {}
    read, written = network.get("in_channels"), network.get("out_channels")
    if read != written:
        what = INPUTS.get(read or 0, f"a model that reads {read} channels")
        raise MemfixError(f"{name} is {what}, which is not supported so far.", hint)
    for part, (_, made) in listed_parts(index).items():
        if part not in without:
            require_usable(name, part, str(made), folder / part if folder else None)


def require_usable(name: str, part: str, made: str | None, folder: Path | None) -> None:
    """Raise MemfixError for a VAE of a class that gives no latents of a picture, and for a part that is quantized.

    made: name of the part's class, None to look it up in `folder`, where its configuration lies, as far as it is there.
    """
    told = _settings(folder / PART_SETTINGS) if folder else {}
    made = made or told.get("_class_name")
    if part == "vae" and made not in (None, *ENCODING):
        raise MemfixError(
            f"The vae of {name} is of the class {made}, which gives no latents of a picture as {ENCODING[0]} does.",
            "Name another one, as the one of the model that it was distilled from: --vae FOLDER_OR_FILE.",
        )
    if told.get(QUANTIZED):
        raise MemfixError(
            f"The part {part} of {name} is quantized ({QUANTIZED} in its {PART_SETTINGS}), which is not supported.",
            "Give the model in fp16, bf16 or fp32.",
        )


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a pipeline. Raises MemfixError where it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / INDEX).read_text())
        return found
    except (OSError, ValueError) as error:
        raise MemfixError(
            f"{folder / INDEX} cannot be read: {error}.", "Give the folder that pipeline.save_pretrained wrote."
        ) from None


def _settings(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}  # what cannot be read is named when the model is loaded
    return found


def used_files(folder: Path, variant: str | None) -> UsedFiles:
    """The files that a model is loaded from, of that variant: index, configuration and weights of its parts.

    Raises MemfixError for what cannot be read, and for a part whose weights are pickles.
    """
    for part in sorted(parts_of(folder)):
        require_no_pickles(folder / part)
    there = [folder / INDEX, *(file for part in sorted(parts_of(folder)) for file in _readable(folder, part))]
    weights = {file.relative_to(folder).as_posix(): file for file in there if file.suffix == WEIGHT_FILES}
    try:
        used, _ = variant_compatible_siblings(list(weights), variant) if weights else ([], [])
    except ValueError:
        raise MemfixError(f"{folder} has no weights of the variant '{variant}'.", "Give another --variant.") from None
    config = [file for file in there if file.suffix in CONFIG and ".index." not in file.name]
    return UsedFiles([weights[str(name)] for name in used], config)


def require_no_pickles(folder: Path) -> None:
    """Raise MemfixError for a part's folder that holds its weights as pickles alone."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    pickles = [name for name in names if OF_NETWORKS in name and Path(name).suffix in PICKLES]
    if pickles and not any(name.endswith(WEIGHT_FILES) for name in names):
        raise MemfixError(
            f"The weights in {folder} are pickles ({pickles[0]}), which can run any code when they are opened.",
            'If you trust them, convert the model: python -c "from diffusers import DiffusionPipeline as P; '
            "P.from_pretrained('OLD', use_safetensors=False).save_pretrained('NEW')\".",
        )


class PartFiles(NamedTuple):
    """What a single part is loaded from, and the variant of its weights."""

    files: list[Path]
    variant: str | None


def files_of_part(folder: Path, part: str) -> PartFiles:
    """The files of a part in a folder of its own: its configuration, and its plain weights or the variant there is.

    Raises MemfixError where there are several variants, none of them plain, and for pickles.
    """
    require_no_pickles(folder)
    there = {f"{part}/{file.name}": file for file in sorted(folder.iterdir()) if file.is_file()}
    variant = variant_of(list(there), None)
    weights = [name for name in there if name.endswith(WEIGHT_FILES)]
    used = variant_compatible_siblings(weights, variant)[0] if weights else []
    config = [file for file in there.values() if file.suffix in CONFIG and ".index." not in file.name]
    return PartFiles([*(there[str(name)] for name in sorted(used)), *config], variant)


def keep_unused(source: Path, folder: Path) -> None:
    """Add to a saved pipeline the parts that it was loaded without, as they are: the safety checker among them."""
    index, saved = read_index(source), read_index(folder)
    for part in sorted(UNUSED):
        value = index.get(part)
        if isinstance(value, list) and value[:1] != [None] and (source / part).is_dir():
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
            saved[part] = value
    if "requires_safety_checker" in index:
        saved["requires_safety_checker"] = index["requires_safety_checker"]
    (folder / INDEX).write_text(json.dumps(saved, indent=2) + "\n")


def variant_of(names: list[str], variant: str | None) -> str | None:
    """The variant to load: the one that was asked for, else the only one that there is.

    names: of files, below the folder of the model. Where some part has plain weights, and every other one too, none is
    needed. Raises MemfixError where there are several, none of them plain.
    """
    weights = [n for n in names if n.endswith(WEIGHT_FILES) and n.count("/") == 1 and n.split("/")[0] not in UNUSED]
    plain, _ = variant_compatible_siblings(weights) if weights else ([], [])
    lacking = {n.split("/")[0] for n in weights} - {str(n).split("/")[0] for n in plain}
    if variant is not None or not lacking:
        return variant
    marks = (
        re.search(r"model\.([\w]+?)(-\d+-of-\d+)?\.safetensors$", n) for n in weights if n.split("/")[0] in lacking
    )
    found = sorted({mark[1] for mark in marks if mark})
    if len(found) > 1 and "fp16" not in found:
        raise MemfixError(
            f"The weights of {', '.join(sorted(lacking))} come in several variants: {', '.join(found)}.",
            "Name one of them with --variant.",
        )
    return "fp16" if "fp16" in found else found[0] if found else None


def parts_of(folder: Path) -> dict[str, list[Any]]:
    """The parts that have a say in what a model draws → the library and the class that the index names for each."""
    return listed_parts(read_index(folder))


def listed_parts(index: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The same of an index that has been read."""
    listed = {name: value for name, value in index.items() if name not in UNUSED and not name.startswith("_")}
    return {name: value for name, value in listed.items() if isinstance(value, list) and value[:1] != [None]}


def _readable(folder: Path, part: str) -> Iterator[Path]:
    """Weights and configuration of a part. Raises MemfixError for what cannot be read."""
    for found in files_below(folder / part, again=True):
        file = folder / part if found.path == "." else folder / part / found.path
        if found.problem and (file.suffix in {WEIGHT_FILES, *CONFIG, ""}):
            raise MemfixError(
                f"{file} cannot be read: {found.problem}.", "Restore what it is a link to, or give another model."
            )
        if not found.problem and "/" not in found.path:
            yield file
