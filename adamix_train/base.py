"""The frozen base model: where it is, what it is, and how it is loaded."""

import hashlib
import json
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adamix_train.errors import BaseError

logger = logging.getLogger(__name__)

FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""What is fetched of a hub repository: never a pickle."""
CHUNK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Where a safetensors file holds a tensor."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


def base_folder(name: str) -> Path:
    """Return the folder of a base model: `name` itself, or the local snapshot of a hub id (downloaded if need be)."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseError(f"{folder} is not a model folder: it has no config.json")
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise BaseError(f"there is no base model folder {name}; give a folder or a hub id such as org/model")
    logger.info("looking up base model %s on the hub", name)
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:
        raise BaseError(f"base model {name} is neither a folder nor to be had from the hub: {_line(error)}") from error


def base_sha256(folder: Path) -> str:
    """Return the sha256 of a base's weights: over name, dtype, shape and bytes of each tensor in the order of names.

    It does not depend on how the tensors are split over files, nor on any other file of the folder.
    """
    digest = hashlib.sha256()
    tensors = dict(item for file in weight_files(folder) for item in stored_tensors(file))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.start)
            for begin in range(0, tensor.length, CHUNK):
                digest.update(stream.read(min(CHUNK, tensor.length - begin)))
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold a model's weights."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    if not (folder / "model.safetensors").is_file():
        raise BaseError(f"{folder} has no model.safetensors; other weight formats are pickles and are not read")
    return [folder / "model.safetensors"]


def stored_tensors(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Read the header of a safetensors file."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(size))
    except (OSError, struct.error, ValueError, MemoryError, OverflowError) as error:
        raise BaseError(f"{file} is not a whole safetensors file: {_line(error)}") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if 8 + size + end > file.stat().st_size:
            raise BaseError(f"{file} is cut short: tensor {name} ends behind the end of the file")
        shape = tuple(entry["shape"])
        yield (
            name,
            StoredTensor(file=file, dtype=entry["dtype"], shape=shape, start=8 + size + start, length=end - start),
        )


def load_classifier(folder: Path, labels: list[str]) -> PreTrainedModel:
    """Return the base in fp32 with a new classification head for `labels`, drawn from torch's default generator."""
    names = dict(enumerate(labels))
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=names,
            label2id={label: index for index, label in names.items()},
            problem_type="single_label_classification",
            use_safetensors=True,
            dtype="float32",
        )
    except (OSError, ValueError) as error:
        raise BaseError(f"{folder} does not load as a classifier: {_line(error)}") from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the base's fast tokenizer; serving needs its tokenizer.json."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast:
        raise BaseError(f"{folder} has no fast tokenizer (tokenizer.json)")
    return tokenizer


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
