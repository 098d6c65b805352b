"""Worked examples of CONTRIBUTING, followed to the letter in a copy of the repository."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, page_blocks, reader

PLACE = re.compile(r"# ([\w/]+\.py)(?:, (in|above) (\w+))?\n")
"""First line of a block of Python: a new file, the table of its entries, or the name that it stands above."""
COPIED = ("adamix_cli", "adamix_train", "adamix_export", "adamix_predict", "serve", "demos", "docs", "tests")
TABLES = {"KINDS", "FAMILIES", "ENCODERS", "TASKS", "PRECISIONS", "PROTOCOLS", "ENGINES"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def put(code: str, folder: Path) -> str | None:
    """Write a block where its first line says; return the name of the table that it goes into, if it is an entry."""
    place = PLACE.match(code)
    assert place, f"a block does not say where it goes: {code.splitlines()[0]}"
    file, content = folder / place[1], code[place.end() :]
    if place[3] is None:
        assert not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return None
    lines = file.read_text("utf-8").splitlines(keepends=True)
    inside = place[2] == "in"
    start = next(
        number for number, line in enumerate(lines) if re.match(rf"{place[3]}\b.*{'[{(]$' if inside else ''}", line)
    )
    file.write_text("".join([*lines[: start + inside], content, *lines[start + inside :]]), "utf-8")
    return place[3] if inside else None


def test_an_entry_goes_to_the_top_of_its_table(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text('OTHER = {\n}\nKINDS: dict[str, int] = {\n    "a": 1,\n}\n')
    assert put('# kinds.py, in KINDS\n"b": 2,\n', tmp_path) == "KINDS"
    assert (tmp_path / "kinds.py").read_text() == 'OTHER = {\n}\nKINDS: dict[str, int] = {\n"b": 2,\n    "a": 1,\n}\n'


@pytest.mark.slow
def test_every_example_works(copy: Path) -> None:
    tables = set()
    with reader(copy, packages=copy) as contributor:
        for block in page_blocks("CONTRIBUTING.md"):
            if block.excerpt is not None:
                continue
            if block.language == "python":
                tables.add(put(block.code, copy))
            else:
                printed = contributor.read(block)
                assert printed and " passed" in printed, f"{block} runs no test:\n{printed}"
    assert tables - {None} == TABLES
