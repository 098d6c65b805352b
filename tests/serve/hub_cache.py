"""The Hub's cache as huggingface_hub lays it out, made from a folder that was never pushed."""

import os
import shutil
from pathlib import Path

from serve.seal import file_sha256

REVISION = "0" * 40


def pull(folder: Path, cache: Path, *, shared: bool = False) -> Path:
    """Return the folder of org/name as after a download: links to blobs, perhaps links to blobs that all share."""
    repository = cache / "models--org--name"
    snapshot = repository / "snapshots" / REVISION
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        sha256 = file_sha256(file)
        link, blob, store = snapshot / file.relative_to(folder), repository / "blobs" / sha256, cache / "blobs" / sha256
        for path in (link, blob, store):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, store if shared else blob)
        if shared:
            blob.symlink_to(os.path.relpath(store, blob.parent))
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    return snapshot
