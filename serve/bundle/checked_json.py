"""JSON files of a bundle, which may be hostile; the bundle's own have a checksum, the sha256 of their other content."""

import hashlib
import json
from pathlib import Path
from typing import Any

from serve.errors import BundleError, first_line

CHECKSUM = "seal"
"""Key of the checksum in the file format."""
MAX_BYTES = 2**28
"""Largest JSON file that is read: manifests of thousands of adapters have a few megabytes."""
MAX_DEPTH = 64
"""Deepest nesting of a JSON file."""
TOO_DEEP = "it is nested too deeply"
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
    content = read_json(file)
    if not isinstance(content, dict) or CHECKSUM not in content:
        raise _damaged(file, "it has no checksum")
    if content.pop(CHECKSUM) != _checksum(content):
        raise BundleError(
            f"{file} was changed since it was written: its checksum does not match; export or copy it again"
        )
    return content


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        BundleError: The file is missing, cannot be read, is too large, or is not JSON; or an object has a key twice.
    """
    try:
        if not file.is_file() and file.exists():
            raise _damaged(file, "it is no file")
        if file.stat().st_size > MAX_BYTES:
            raise _damaged(file, f"it is larger than {MAX_BYTES} bytes")
        content = json.loads(file.read_text("utf-8"), object_pairs_hook=_unique)
        if _depth(content) > MAX_DEPTH:
            raise _damaged(file, TOO_DEEP)
        return content
    except FileNotFoundError as error:
        raise BundleError(_not_exported(file)) from error
    except RecursionError as error:
        raise _damaged(file, TOO_DEEP) from error
    except (OSError, ValueError) as error:
        raise _damaged(file, first_line(getattr(error, "strerror", None) or error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; readers differ in which of two equal keys they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _depth(content: Any) -> int:
    """Return how deeply lists and objects are nested."""
    depth, level = 0, [content]
    while level := [one for one in level if isinstance(one, dict | list) and one]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _damaged(file: Path, problem: str) -> BundleError:
    return BundleError(f"{file} is damaged: {problem}; export or copy it again")


def _not_exported(file: Path) -> str:
    """Return what is wrong with a folder without `file`, and what to do if it is a checkpoint."""
    problem = f"{file.parent} is not a bundle or adapter of adamix-export: it has no {file.name}"
    if (file.parent / CHECKPOINT).is_file():
        return f"{problem}; it is a checkpoint: export it first, adamix-export {file.parent} OUT"
    return problem


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
