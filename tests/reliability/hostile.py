"""Mutations of a bundle: every value of its JSON files replaced or dropped, with right checksums."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from serve.bundle.adapter import CARD, WEIGHTS
from serve.bundle.checked_json import CHECKSUM, _checksum, file_sha256
from serve.bundle.manifest import ADAPTERS, CONFIG, GENERATION_CONFIG, MANIFEST, TOKENIZER, TOKENIZER_CONFIG

DROPPED = object()
"""Stands for a value that is left out."""


def nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


VALUES: tuple[Any, ...] = (
    DROPPED,
    None,
    True,
    -1,
    0,
    1,
    10**9,
    2**31,
    2**63,
    10**300,
    0.5,
    -1e30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "../../etc",
    "{{ 1/0 }}",
    "a" * 100_000,
    [],
    [None],
    [[]],
    [-1],
    [2**63],
    [float("nan")],
    ["x"],
    {},
    {"x": None},
    {"": {"x": [1]}},
    nested(50),
)
"""Values that take the place of each value."""
JSON_FILES = (MANIFEST, CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG, TOKENIZER)
"""JSON files of a bundle, beside its adapters' cards."""
MOST = 40
"""Most keys or elements of one value that are changed; a vocabulary has many that are alike."""
KEPT = (CHECKSUM,)
"""Keys that are made again after a mutation."""


def copy(folder: Path, target: Path) -> Path:
    """Copy a folder, in the place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(folder, target))


def files_of(folder: Path) -> list[Path]:
    """Return the files of a bundle, in order."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


@dataclass(frozen=True)
class Mutation:
    """A value at a place of a JSON file."""

    file: str
    """Path of the file in the bundle."""
    place: tuple[str | int, ...]
    """Keys and indices that lead to the value."""
    value: Any

    def __str__(self) -> str:
        value = "dropped" if self.value is DROPPED else ascii(self.value)[:60]
        return f"{self.file}: {'.'.join(map(str, self.place))} = {value}"

    def apply(self, folder: Path) -> None:
        """Change the file, and make every hash and checksum right again."""
        content = json.loads((folder / self.file).read_text("utf-8"))
        within = content
        for key in self.place[:-1]:
            within = within[key]
        if self.value is DROPPED:
            del within[self.place[-1]]
        else:
            within[self.place[-1]] = self.value
        (folder / self.file).write_text(json.dumps(content), "utf-8")
        reseal(folder)


def mutations(folder: Path, values: tuple[Any, ...] = VALUES) -> list[Mutation]:
    """Return every mutation of every JSON file of a bundle."""
    cards = sorted(str(file.relative_to(folder)) for file in folder.glob(f"{ADAPTERS}/*/{CARD}"))
    return [
        Mutation(file, place, value)
        for file in (*(name for name in JSON_FILES if (folder / name).is_file()), *cards)
        for place in _places(json.loads((folder / file).read_text("utf-8")))
        for value in values
    ]


def sample(folder: Path, count: int, *, seed: int) -> list[Mutation]:
    """Return some of the mutations of a bundle, the same for the same seed."""
    found = mutations(folder)
    return random.Random(seed).sample(found, min(count, len(found)))


def _places(content: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each value within a JSON value."""
    inner: Any = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in islice(inner, MOST):
        if key in KEPT:
            continue
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *place) for place in _places(value))


def reseal(folder: Path) -> None:
    """Make the hashes and checksums of a bundle right, so that nothing but its content is at fault."""
    tokenizer = file_sha256(folder / TOKENIZER)
    for card in folder.glob(f"{ADAPTERS}/*/{CARD}"):
        content = _content(card)
        _set(content, "sha256", file_sha256(card.with_name(WEIGHTS)))
        _set(content, "tokenizer_sha256", tokenizer)
        _write(card, content)
    rehash(folder)


def rehash(folder: Path) -> None:
    """Make the hashes in the manifest of a bundle right."""
    manifest = _content(folder / MANIFEST)
    files = manifest.get("files")
    if isinstance(files, dict):
        for name in files:
            _set(files, name, file_sha256(folder / name) if _is_file(folder, name) else files[name])
    _write(folder / MANIFEST, manifest)


def _content(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text("utf-8"))
    content.pop(CHECKSUM, None)
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps({**content, CHECKSUM: _checksum(content)}), "ascii")


def _set(content: dict[str, Any], key: str, value: str) -> None:
    """Replace a hash, unless a mutation made something else of it."""
    if isinstance(content.get(key), str) and len(content[key]) == len(value):
        content[key] = value


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False
