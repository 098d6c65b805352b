"""Searches whose hit may be false: `if found := next((…), None)` takes 0, "" or an empty list for no hit."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [file for folder in ("serve", "adamix_*", "optimum") for file in ROOT.glob(f"{folder}/**/*.py")]


def hits_taken_for_misses(code: str) -> list[int]:
    """Return the lines of conditions that ask whether the value of `next` with a default is true."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.NamedExpr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and (node.value.func.id, len(node.value.args)) == ("next", 2)
    ]


def test_a_hit_that_is_false_is_a_hit() -> None:
    found = [f"{file.relative_to(ROOT)}:{line}" for file in FILES for line in hits_taken_for_misses(file.read_text())]
    assert not found, "a loop that raises, or a comparison with None, tells a false hit from none"


@pytest.mark.parametrize(("code", "lines"), [("if x := next((y for y in z), None): pass", [1]), ("x = next(y)", [])])
def test_the_search_is_found_in_code(code: str, lines: list[int]) -> None:
    assert hits_taken_for_misses(code) == lines
