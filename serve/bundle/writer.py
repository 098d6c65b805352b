"""Write a bundle or adapter folder whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from serve.bundle.adapter import CARD
from serve.bundle.checked_json import file_sha256, write_sealed
from serve.bundle.manifest import MANIFEST, UNSEALED, Manifest
from serve.errors import BundleError


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
