"""JSON files with a checksum: the sha256 of their other content."""

import hashlib
import json
from pathlib import Path
from typing import Any

from serve.errors import BundleError

CHECKSUM = "seal"
"""Key of the checksum in the file format."""
CHECKPOINT = "adapter_config.json"
"""A file of every training run and of PEFT's adapters, which no bundle has."""


def write_checked_json(file: Path, content: dict[str, Any]) -> None:
    """Write `content` and its checksum."""
    checked = {**content, CHECKSUM: _checksum(content)}
    file.write_text(json.dumps(checked, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_checked_json(file: Path) -> dict[str, Any]:
    """Return the content of a file that `write_checked_json` wrote.

    Raises:
        BundleError: The file is missing, is not JSON, or its checksum does not match.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        checksum = content.pop(CHECKSUM)
    except FileNotFoundError as error:
        raise BundleError(_not_exported(file)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {error or type(error).__name__}; export or copy it again") from error
    if checksum != _checksum(content):
        raise BundleError(
            f"{file} was changed since it was written: its checksum does not match; export or copy it again"
        )
    return content


def _not_exported(file: Path) -> str:
    """Return what is wrong with a folder without `file`, and what to do if it is a checkpoint."""
    problem = f"{file.parent} is not a bundle or adapter of adamix-export: it has no {file.name}"
    if (file.parent / CHECKPOINT).is_file():
        return f"{problem}; it is a checkpoint: export it first, adamix-export {file.parent} OUT"
    return problem


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
