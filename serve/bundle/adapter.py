"""A standalone adapter on disk: `adapter.safetensors` (collapsed weights and head) and `adapter.json`, its card.

Tensors are called `{module}.{kind}.{projection}.{weight|bias}`, those of the head `{module}.head.{weight|bias}`, with
torch's layouts: weight (out, in), bias (out).
"""

import re
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serve.bundle.checked_json import file_sha256, read_sealed, write_sealed
from serve.errors import BundleError

CARD = "adapter.json"
WEIGHTS = "adapter.safetensors"
FORMAT_VERSION = 1
LONGEST_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")


@dataclass(frozen=True, kw_only=True)
class AdapterCard:
    """What an adapter says of itself."""

    name: str
    sha256: str
    """Of `adapter.safetensors`; every answer carries it."""
    base_sha256: str
    """Of the weights of the base it was trained on; it runs on no other."""
    tokenizer_sha256: str
    """Of the bundle's `tokenizer.json` that it was exported with; it is fed by no other."""
    kind: str
    r: int
    num_modules: int
    """Of the mixture that it is the collapse of."""
    labels: list[str]
    """One for each logit; none of an adapter that writes."""
    max_length: int
    """In tokens, special ones included, as in training."""
    metric: str
    metrics: dict[str, float]
    """On the validation data, before export, in PyTorch."""
    canary_ids: list[list[int]]
    """Token ids of a few rows…"""
    canary_logits: list[list[float]]
    """…and PyTorch's logits for them: what shows, wherever it is loaded, that this adapter answers."""
    canary_token_type_ids: list[list[int]] = field(default_factory=list)
    """Of the canary rows, where the tokenizer gives them; zeros otherwise."""
    pairs: bool = False
    """Whether a row is a pair of texts rather than one text."""
    regression: bool = False
    """Whether its one output is a value rather than the logit of a label."""
    canary_tokens: list[list[int]] = field(default_factory=list)
    """Of an adapter that writes: what it writes after the canary rows; the logits are those of these tokens."""
    prompt: str = "{input}"
    """Of an adapter that writes: the text before the one that it writes."""
    eos_token_ids: list[int] = field(default_factory=list)
    """Of an adapter that writes: the tokens that end a text."""
    shares: list[float] = field(default_factory=list)
    """The weight of each module in the mean, where the export chose it; otherwise it is that of the checkpoint."""
    parity: dict[str, Any] = field(default_factory=dict)
    """Of an adapter exported by itself: its comparison with PyTorch. A bundle keeps its own in its manifest."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise BundleError(f"adapter {self.name}: format {self.format_version}; this version reads {FORMAT_VERSION}")
        check_name(self.name)


Tensors = dict[str, NDArray[np.float32]]
Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of an adapter's weights, in order."""
_layouts: dict[Layout, Layout] = {}
"""Adapters of one kind share theirs: a thousand are a thousand arrays, not fifty thousand."""


class Adapter:
    """An adapter: its card and its weights.

    One that was read from a folder can forget its weights, and reads them again, checked again, when they are used.
    """

    def __init__(self, card: AdapterCard, tensors: Tensors, folder: Path | None = None) -> None:
        self.card, self.folder = card, folder
        self._values: NDArray[np.float32] | None
        self._layout: Layout
        self._pack(tensors)

    @property
    def tensors(self) -> Tensors:
        """Its weights by name, as views of its memory."""
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
        """Whether it has no weights at all, and is the base by another name."""
        return not self._layout

    @property
    def in_memory(self) -> bool:
        """Whether its weights are in memory."""
        return self._values is not None

    def forget(self) -> None:
        """Give back the memory of the weights, if they can be read again."""
        if self.folder is not None:
            self._values = None

    def _pack(self, tensors: Tensors) -> NDArray[np.float32]:
        """Keep weights as one array."""
        layout = tuple((name, tensor.shape) for name, tensor in tensors.items())
        self._layout = _layouts.setdefault(layout, layout)
        values = np.concatenate([np.empty(0, np.float32), *map(np.ravel, tensors.values())], dtype=np.float32)
        self._values = values
        return values


def check_name(name: str) -> str:
    """Return an adapter's name if it can stand in a path, a header and a metric's label."""
    if not NAME.fullmatch(name):
        raise BundleError(f"{name!r} is no name for an adapter: use letters, digits, '.', '_' and '-', 64 at most")
    return name


def write_card(folder: Path, card: AdapterCard) -> None:
    """Write an adapter's card beside its weights."""
    write_sealed(folder / CARD, asdict(card))


def read_adapter(folder: Path) -> Adapter:
    """Return the adapter in `folder` after checking its hash."""
    content: dict[str, Any] = read_sealed(folder / CARD)
    try:
        card = AdapterCard(**content)
    except TypeError as error:
        raise BundleError(f"{folder / CARD} is of another version: {error}") from error
    if (
        not (card.labels or card.canary_tokens)
        or not card.canary_ids
        or len(card.canary_ids) != len(card.canary_logits)
    ):
        raise BundleError(f"adapter {card.name}: its card has no labels or no canary rows")
    return Adapter(card, _read_weights(folder, card), folder)


def _read_weights(folder: Path, card: AdapterCard) -> Tensors:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"adapter {card.name} is incomplete: {weights} is missing")
    if file_sha256(weights) != card.sha256:
        raise BundleError(f"{weights} is damaged: its sha256 does not match; export or copy it again")
    try:
        return load_file(weights)
    except SafetensorError as error:
        raise BundleError(f"{weights} is not a safetensors file: {error}") from error
