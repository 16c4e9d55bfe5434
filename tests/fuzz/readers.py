"""Every reader of files from outside, with a small file that it reads, by the name of that file."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

from memfix.config.layers import read_config
from memfix.errors import MemfixError
from memfix.index.store import Store
from memfix.inputs.opening import open_image
from memfix.inputs.paraphrases import read_paraphrases
from memfix.inputs.prompts import read_prompts
from memfix.inputs.references import read_references
from memfix.inputs.wrong_rows import WrongRows
from memfix.models import lora
from memfix.models.context import ContextEdit
from memfix.records import Role
from memfix.run.folder import Run

ROWS = [{"caption": "a red disc, by me", "url": "https://a.b/c.png"}, {"caption": "zwei", "url": ""}]


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((9, 7)).convert("RGB").save(out, kind)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("0.png", picture("PNG")), ("0.txt", b"a disc"), ("0.json", b'{"caption": "a disc"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def prompts(path: Path) -> None:
    read_prompts(str(path), Role.PROMPT, WrongRows(skip=False))


def references(path: Path) -> None:
    """Of the folder that a file lies in, where a picture lies too."""
    (path.parent / "0.png").write_bytes(PICTURE)
    read_references(str(path.parent), [], WrongRows(skip=False))


def paraphrases(path: Path) -> None:
    read_paraphrases(str(path), WrongRows(skip=False))


def adapter(path: Path) -> None:
    lora.holds(path)
    lora.adapters_sha256([path, path])


KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "TGA")
PICTURE = picture("PNG")
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "list.txt": (b"# a comment\na red disc\n\nzwei\n", prompts),
    "list.csv": (b'caption,url\n"a red disc, by me",https://a.b/c.png\nzwei,\n', prompts),
    "list.tsv": (b"caption\turl\na red disc\thttps://a.b/c.png\n", prompts),
    "list.jsonl": (LINES, prompts),
    "list.json": (json.dumps(ROWS).encode(), prompts),
    "list.parquet": (parquet(), prompts),
    "list.tar": (tar(), prompts),
    "metadata.jsonl": (b'{"file_name": "0.png", "text": "a disc"}\n', references),
    "paraphrases.txt": (b"a red disc\na disc in red\n\nzwei\ntwo\n", paraphrases),
    "settings.toml": (b'[detect]\nnum_samples = 4\nmeasure = "ssim"\n[recheck]\nnum_fresh = 2\n', read_config),
    "manifest.json": (b'{"format": 1}', lambda p: Store.open(p.parent)),
    "run.json": (b'{"schema_version": 2, "created": "now", "stages": {}}', lambda p: Run.open(p.parent)),
    "lora.safetensors": (save({"unet.a.lora_A.weight": torch.ones(1, 2)}), adapter),
    "edit.safetensors": (save({"read": torch.ones(1, 2), "write": torch.ones(2, 1)}), ContextEdit.load),
    **{f"picture.{kind.lower()}": (picture(kind), open_image) for kind in KINDS},
}  # fmt: skip


def read(name: str, data: bytes, folder: Path) -> None:
    """Let the reader of a file read other bytes in its place. What it cannot read it must say as MemfixError."""
    (folder / name).write_bytes(data)
    try:
        READERS[name][1](folder / name)
    except MemfixError as error:
        assert error.message
    finally:
        (folder / name).unlink()
