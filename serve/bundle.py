"""The bundle: one folder with all that serving needs, whole or absent, opened only if every hash holds.

bundle.json · model.onnx · model.onnx.data · tokenizer.json · config.json · adapters/NAME/… · README.md
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from serve.adapter import CARD, Adapter, read_adapter
from serve.errors import BundleError
from serve.seal import file_sha256, read_sealed, write_sealed

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


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    folder: Path
    manifest: Manifest
    adapters: dict[str, Adapter]

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL

    @property
    def encoder(self) -> Path | None:
        """The ONNX file of an encoder-decoder's encoder."""
        return self.folder / ENCODER if self.manifest.encoder_inputs else None

    def hashes(self, graph: Path) -> list[str]:
        """Return the sha256 of every file of one of the graphs."""
        return [sha256 for name, sha256 in self.manifest.files.items() if name.startswith(graph.name)]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the base has embeddings for, if its configuration says so."""
        file = self.folder / CONFIG
        size = json.loads(file.read_text("utf-8")).get("vocab_size") if file.is_file() else None
        return size if isinstance(size, int) else None


def open_bundle(folder: Path) -> Bundle:
    """Return the bundle in `folder`, or an error if a file is missing, changed, or of another version."""
    if not folder.is_dir():
        raise BundleError(f"there is no bundle folder {folder}")
    manifest = _manifest(read_sealed(folder / MANIFEST), folder)
    for name, expected in manifest.files.items():
        file = _inside(folder, name)
        if not file.is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing; export or copy it again")
        if file_sha256(file) != expected:
            raise BundleError(f"{file} is damaged: its sha256 does not match; export or copy it again")
    adapters = {name: read_adapter(_inside(folder, f"{ADAPTERS}/{name}")) for name in manifest.adapters}
    for name, adapter in adapters.items():
        check_base(adapter, manifest)
        if adapter.card.name != name:
            raise BundleError(f"{folder}: the adapter in {ADAPTERS}/{name} calls itself {adapter.card.name}")
    return Bundle(folder, manifest, adapters)


def with_adapters(bundle: Bundle, folders: Sequence[Path]) -> Bundle:
    """Return a bank bundle with standalone adapters added to its own."""
    if folders and bundle.manifest.shape != "bank":
        raise BundleError(f"{bundle.folder} is a merged bundle: its graph takes no other adapter; export a bank")
    adapters = dict(bundle.adapters)
    for adapter in map(read_adapter, folders):
        check_base(adapter, bundle.manifest)
        if adapter.card.name in adapters:
            raise BundleError(f"there are two adapters called {adapter.card.name}: rename one when you export it")
        adapters[adapter.card.name] = adapter
    return replace(bundle, adapters=adapters)


def check_base(adapter: Adapter, manifest: Manifest) -> None:
    """Raise an error if `adapter` was trained on another base than the bundle's, or with another tokenizer."""
    if adapter.card.base_sha256 != manifest.base["sha256"]:
        raise BundleError(
            f"adapter {adapter.card.name} was trained on a base with sha256 {adapter.card.base_sha256[:12]}…, "
            f"this bundle has {manifest.base['sha256'][:12]}… ({manifest.base['name']}): use the bundle of its own base"
        )
    if adapter.card.tokenizer_sha256 != manifest.files[TOKENIZER]:
        raise BundleError(f"adapter {adapter.card.name} was trained with another tokenizer than this bundle's")


@contextmanager
def whole_folder(target: Path, *, force: bool = False, marks: Sequence[str] = (MANIFEST, CARD)) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its name on success and is removed on any failure.

    With `force` it replaces a folder that is empty or has one of the files `marks`, which are names or patterns.
    """
    if target.exists() and not force:
        raise BundleError(f"{target} exists: give another folder, or --force to replace it")
    if target.exists() and not _replaceable(target, marks):
        raise BundleError(
            f"{target} is neither empty nor what would be written, with {' or '.join(marks)} in it: it is not replaced"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield partial
        mask = _umask()
        for path in (partial, *partial.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        _take_name(partial, target, marks if force else ())
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def seal_bundle(folder: Path, manifest: Manifest) -> None:
    """Hash every file of `folder` but those `UNSEALED`, and write the manifest: the last act of an export."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    files = {name: file_sha256(folder / name) for name in names if name not in UNSEALED}
    write_sealed(folder / MANIFEST, {**asdict(manifest), "files": files})


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


def _inside(folder: Path, name: str) -> Path:
    """Return the path `name` of a bundle; it may not leave it, be it by '..', from the root, or through a link.

    A folder in the Hub's cache consists of links to the cache's blobs: these are followed.
    """
    path = PurePosixPath(name)
    file = folder / path
    real = file.resolve()
    homes = (folder.resolve(), *_blobs(folder.resolve()))
    if path.is_absolute() or ".." in path.parts or not any(real.is_relative_to(home) for home in homes):
        raise BundleError(f"{folder} names the path {name!r}, which leaves the bundle: do not use it")
    return file


def _blobs(folder: Path) -> tuple[Path, ...]:
    """Return where the Hub's cache keeps the files of CACHE/models--ORG--NAME/snapshots/REVISION; else nothing."""
    if folder.parent.name != "snapshots" or not folder.parents[1].name.startswith("models--"):
        return ()
    return folder.parents[1] / "blobs", folder.parents[2] / "blobs"


def _take_name(partial: Path, target: Path, marks: Sequence[str]) -> None:
    """Rename `partial` to `target`; what is replaced, if it has one of `marks`, is moved aside and deleted last."""
    if not target.exists():
        partial.rename(target)
        return
    if not marks or not _replaceable(target, marks):
        raise BundleError(f"{target} has come to exist meanwhile: it was kept, and nothing was written")
    aside = partial.with_name(partial.name + ".replaced")
    target.rename(aside)
    partial.rename(target)
    shutil.rmtree(aside)


def _replaceable(target: Path, marks: Sequence[str]) -> bool:
    return target.is_dir() and (not any(target.iterdir()) or any(next(target.glob(mark), None) for mark in marks))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
