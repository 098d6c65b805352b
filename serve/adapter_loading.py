"""Adapters that clients load and unload while a server runs, the same for every protocol."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve.api_keys import require_admin
from serve.engine import Engine, ModelInfo
from serve.errors import BundleError, InputError, NotAllowed, shortened

UNLOAD_PARAMETERS = ("unload_dependents",)
"""Parameters of an unload that change nothing, since an adapter has no dependents."""
MAX_PATH = 128
"""Characters of a path that an error quotes."""


@dataclass(kw_only=True)
class AdapterLoading:
    """An engine, and the folder below which clients may load adapters."""

    engine: Engine
    root: Path | None
    """None lets clients load and unload nothing."""
    loaded: dict[str, str] = field(default_factory=dict)
    """Paths of the adapters that clients have loaded, below `root`, by name."""

    async def load(self, name: str, path: str, *, replace: bool) -> ModelInfo:
        """Load the adapter `name` in the folder that a client names, beside the event loop.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
            InputError: The path leads elsewhere, or the adapter is refused.
        """
        root = self.allowed_root()
        folder = await asyncio.to_thread(folder_below, root, path)
        try:
            info = await asyncio.to_thread(self.engine.load, folder, name=name, replace=replace)
        except BundleError as error:
            raise InputError(_without_folder(str(error), folder, path)) from error
        self.loaded[name] = path
        return info

    async def unload(self, name: str) -> None:
        """Unload an adapter; requests that arrived before still get it.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
            UnknownAdapter: No adapter has that name.
        """
        self.allowed_root()
        await asyncio.to_thread(self.engine.unload, name)
        self.loaded.pop(name, None)

    def allowed_root(self) -> Path:
        """Return the folder below which the client may load adapters; ask before anything of its request is read.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
        """
        require_admin()
        if self.root is None:
            raise NotAllowed("adapters are not loaded while serving: start adamix-serve with --adapter-dir FOLDER")
        return self.root


def check_parameters(names: Iterable[str], allowed: Sequence[str] = ()) -> None:
    """Raise an InputError for parameters of the Open Inference Protocol that would change a model elsewhere."""
    if unknown := set(names).difference(allowed):
        raise InputError(
            f"unknown parameter {shortened(min(unknown), MAX_PATH)!r}: an adapter's folder says all there is to it"
        )


def folder_below(root: Path, path: str) -> Path:
    """Return the folder that a client names, links resolved.

    Raises:
        InputError: It is not below `root`, or not there.
    """
    name = shortened(path, MAX_PATH)
    try:
        root = root.resolve()
        folder = (root / path).resolve()
        inside, there = folder.is_relative_to(root) and folder != root, folder.is_dir()
        files = [file for file in folder.iterdir() if not _is_below(root, file)] if inside and there else []
    except OSError as error:  # such as a name that is too long
        raise InputError(f"there is no adapter folder {name!r}: {error.strerror}", "folder") from error
    except (ValueError, RuntimeError) as error:  # a null character, a loop of links
        raise InputError(
            f"there is no adapter folder {name!r}: it is no path that can be followed", "folder"
        ) from error
    if not inside:
        raise InputError(f"{name!r} is not below the folder that adapters are loaded from (--adapter-dir)", "folder")
    if not there:
        raise InputError(f"there is no adapter folder {name!r} below --adapter-dir", "folder")
    if files:
        raise InputError(f"{files[0].name} in {name!r} is a link to a file that is not below --adapter-dir", "folder")
    return folder


def _is_below(root: Path, file: Path) -> bool:
    """Return True if a file, links resolved, is below `root`; a loop of links is nowhere."""
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _without_folder(message: str, folder: Path, path: str) -> str:
    """Return an error's message with the client's path in the place of the server's."""
    return message.replace(str(folder), shortened(path.rstrip("/"), MAX_PATH))
