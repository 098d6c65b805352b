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
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from adamix_train.errors import BaseError

logger = logging.getLogger(__name__)

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
"""What is fetched of a hub repository, its card with the licence included: never a pickle."""
PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
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


def config_sha256(folder: Path) -> str:
    """Return the sha256 of what a base's config.json says of the model: not by whom and with what it was saved."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        content = {name: value for name, value in config.items() if name not in PASSING}
    except (OSError, ValueError, AttributeError) as error:
        raise BaseError(f"{folder / 'config.json'} is damaged: {_line(error)}") from error
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


@dataclass(frozen=True)
class Base:
    """A loaded base in fp32, and the names of its modules that are new: the head."""

    model: PreTrainedModel
    new_modules: list[str]


def load_base(folder: Path, model_class: Any, **settings: Any) -> Base:
    """Return the base as a `model_class`; weights that its body lacks are an error, those of a head are drawn."""
    try:
        model, report = model_class.from_pretrained(
            folder, use_safetensors=True, dtype="float32", output_loading_info=True, **settings
        )
    except Exception as error:  # transformers and safetensors raise what they like on a damaged folder
        raise BaseError(f"{folder} does not load with {model_class.__name__}: {_line(error)}") from error
    body = model.base_model_prefix + "."
    if missing := sorted(name for name in report["missing_keys"] if name.startswith(body)):
        raise BaseError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}: they would be "
            "random, frozen, and in no checkpoint; use a base that has them"
        )
    return Base(model, sorted({name.partition(".")[0] for name in report["missing_keys"]}))


def load_classifier(folder: Path, labels: list[str]) -> PreTrainedModel:
    """Return the base with a new classification head for `labels`, drawn from torch's default generator."""
    return load_base(folder, AutoModelForSequenceClassification, **classifier_settings(labels)).model


def classifier_settings(labels: list[str]) -> dict[str, Any]:
    """Return what a classifier's configuration takes."""
    names = dict(enumerate(labels))
    return {
        "num_labels": len(labels),
        "id2label": names,
        "label2id": {label: index for index, label in names.items()},
        "problem_type": "single_label_classification",
    }


def load_config(folder: Path) -> PretrainedConfig:
    """Return the configuration of a base."""
    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # as above
        raise BaseError(f"the configuration in {folder} does not load: {_line(error)}") from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the base's fast tokenizer; serving needs its tokenizer.json.

    It pads on the right, whatever the base says: an encoder's and a causal model's positions count from the left.
    """
    if not (folder / "tokenizer.json").is_file():
        raise BaseError(f"{folder} has no tokenizer.json, the fast tokenizer's file, which serving needs")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, padding_side="right")
    except Exception as error:  # as above
        raise BaseError(f"the tokenizer in {folder} does not load: {_line(error)}") from error
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raise an error if a tokenizer does to texts what its tokenizer.json, which serving reads, cannot say."""
    if tokenizer.split_special_tokens:
        raise BaseError(
            f"the tokenizer in {where} splits special tokens that are in a text, which its tokenizer.json cannot say "
            "to serving: set split_special_tokens to false in its tokenizer_config.json"
        )


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
