"""Files written under a temporary name and renamed, so that no reader sees half of one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def partial_of(file: Path) -> Path:
    """Return the temporary path beside a file."""
    return file.with_name(file.name + ".partial")


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside `file`, and rename it to `file` when the block ends without an error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(file)
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(file)


def write_text(file: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic_file(file) as partial:
        partial.write_text(text, "utf-8")


def write_json(file: Path, content: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
