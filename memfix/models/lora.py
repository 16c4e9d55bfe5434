"""LoRA on a denoiser's layers through peft, and the files that hold it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from memfix.errors import ExitCode, MemfixError
from memfix.files import sha256, sort_metadata
from memfix.models.context import ContextEdit

ADAPTER = "memfix"
FILE = "pytorch_lora_weights.safetensors"
OF_PEFT = "adapter_model.safetensors"
OF_TEXTS = ("text_encoder", "text_model", "lora_te")
OTHER_KINDS = {
    "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "ia3": "IA³", "on_input": "IA³", "lora_mid": "Tucker LoRA",
    ".lora_B.bias": "LoRA with biases", ".lora_up.bias": "LoRA with biases",
    ".a1.weight": "GLoRA", ".diff": "full difference of weights", "dora_scale": "DoRA in the names of LyCORIS",
}  # fmt: skip
"""Words in the names of weights → the adapters that have them. Tools do not agree on how to read such a DoRA."""
FLOW_LAYERS = re.compile(r"transformer\.|.*(double_blocks|single_blocks|joint_blocks|single_transformer_blocks)")
"""Begins names of layers that no UNet has."""
FIRST, SECOND = ".lora_A.", ".lora_B."  # the two factors of an adapter, which adds BA to a layer
HELD = "memfix_held"  # in a file's metadata: digests of the adapters that its weights are the sum of
PEFT_PREFIX = "base_model.model."
LENGTHS = ("lora_magnitude_vector", "dora_scale")  # of rows, which DoRA learns; as peft and as others name them
BUNDLED = "bundle_emb."  # begins names of embeddings in a LoRA's file: bundle_emb.WORD.string_to_param.*
ALPHA = ".alpha"
FACTORS = (
    (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight"), (".down.weight", ".up.weight"),
    (".lora.down.weight", ".lora.up.weight"), (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
)  # fmt: skip
"""How the two factors of a layer are named, behind its name or that of its adapter."""
MARKS = ("lora", "alpha", "dora")  # of which each name of a weight has one
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out"]


class Adapter(NamedTuple):
    """A LoRA on disk, a file or its folder, and how strongly it is put on a model."""

    path: Path
    weight: float = 1.0

    @classmethod
    def of(cls, given: Path | Adapter) -> Adapter:
        """A path alone stands for full strength."""
        return given if isinstance(given, Adapter) else cls(given)

    @classmethod
    def named(cls, words: str) -> Adapter:
        """As users write it: `PATH`, or `PATH:WEIGHT`. Raises MemfixError for a weight that is no strength."""
        path, colon, weight = words.rpartition(":")
        if not colon or Path(words).exists():
            return cls(Path(words))
        try:
            strength = float(weight)
        except ValueError:
            if not Path(path).exists():
                return cls(Path(words))
            strength = math.nan
        if not math.isfinite(strength) or strength == 0:
            raise MemfixError(
                f"The LoRA {path} cannot be put on the model with the strength '{weight}'.",
                f"Give a number other than 0, with a point: {path}:0.5.",
                ExitCode.USAGE,
            )
        return cls(Path(path), strength)

    @property
    def digest(self) -> str:
        """What identifies it: at full strength, what `sha256sum` prints of its file."""
        own = sha256([file_of(self.path)])
        return own if self.weight == 1 else hashlib.sha256(f"{own} {self.weight}".encode()).hexdigest()


def file_of(path: Path) -> Path:
    """The file of an adapter that is given as that, or as its folder. Raises MemfixError if there is none."""
    file = next((path / name for name in (FILE, OF_PEFT) if (path / name).is_file()), path / FILE)
    file = file if path.is_dir() else path
    if not file.is_file():
        raise MemfixError(
            f"There is no LoRA at {file}.", "Give the file or folder of a LoRA, or run 'memfix unlearn' first."
        )
    return file


def adapters_sha256(given: Iterable[Path | Adapter]) -> str:
    """What identifies adapters that are put on a model together: of a single one, its own digest.

    They are known by content. They add up, so their order says nothing, unless one is DoRA, which scales what it is put
    on. Raises MemfixError for one that is not there or, among several, that cannot be read.
    """
    adapters = [Adapter.of(one) for one in given]
    single = [adapter.digest for adapter in adapters]
    if len(single) == 1:
        return single[0]
    if not any(is_dora(file_of(adapter.path)) for adapter in adapters):
        single.sort()
    return hashlib.sha256("\n".join(single).encode()).hexdigest()


def note_held(path: Path, digests: Iterable[str]) -> None:
    """Write down in an adapter's file which other adapters it holds, by their digests."""
    file = file_of(path)
    with opened_lora(file) as found:
        metadata = {**(found.metadata() or {}), HELD: " ".join(sorted(digests))}
    save_file(load_file(file), file, metadata)
    sort_metadata(file)


def holds(given: Path | Adapter) -> frozenset[str]:
    """Digests of an adapter and of those that it is known to hold. Raises as `adapters_sha256` does."""
    adapter = Adapter.of(given)
    with opened_lora(file_of(adapter.path)) as found:
        noted: str = (found.metadata() or {}).get(HELD, "") if adapter.weight == 1 else ""
    return frozenset({adapter.digest, *noted.split()})


def is_dora(file: Path) -> bool:
    """Whether a file of an adapter has lengths of rows."""
    with opened_lora(file) as found:
        return any(part in key for key in found.keys() for part in LENGTHS)  # noqa: SIM118  # a handle, no dict


def tells_its_scale(file: Path) -> bool:
    """Whether the metadata of an adapter's file has its configuration, as diffusers writes it."""
    with opened_lora(file) as found:
        return LORA_ADAPTER_METADATA_KEY in (found.metadata() or {})


def changes_texts(file: Path) -> bool:
    """Whether an adapter changes the text encoder too, by any of the names that its layers go by."""
    with opened_lora(file) as found:
        return any(part in key for key in found.keys() for part in OF_TEXTS)  # noqa: SIM118  # a handle, no dict


@contextmanager
def opened_lora(file: Path) -> Iterator[Any]:
    """A file of safetensors. Raises MemfixError where it cannot be read."""
    try:
        with safe_open(file, "pt") as found:
            yield found
    except (SafetensorError, OSError) as error:
        raise MemfixError(
            f"LoRA {file} cannot be read: {error}.", "Restore it, or give another one: a file of safetensors."
        ) from None


def weights_of(file: Path) -> dict[str, torch.Tensor]:
    """What an adapter's file holds, by name. Raises MemfixError where it cannot be read."""
    with opened_lora(file) as found:
        return {str(key): found.get_tensor(key) for key in found.keys()}  # noqa: SIM118  # a handle, no dict


def with_strengths(file: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a LoRA that needs no alphas: the second factor of each layer holds alpha / rank, as the tools that
    write them have it, and a layer without alpha is taken at full strength.

    diffusers gives layers of several ranks or alphas one strength. Raises MemfixError for an alpha of no layer.
    """
    found = {key: value for key, value in state.items() if not key.endswith(ALPHA)}
    for key in state.keys() - found.keys():
        layer = key.removesuffix(ALPHA)
        sides = next(((layer + a, layer + b) for a, b in FACTORS if layer + a in found and layer + b in found), None)
        if sides is None:
            raise MemfixError(f"LoRA {file} has a strength of no layer: {key}.", "Give a LoRA of this model.")
        down, up = sides
        found[up] = found[up].float() * (float(state[key]) / len(found[down]))
    return found


def require_names(file: Path, unet: nn.Module) -> bool:
    """Whether a file names layers of the UNet as the UNet itself does, without a prefix, as its own
    `save_lora_adapter` writes them.

    Raises MemfixError for a file without weights, and for one as peft writes it, whose scale is in another file.
    """
    with opened_lora(file) as found:
        names = [str(key) for key in found.keys()]  # noqa: SIM118  # a handle, no dict
    if not names:
        raise MemfixError(f"LoRA {file} contains no weights.", "Give a LoRA of this model.")
    if other := next((kind for word, kind in OTHER_KINDS.items() for name in names if word in name), None):
        raise MemfixError(
            f"{file} is a {other}, and only plain LoRAs and the DoRAs of diffusers are supported.",
            "Build it into the model's weights with the tool that it was made for, and give memfix that model.",
        )
    if layer := next(filter(FLOW_LAYERS.match, names), None):
        raise MemfixError(
            f"{file} is a LoRA of a flow transformer, as Flux and Stable Diffusion 3 are, not of a UNet: {layer}.",
            "Give a LoRA of this model.",
        )
    if words := sorted({name.split(".")[1] for name in names if name.startswith(BUNDLED)}):
        raise MemfixError(
            f"{file} also holds embeddings of textual inversion ({', '.join(words)}), which no loader of LoRAs reads.",
            "Save them as files of their own for --embedding, and the LoRA without them.",
        )
    if not any(word in name for name in names for word in MARKS):
        raise MemfixError(
            f"{file} is no LoRA: it holds {', '.join(sorted(names)[:2])}.",
            "Give a LoRA of this model. An embedding of textual inversion is given to --embedding.",
        )
    if all(name.startswith(PEFT_PREFIX) for name in names):
        raise MemfixError(
            f"The names in LoRA {file} begin with {PEFT_PREFIX} as peft writes them, and its scale is in another file.",
            "Load it with peft, and save it by the pipeline's save_lora_weights or the UNet's save_lora_adapter.",
        )
    layers = {name for name, _ in unet.named_modules()}
    return all(re.split(r"\.lora_", name.removesuffix(ALPHA))[0] in layers for name in names)


def add(unet: UNet2DConditionModel, rank: int, seed: int = 0, dora: bool = False) -> None:
    """Add a fresh adapter on attention and convolutions, to be trained; the same one for each seed.

    `dora`: the length of each row of a layer's weights is trained apart from its direction (arXiv 2402.09353).
    """
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian", use_dora=dora
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(config, adapter_name=ADAPTER)


def is_on(unet: nn.Module) -> bool:
    """Whether a UNet has adapters."""
    return bool(getattr(unet, "peft_config", None))


@contextmanager
def switched_off(unet: nn.Module) -> Iterator[None]:
    """Let a UNet answer without its adapters for a while; afterwards the same weights are trained as before."""
    if not is_on(unet):
        yield
        return
    trained = {id(p) for p in unet.parameters() if p.requires_grad}
    adapters: Any = unet
    adapters.disable_adapters()
    try:
        yield
    finally:
        adapters.enable_adapters()
        for p in unet.parameters():
            p.requires_grad_(id(p) in trained)


@torch.no_grad()
def widen(state: dict[str, torch.Tensor], name: str, layer: Any, edit: ContextEdit) -> int:
    """Append an edit to a layer's adapter: BA + (W + BA) write read = [B, (W + BA) write] [A; read]. Its new rank.

    DoRA gives the rows of W + BA the lengths it has learned; a row that the edit makes longer has its own length grow
    with it.
    """
    a, b, lengths = (f"{name}.lora_{part}" for part in ("A.weight", "B.weight", "magnitude_vector"))
    down, up, weight = state[a], state[b], layer.base_layer.weight
    read, write = edit.read.to(down), edit.write.to(down)
    state[a] = torch.cat([down, read])
    state[b] = torch.cat([up, weight.to(down) @ write + up @ (down @ write)], dim=1)
    if lengths in state:
        old, new = (_row_lengths(weight, *sides) for sides in ((up, down), (state[b], state[a])))
        state[lengths] = state[lengths] * new / old
    return len(state[a])


def _row_lengths(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """‖W + BA‖ of each row, [out]."""
    lengths: torch.Tensor = torch.linalg.vector_norm(weight.to(up) + up @ down, dim=1)
    return lengths
