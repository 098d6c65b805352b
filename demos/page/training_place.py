"""The place where the page trains: base models on this machine, and the folder that the server loads adapters from."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adamix_train.base_model.fingerprint import base_sha256
from adamix_train.base_model.locate import base_folder
from adamix_train.errors import AdaMixError
from adamix_train.mixture.kinds import KINDS
from demos.page.catalog import AdapterFacts, Catalog
from demos.page.server_client import PageError

TASKS: dict[str, str] = {
    "text-classification": "classification",
    "text-generation": "generation",
    "text2text-generation": "generation",
}
"""Task of `adamix-train` for the adapters of a bundle, by the bundle's task."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlace:
    """Base models by the sha256 of their weights, and the server's --adapter-dir, both on the page's machine."""

    bases: Mapping[str, Path]
    adapter_dir: Path
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a run is going on: one at a time."""

    def models(self, catalog: Catalog) -> list[str]:
        """Return the adapters after whose model another can be made: of a bank, on a base that is here."""
        return [name for name, adapter in catalog.adapters.items() if self._is_model(adapter)]

    def base_of(self, adapter: AdapterFacts) -> Path:
        """Return the folder of an adapter's base."""
        return self.bases[adapter.bundle.base_sha256]

    def _is_model(self, adapter: AdapterFacts) -> bool:
        bundle = adapter.bundle
        known = bundle.base_sha256 in self.bases and bundle.task in TASKS
        return known and bundle.shape == "bank" and adapter.kind in KINDS


def open_place(bases: Sequence[str | Path], adapter_dir: Path) -> TrainingPlace:
    """Return the place for bases, each a folder or a hub id.

    Raises:
        PageError: A base or the folder is not there.
    """
    if not adapter_dir.is_dir():
        raise PageError(f"--adapter-dir: there is no folder {adapter_dir}; give that of the server")
    try:
        folders = [base_folder(str(base)) for base in bases]
        return TrainingPlace(bases={base_sha256(folder): folder for folder in folders}, adapter_dir=adapter_dir)
    except AdaMixError as error:
        raise PageError(f"--base: {error}") from error
