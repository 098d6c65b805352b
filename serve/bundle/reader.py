"""Open a bundle folder; every hash, shape, path and version is checked first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from serve.bundle.adapter import Adapter, read_adapter
from serve.bundle.checked_json import file_sha256, read_sealed
from serve.bundle.manifest import ADAPTERS, CONFIG, ENCODER, MANIFEST, MODEL, TOKENIZER, Manifest, _manifest
from serve.errors import BundleError


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
