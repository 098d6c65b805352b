"""JSON files that notice when they were changed: they carry the sha256 of the rest of themselves."""

import hashlib
import json
from pathlib import Path
from typing import Any

from serve.errors import BundleError


def write_sealed(file: Path, content: dict[str, Any]) -> None:
    """Write `content` with its seal."""
    file.write_text(json.dumps({**content, "seal": _seal(content)}, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_sealed(file: Path) -> dict[str, Any]:
    """Return the content of a file that `write_sealed` wrote, or an error if a byte of it changed."""
    try:
        content = json.loads(file.read_text("utf-8"))
        seal = content.pop("seal")
    except FileNotFoundError as error:
        raise BundleError(
            f"{file.parent} is not a bundle or adapter of adamix-export: it has no {file.name}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {error or type(error).__name__}; export or copy it again") from error
    if seal != _seal(content):
        raise BundleError(f"{file} was changed since it was written: its seal does not match; export or copy it again")
    return content


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
