"""The manifest of a bundle: `bundle.json` as frozen dataclasses, checked when it is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.errors import BundleError

MANIFEST = "bundle.json"
MODEL = "model.onnx"
PACKED = "packed.onnx"
"""The graph of model.onnx without padding, over the same weights, for GPUs; bundles may lack it."""
ENCODER = "encoder.onnx"
"""Encoder of an encoder-decoder, whose model.onnx is the decoder."""
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
"""Configuration of the tokenizer, with the base's chat template; bundles may lack it."""
CONFIG = "config.json"
"""Configuration of the base model, as transformers writes it."""
GENERATION_CONFIG = "generation_config.json"
"""Defaults of generation, with the end-of-sequence tokens; bundles may lack it."""
ADAPTERS = "adapters"
README = "README.md"
ATTRIBUTES = ".gitattributes"
UNHASHED = (MANIFEST, README, ATTRIBUTES)
"""Files whose hash is not in the manifest: itself, which has a checksum, and those that people and the Hub may edit."""
FORMAT_VERSION = 1
SHAPES = ("merged", "bank")
"""merged: one adapter folded into the base's graph; bank: adapters are inputs of the graph, one for each row."""
EDGES = ("inputs", "outputs", "encoder_inputs", "encoder_outputs")
"""Fields of the manifest that list edges."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An input or output of a graph."""

    name: str
    dtype: str
    """Type in ONNX Runtime's notation, such as tensor(float)."""
    shape: list[int | str]
    """Sizes of the dimensions: numbers or symbols."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of `bundle.json`."""

    task: str
    """Task as the Hub names it, such as text-classification."""
    shape: str
    """One of `SHAPES`."""
    precision: str
    """Precision of the base's weights, such as fp32 or int4."""
    quantized_share: float | None = None
    """Share of the graphs' weights that are stored as integers, in [0, 1]; None in bundles of earlier versions."""
    base: dict[str, str]
    """Base model: name, sha256 (of the weights) and model_type."""
    pad_token_id: int
    max_positions: int | None = None
    """Most tokens that the base has positions for; None if it has no such bound, and in bundles of earlier versions."""
    adapters: list[str]
    """Names of the adapters, each a folder below `adapters`."""
    inputs: list[Edge]
    outputs: list[Edge]
    encoder_inputs: list[Edge] = field(default_factory=list)
    """Inputs of the encoder; empty unless the model is an encoder-decoder."""
    encoder_outputs: list[Edge] = field(default_factory=list)
    start_token_id: int | None = None
    """First token of an encoder-decoder's decoder; None for other models."""
    parity: dict[str, Any]
    """Comparison with PyTorch that ended the export, by adapter."""
    versions: dict[str, str]
    """Versions of the libraries that exported the bundle."""
    fused_attention: bool = True
    """Attention is one operator of ONNX Runtime; it is slower otherwise."""
    canary_tolerance: float = 0.0
    """Largest allowed difference of a canary logit from PyTorch's, if it is more than the engine's own tolerance."""
    spare_slots: int = 0
    """Slots of a bank for adapters that are loaded later."""
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of every file but `UNHASHED`, by its path in the bundle."""
    format_version: int = FORMAT_VERSION


def parse_manifest(content: dict[str, Any], folder: Path) -> Manifest:
    """Return the manifest from the content of `bundle.json` in `folder`.

    Raises:
        BundleError: The format is of another version, a field is missing or unknown, or a file is not listed.
    """
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
