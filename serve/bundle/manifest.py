"""The manifest of a bundle: `bundle.json` as frozen dataclasses, checked when it is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.errors import BundleError

MANIFEST = "bundle.json"
MODEL = "model.onnx"
ENCODER = "encoder.onnx"
"""Of an encoder-decoder, whose model.onnx is the decoder."""
TOKENIZER = "tokenizer.json"
CONFIG = "config.json"
ADAPTERS = "adapters"
README = "README.md"
ATTRIBUTES = ".gitattributes"
UNSEALED = (MANIFEST, README, ATTRIBUTES)
"""The manifest seals itself; the other two are for people and the Hub, who may change them, and nothing reads them."""
FORMAT_VERSION = 1
SHAPES = ("merged", "bank")
"""merged: one adapter inside the base's graph; bank: the base's graph with adapters as inputs, one a row."""
EDGES = ("inputs", "outputs", "encoder_inputs", "encoder_outputs")


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An input or output of the graph; a dimension is a number or a symbol."""

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `bundle.json` says."""

    task: str
    shape: str
    precision: str
    base: dict[str, str]
    """name, sha256 (of the weights) and model_type."""
    pad_token_id: int
    adapters: list[str]
    inputs: list[Edge]
    outputs: list[Edge]
    encoder_inputs: list[Edge] = field(default_factory=list)
    encoder_outputs: list[Edge] = field(default_factory=list)
    start_token_id: int | None = None
    """Of an encoder-decoder: the token before the first that it writes."""
    parity: dict[str, Any]
    """By adapter: the comparison with PyTorch that ended the export."""
    versions: dict[str, str]
    fused_attention: bool = True
    """Whether attention is one operator of ONNX Runtime's; slower otherwise."""
    canary_tolerance: float = 0.0
    """Largest difference of a canary row's logits from PyTorch's, where it is more than the engine's own."""
    spare_slots: int = 0
    """Of a bank: room for this many adapters more, to be loaded later."""
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of every other file that is sealed, by its path in the bundle."""
    format_version: int = FORMAT_VERSION


def _manifest(content: dict[str, Any], folder: Path) -> Manifest:
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(f"{folder} has bundle format {version}; this version reads {FORMAT_VERSION}")
    try:
        edges = {side: [Edge(**edge) for edge in content[side]] for side in EDGES}
        manifest = Manifest(**{**content, **edges})
    except (TypeError, KeyError) as error:
        raise BundleError(f"{folder / MANIFEST} lacks or misspells a field: {error}") from error
    if manifest.shape not in SHAPES:
        raise BundleError(f"{folder} has shape {manifest.shape!r}; known are {', '.join(SHAPES)}")
    for name in (MODEL, TOKENIZER, *([ENCODER] if manifest.encoder_inputs else [])):
        if name not in manifest.files:
            raise BundleError(f"{folder} is incomplete: its manifest does not list {name}")
    return manifest
