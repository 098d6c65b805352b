"""Write a bundle or adapter folder atomically: it is complete or absent."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from serve.bundle.adapter import CARD
from serve.bundle.checked_json import file_sha256, write_checked_json
from serve.bundle.manifest import MANIFEST, UNHASHED, Manifest
from serve.errors import BundleError


@contextmanager
def atomic_folder(target: Path, *, force: bool = False, marks: Sequence[str] = (MANIFEST, CARD)) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that is renamed to it on success and removed on failure.

    Args:
        target: The folder to write.
        force: Replace an existing folder if it is empty or has one of the files `marks`.
        marks: Names or patterns of files that show that a folder was written by this project.

    Raises:
        BundleError: `target` exists and may not be replaced.
    """
    if target.exists() and not force:
        raise BundleError(f"{target} exists: give another folder, or --force to replace it")
    if target.exists() and not _replaceable(target, marks):
        raise BundleError(
            f"{target} is neither empty nor has {' or '.join(marks)} in it: it is not replaced; give another folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield partial
        mask = _umask()
        for path in (partial, *partial.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        _rename(partial, target, marks if force else ())
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Hash every file of `folder` but `UNHASHED`, and write the manifest; the last step of an export."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    files = {name: file_sha256(folder / name) for name in names if name not in UNHASHED}
    write_checked_json(folder / MANIFEST, {**asdict(manifest), "files": files})


def _rename(partial: Path, target: Path, marks: Sequence[str]) -> None:
    """Rename `partial` to `target`; a folder that it replaces is moved aside first and deleted last."""
    if not target.exists():
        partial.rename(target)
        return
    if not marks or not _replaceable(target, marks):
        raise BundleError(f"{target} was created meanwhile: it is kept, and nothing was written")
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
