"""The manifest of a bundle: `bundle.json` as frozen dataclasses, checked when it is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from serve.bundle.adapter import MAX_NAME_LENGTH, check_adapter_name
from serve.bundle.fields import MAX_COUNT, Bounds, Count, Name, Sha256, TokenId, Tokens, read_fields
from serve.errors import BundleError, shortened

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
BASE_KEYS = ("name", "sha256", "model_type")
"""Facts of the base that every manifest has."""
FP32 = "fp32"
"""The precision that rounds nothing."""
MAX_CANARY_TOLERANCES = {FP32: 0.5, "fp16": 1.0, "bf16": 4.0, "w8a8": 20.0, "int4": 20.0, "int4-fp16": 20.0}
"""Largest tolerance of a bundle's canary rows by precision: twice what an export accepts of a logit."""
OTHER_CANARY_TOLERANCE = 4.0
"""The same for int8 and for precisions of one's own."""
EDGES = ("inputs", "outputs", "encoder_inputs", "encoder_outputs")
"""Fields of the manifest that list edges."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An input or output of a graph."""

    name: Name
    dtype: Name
    """Type in ONNX Runtime's notation, such as tensor(float)."""
    shape: list[Count | Name]
    """Sizes of the dimensions: numbers or symbols."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of `bundle.json`."""

    task: Name
    """Task as the Hub names it, such as text-classification."""
    shape: Name
    """One of `SHAPES`."""
    precision: Name
    """Precision of the base's weights, such as fp32 or int4."""
    quantized_share: Annotated[float, Bounds(0, 1)] | None = None
    """Share of the graphs' weights that are stored as integers, in [0, 1]; None in bundles of earlier versions."""
    base: dict[Name, Name]
    """Base model: name, sha256 (of the weights) and model_type."""
    pad_token_id: Annotated[int, Bounds(-1, MAX_COUNT)]
    """Token that fills up rows; -1 where the base's configuration says that it has none."""
    max_positions: Tokens | None = None
    """Most tokens that the base has positions for; None if it has no such bound, and in bundles of earlier versions."""
    adapters: list[Name]
    """Names of the adapters, each a folder below `adapters`."""
    inputs: list[Edge]
    outputs: list[Edge]
    optional_inputs: list[Edge] = field(default_factory=list)
    """Inputs that a run may leave out; empty in bundles of earlier versions."""
    encoder_inputs: list[Edge] = field(default_factory=list)
    """Inputs of the encoder; empty unless the model is an encoder-decoder."""
    encoder_outputs: list[Edge] = field(default_factory=list)
    start_token_id: TokenId | None = None
    """First token of an encoder-decoder's decoder; None for other models."""
    parity: dict[Name, dict[Name, Any]]
    """Comparison with PyTorch that ended the export, by adapter."""
    versions: dict[Name, Name]
    """Versions of the libraries that exported the bundle."""
    fused_attention: bool = True
    """Attention is one operator of ONNX Runtime; it is slower otherwise."""
    canary_tolerance: Annotated[float, Bounds(0, 1e9)] = 0.0
    """Largest allowed difference of a canary logit from PyTorch's, if it is more than the engine's own tolerance."""
    spare_slots: Annotated[int, Bounds(0, 2**16)] = 0
    """Slots of a bank for adapters that are loaded later."""
    files: dict[Name, Sha256] = field(default_factory=dict)
    """sha256 of every file but `UNHASHED`, by its path in the bundle."""
    format_version: int = FORMAT_VERSION


def max_canary_tolerance(precision: str) -> float:
    """Return the largest tolerance that the canary rows of a bundle in some precision may have."""
    return MAX_CANARY_TOLERANCES.get(precision, OTHER_CANARY_TOLERANCE)


def parse_manifest(content: dict[str, Any], folder: Path) -> Manifest:
    """Return the manifest from the content of `bundle.json` in `folder`.

    Raises:
        BundleError: The format is of another version, a field is missing or unknown, or a file is not listed.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        found = shortened(str(version), MAX_NAME_LENGTH)
        raise BundleError(f"{folder} has bundle format {found}; this version reads {FORMAT_VERSION}")
    manifest = read_fields(Manifest, content, str(folder / MANIFEST))
    if manifest.shape not in SHAPES:
        raise BundleError(f"{folder} has shape {manifest.shape!r}; known are {', '.join(SHAPES)}")
    if missing := [key for key in BASE_KEYS if key not in manifest.base]:
        raise BundleError(f"{folder / MANIFEST} lacks {missing[0]} of base: it is of another version, or damaged")
    for name in (MODEL, TOKENIZER, *([ENCODER] if manifest.encoder_inputs else [])):
        if name not in manifest.files:
            raise BundleError(f"{folder} is incomplete: its manifest does not list {name}")
    _check_adapters(manifest, folder)
    _check_tolerance(manifest, folder)
    return manifest


def _check_adapters(manifest: Manifest, folder: Path) -> None:
    names = [check_adapter_name(name) for name in manifest.adapters]
    if len(set(names)) != len(names):
        raise BundleError(f"{folder / MANIFEST} names an adapter twice: export it again")
    if not names or (manifest.shape == "merged" and len(names) > 1):
        raise BundleError(
            f"{folder / MANIFEST} names {len(names)} adapters: a merged bundle has one, a bank at least one; export it "
            "again"
        )


def _check_tolerance(manifest: Manifest, folder: Path) -> None:
    """Raise a BundleError for a tolerance under which the canary rows of wrong adapters pass as well."""
    most = max_canary_tolerance(manifest.precision)
    if manifest.canary_tolerance > most:
        raise BundleError(
            f"{folder / MANIFEST} has a canary_tolerance of {manifest.canary_tolerance:g}, which proves nothing: "
            f"{manifest.precision} may have {most:g}; export it again"
        )
