"""Standalone adapters on disk: `adapter.safetensors` (collapsed weights and head) and `adapter.json`, its card.

Tensors are called `{module}.{kind}.{projection}.{weight|bias}`, those of the head `{module}.head.{weight|bias}`. Their
layouts are torch's: weight (out, in), bias (out,).
"""

import hashlib
import re
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from serve.bundle.checked_json import read_checked_json, write_checked_json
from serve.bundle.fields import Bounds, Count, Ids, Name, Sha256, Text, TokenId, Tokens, read_fields
from serve.errors import BundleError, first_line, shortened

CARD = "adapter.json"
WEIGHTS = "adapter.safetensors"
FORMAT_VERSION = 1
MAX_NAME_LENGTH = 64
OPTIONAL = ("module_distances", "record_fields")
"""Keys that are left out where they are empty, so that versions which do not know them read the card."""
Rows = Annotated[list[Ids], Bounds(0, 64)]
"""Token ids of rows."""
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")


@dataclass(frozen=True, kw_only=True)
class AdapterCard:
    """Facts of an adapter that are stored beside its weights.

    Raises:
        BundleError: The format is of another version, or the name does not fit.
    """

    name: Name
    sha256: Sha256
    """sha256 of `adapter.safetensors`; every result carries it."""
    base_sha256: Sha256
    """sha256 of the weights of the base it was trained on; it runs on no other."""
    tokenizer_sha256: Sha256
    """sha256 of the `tokenizer.json` that it was exported with; it takes the tokens of no other."""
    kind: Name
    """Kind of adapter: lora, houlsby, pfeiffer, another tool's name of a method, full for a whole model, none for the
    base.
    """
    r: Count
    """Rank or bottleneck width."""
    num_modules: Count
    """Modules of the mixture that was collapsed into it."""
    labels: list[Name]
    """One label for each logit; empty for an adapter that generates."""
    max_length: Tokens
    """Most tokens of an input, special tokens included, as in training."""
    metric: Name
    """Name of the metric that selected the checkpoint."""
    metrics: dict[Name, float]
    """Metrics on the validation data, in PyTorch before the export."""
    canary_ids: Rows
    """Canary rows: token ids of a few inputs, (rows, tokens)."""
    canary_logits: list[list[float]]
    """PyTorch's logits for the canary rows, compared whenever the adapter is loaded.

    (rows, labels) for a classifier; (rows, canary tokens) for an adapter that generates."""
    canary_token_type_ids: Rows = field(default_factory=list)
    """Token types of the canary rows, if the tokenizer gives them; empty stands for zeros."""
    pairs: bool = False
    """An input is a pair of texts rather than one text."""
    regression: bool = False
    """The one output is a value rather than the logit of a label."""
    canary_tokens: Rows = field(default_factory=list)
    """Tokens generated after each canary row, whose logits `canary_logits` keeps; empty for a classifier."""
    prompt: Text = "{input}"
    """Prompt of an adapter that generates; `{input}` stands for the client's text."""
    eos_token_ids: Annotated[list[TokenId], Bounds(0, 1024)] = field(default_factory=list)
    """End-of-sequence tokens of an adapter that generates."""
    shares: list[float] = field(default_factory=list)
    """Weight of each module in the collapse, if the export chose it; empty if the checkpoint did."""
    member_of: Name = ""
    """Name of the adapter that this one is a module of: the mean of a mixture. Empty for a mean itself."""
    module_distances: Annotated[list[float], Bounds(0, 1024)] = field(default_factory=list)
    """Distance of each module from the mean, as a share of the mean's norm; empty where nobody measured it."""
    record_fields: Annotated[list[Name], Bounds(0, 64)] = field(default_factory=list)
    """Fields of the records that an adapter writes texts from, `name[Lantern Walk], price[free]`; empty for others."""
    parity: dict[Name, Any] = field(default_factory=dict)
    """Comparison with PyTorch, for an adapter that was exported by itself; a bundle keeps it in its manifest."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise BundleError(f"adapter {self.name}: format {self.format_version}; this version reads {FORMAT_VERSION}")
        check_adapter_name(self.name)


Tensors = dict[str, NDArray[np.float32]]
Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of an adapter's weights, in order."""
_layouts: dict[Layout, Layout] = {}
"""Layouts seen so far, shared between adapters: a thousand adapters take a thousand arrays, not fifty thousand."""


class Adapter:
    """An adapter: its card and its weights.

    One that was read from a folder can drop its weights with `forget`; `tensors` then reads and checks them again.
    """

    def __init__(self, card: AdapterCard, tensors: Tensors, folder: Path | None = None) -> None:
        self.card, self.folder = card, folder
        self._values: NDArray[np.float32] | None
        self._layout: Layout
        self._pack(tensors)

    @property
    def tensors(self) -> Tensors:
        """Weights by name, as views of one array.

        Raises:
            BundleError: The weights were forgotten and their file is now missing or changed.
        """
        values = self._values  # another thread may forget them meanwhile
        if values is None:
            assert self.folder is not None
            values = self._pack(_read_weights(self.folder, self.card))
        ends = np.cumsum([0, *(prod(shape) for _, shape in self._layout)]).tolist()
        return {
            name: values[start:end].reshape(shape)
            for (name, shape), start, end in zip(self._layout, ends, ends[1:], strict=False)
        }

    @property
    def empty(self) -> bool:
        """True if there are no weights, so that the adapter is the base model under another name."""
        return not self._layout

    @property
    def in_memory(self) -> bool:
        """True if the weights are in memory."""
        return self._values is not None

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights in memory."""
        return sum(prod(shape) for _, shape in self._layout) * np.dtype(np.float32).itemsize

    def forget(self) -> None:
        """Free the memory of the weights if they can be read again."""
        if self.folder is not None:
            self._values = None

    def _pack(self, tensors: Tensors) -> NDArray[np.float32]:
        """Store weights as one array, and return it."""
        layout = tuple((name, tensor.shape) for name, tensor in tensors.items())
        self._layout = _layouts.setdefault(layout, layout)
        values = np.concatenate([np.empty(0, np.float32), *map(np.ravel, tensors.values())], dtype=np.float32)
        self._values = values
        return values


def check_adapter_name(name: str) -> str:
    """Return `name` if it is valid in a path, an HTTP header and a metric's label.

    Raises:
        BundleError: It is not.
    """
    if not NAME.fullmatch(name):
        raise BundleError(
            f"{shortened(name, MAX_NAME_LENGTH)!r} is no name for an adapter: use letters, digits, '.', '_' and '-', "
            f"at most {MAX_NAME_LENGTH}"
        )
    return name


def write_card(folder: Path, card: AdapterCard) -> None:
    """Write an adapter's card beside its weights."""
    content = {name: value for name, value in asdict(card).items() if value or name not in OPTIONAL}
    write_checked_json(folder / CARD, content)


def read_adapter(folder: Path) -> Adapter:
    """Return the adapter in `folder`, the new one if the folder is replaced meanwhile.

    Raises:
        BundleError: A file is missing, changed, or of another version, or a weight is not finite.
    """
    card = _read_card(folder)
    while True:
        try:
            return Adapter(card, _check_finite(folder, _read_weights(folder, card)), folder)
        except BundleError:
            before, card = card, _read_card(folder)
            if card == before:
                raise


def _read_card(folder: Path) -> AdapterCard:
    card = read_fields(AdapterCard, read_checked_json(folder / CARD), str(folder / CARD))
    _check_canaries(card)
    return card


def _check_canaries(card: AdapterCard) -> None:
    """Raise a BundleError if a card's canary rows do not fit each other, so that they prove nothing."""
    if not (card.labels or card.canary_tokens) or not card.canary_ids:
        raise BundleError(f"adapter {card.name}: its card has no labels or no canary rows")
    lengths = [len(row) for row in card.canary_ids]
    logits = [len(card.labels)] * len(lengths) if not card.canary_tokens else list(map(len, card.canary_tokens))
    types = list(map(len, card.canary_token_type_ids))
    if list(map(len, card.canary_logits)) != logits or len(logits) != len(lengths) or types not in ([], lengths):
        raise BundleError(f"adapter {card.name}: the canary rows of its card do not fit each other: export it again")


def _read_weights(folder: Path, card: AdapterCard) -> Tensors:
    """Return the weights of an adapter, of the bytes that were hashed: the file may be replaced meanwhile."""
    weights = folder / WEIGHTS
    try:
        if not weights.is_file():
            raise BundleError(f"adapter {card.name} is incomplete: {weights} is missing")
        content = weights.read_bytes()
    except OSError as error:
        raise BundleError(f"{weights} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise BundleError(f"{weights} is damaged: its sha256 does not match; export or copy it again")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # such as a type that NumPy does not have
        raise BundleError(f"{weights} is not a safetensors file: {first_line(error)}") from error
    if wrong := [name for name, tensor in tensors.items() if tensor.dtype != np.float32]:
        raise BundleError(
            f"{weights} has {shortened(wrong[0], MAX_NAME_LENGTH)!r} in {tensors[wrong[0]].dtype}: expected float32"
        )
    return tensors


def _check_finite(folder: Path, tensors: Tensors) -> Tensors:
    """Return weights that were read for the first time; those that are read again have the same sha256."""
    if wrong := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise BundleError(
            f"{folder / WEIGHTS} has a number in {shortened(wrong[0], MAX_NAME_LENGTH)!r} that is not finite: train "
            "the adapter again, with a lower learning rate, and export it"
        )
    return tensors
