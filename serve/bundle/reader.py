"""Open a bundle folder, after checking every hash, path and version."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from serve.bundle.adapter import Adapter, read_adapter
from serve.bundle.checked_json import file_sha256, read_checked_json
from serve.bundle.listing import MAX_QUOTED, check_listing
from serve.bundle.manifest import ADAPTERS, ENCODER, MANIFEST, MODEL, PACKED, TOKENIZER, Manifest, parse_manifest
from serve.errors import BundleError, shortened

WEIGHTS = f"{MODEL}.data"
"""External weights of the model, which its packed graph reads too."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    folder: Path
    manifest: Manifest
    adapters: dict[str, Adapter]
    """Adapters by name."""

    @property
    def model(self) -> Path:
        """ONNX file of the model, or of an encoder-decoder's decoder."""
        return self.folder / MODEL

    @property
    def packed(self) -> Path | None:
        """ONNX file of the model without padding, which runs on CUDA only; None if the bundle has none."""
        return self.folder / PACKED if PACKED in self.manifest.files else None

    @property
    def encoder(self) -> Path | None:
        """ONNX file of an encoder-decoder's encoder; None for other models."""
        return self.folder / ENCODER if self.manifest.encoder_inputs else None

    def hashes(self, graph: Path) -> list[str]:
        """Return the sha256 of every file of `graph`, its external weights included."""
        names = (PACKED, WEIGHTS) if graph.name == PACKED else (graph.name,)
        return [sha256 for name, sha256 in self.manifest.files.items() if name.startswith(names)]

    def graph_bytes(self) -> int:
        """Return the size of the graphs that run, with the base's weights."""
        names = [name for name in self.manifest.files if name.startswith((MODEL, ENCODER))]
        return sum((self.folder / name).stat().st_size for name in names)

    @property
    def tokenizer(self) -> Path:
        """File of the tokenizer."""
        return self.folder / TOKENIZER


def open_bundle(folder: Path) -> Bundle:
    """Return the bundle in `folder`.

    Raises:
        BundleError: A file is missing, changed, outside the bundle, or of another version.
    """
    try:
        if not folder.is_dir():
            raise BundleError(f"there is no bundle folder {folder}")
    except OSError as error:  # such as a name that is too long
        raise BundleError(f"{folder} cannot be read: {error.strerror}") from error
    manifest = parse_manifest(read_checked_json(_inside(folder, MANIFEST)), folder)
    for name, expected in manifest.files.items():
        _check_file(folder, name, expected)
    check_listing(folder, manifest.files)
    adapters = {name: read_adapter(_inside(folder, f"{ADAPTERS}/{name}")) for name in manifest.adapters}
    for name, adapter in adapters.items():
        check_base(adapter, manifest)
        if adapter.card.name != name:
            raise BundleError(f"{folder}: the adapter in {ADAPTERS}/{name} calls itself {adapter.card.name}")
    return Bundle(folder, manifest, adapters)


def _check_file(folder: Path, name: str, expected: str) -> None:
    """Raise a BundleError if a file of a bundle is missing, elsewhere, or not the one that was hashed."""
    file = _inside(folder, name)
    try:
        if not file.is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing; export or copy it again")
        found = file_sha256(file)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if found != expected:
        raise BundleError(f"{file} is damaged: its sha256 does not match; export or copy it again")


def with_any_canaries(bundle: Bundle) -> Bundle:
    """Return a bundle whose canary rows pass with any finite logits, until an export has measured the difference."""
    return replace(bundle, manifest=replace(bundle.manifest, canary_tolerance=sys.float_info.max))


def with_adapters(bundle: Bundle, folders: Sequence[Path]) -> Bundle:
    """Return a bank bundle with standalone adapters added to its own.

    Raises:
        BundleError: The bundle is merged, an adapter is damaged or does not fit, or a name is taken.
    """
    if folders and bundle.manifest.shape != "bank":
        raise BundleError(f"{bundle.folder} is a merged bundle: its graph takes no other adapter; export a bank")
    adapters = dict(bundle.adapters)
    for adapter in map(read_adapter, folders):
        check_base(adapter, bundle.manifest)
        if adapter.card.name in adapters:
            raise BundleError(f"there are two adapters called {adapter.card.name}: rename one when you export it")
        adapters[adapter.card.name] = adapter
    return replace(bundle, adapters=adapters)


def with_adapters_of_each(bundles: Sequence[Bundle], folders: Sequence[Path]) -> list[Bundle]:
    """Return bundles with standalone adapters added, each to the bundle of its base.

    Raises:
        BundleError: An adapter fits none of them, or as `with_adapters`.
    """
    if len(bundles) == 1:
        return [with_adapters(bundles[0], folders)]
    added: dict[int, list[Path]] = {}
    for folder in folders:
        base = read_adapter(folder).card.base_sha256
        places = [
            place
            for place, bundle in enumerate(bundles)
            if bundle.manifest.base["sha256"] == base and bundle.manifest.shape == "bank"
        ]
        if not places:
            raise BundleError(f"adapter {folder} was trained on a base that none of the banks has: export its own")
        added.setdefault(places[0], []).append(folder)
    return [with_adapters(bundle, added.get(place, [])) for place, bundle in enumerate(bundles)]


def check_base(adapter: Adapter, manifest: Manifest) -> None:
    """Raise a BundleError if `adapter` is of another base or tokenizer than the bundle's, or reads more than it can."""
    if adapter.card.base_sha256 != manifest.base["sha256"]:
        raise BundleError(
            f"adapter {adapter.card.name} was trained on a base with sha256 {adapter.card.base_sha256[:12]}…, "
            f"this bundle has {manifest.base['sha256'][:12]}… ({manifest.base['name']}): use the bundle of its own base"
        )
    if adapter.card.tokenizer_sha256 != manifest.files[TOKENIZER]:
        raise BundleError(f"adapter {adapter.card.name} was trained with another tokenizer than this bundle's")
    most = manifest.max_positions
    if most is not None and adapter.card.max_length > most:
        raise BundleError(
            f"adapter {adapter.card.name} has a max_length of {adapter.card.max_length}, and the base has positions "
            f"for {most} tokens: export it again with --max-length {most}"
        )


def _inside(folder: Path, name: str) -> Path:
    """Return the file called `name` in a bundle.

    Links to the blobs of the Hub's cache are followed, since a folder in that cache consists of them.

    Raises:
        BundleError: The path leaves the bundle: it is absolute, contains '..', or is a link to somewhere else.
    """
    path = PurePosixPath(name)
    file = folder / path
    try:
        real = file.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # such as a loop of links
        raise BundleError(
            f"{folder} names the path {shortened(name, MAX_QUOTED)!r}, which cannot be followed"
        ) from error
    allowed = (folder.resolve(), *_blobs(folder.resolve()))
    if path.is_absolute() or ".." in path.parts or not any(real.is_relative_to(parent) for parent in allowed):
        raise BundleError(
            f"{folder} names the path {shortened(name, MAX_QUOTED)!r}, which leaves the bundle: do not use it"
        )
    return file


def _blobs(folder: Path) -> tuple[Path, ...]:
    """Return the blob folders of the Hub's cache if `folder` is CACHE/models--ORG--NAME/snapshots/REVISION."""
    if folder.parent.name != "snapshots" or not folder.parents[1].name.startswith("models--"):
        return ()
    return folder.parents[1] / "blobs", folder.parents[2] / "blobs"
