"""How the code reads: docstrings begin with a noun or a verb, and modules, classes and functions stay short."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("adamix_cli", "adamix_train", "adamix_export", "adamix_predict", "serve", "demos", "benchmarks")
NO_BEGINNING = ("Of ", "By ", "What ", "Whose ", "Whether ", "Whatever ", "Whoever ")
MAX_MODULE, MAX_CLASS, MAX_FUNCTION = 299, 199, 50
"""Lines, docstrings included."""
PARSERS: frozenset[str] = frozenset()
"""Argument parsers that may be longer than a function, each as FILE:FUNCTION."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules(package: str) -> Iterator[tuple[str, str]]:
    """Path and content of every module of a package."""
    for file in sorted((ROOT / package).rglob("*.py")):
        yield str(file.relative_to(ROOT)), file.read_text("utf-8")


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Docstrings of modules, classes and functions, and strings that follow a module's or class's attribute."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        before: ast.stmt | None = node if isinstance(node, Definition | ast.Module) else None  # type: ignore[assignment]
        for statement in body:
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
                and isinstance(before, Definition | ast.Module | ast.Assign | ast.AnnAssign)
            ):
                yield statement.value
            before = statement


def definitions(tree: ast.Module) -> Iterator[tuple[Definition, int]]:
    """Classes and functions with their numbers of lines."""
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            assert node.end_lineno is not None
            yield node, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_docstring_begins_with_a_noun_or_a_verb(package: str) -> None:
    wrong = [
        f"{file}:{docstring.lineno}: {docstring.value.splitlines()[0]}"
        for file, content in modules(package)
        for docstring in docstrings(ast.parse(content))
        if str(docstring.value).lstrip("…. ").startswith(NO_BEGINNING)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_classes_and_functions_are_short(package: str) -> None:
    long = []
    for file, content in modules(package):
        if (lines := len(content.splitlines())) > MAX_MODULE:
            long.append(f"{file}: {lines} lines")
        for node, count in definitions(ast.parse(content)):
            most = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
            if count > most and f"{file}:{node.name}" not in PARSERS:
                long.append(f"{file}:{node.lineno}: {node.name} has {count} lines, more than {most}")
    assert not long, "\n".join(long)


def test_the_walk_finds_every_docstring() -> None:
    """The walk itself, on a module with one docstring of each sort and strings that are none."""
    content = """
'Module.'
a = 1
'Attribute.'
print(a)
'none'
class C:
    'Class.'
    b: int
    'Field.'
    def f(self):
        'Method.'
        self.c = 1
        'Attribute of an instance.'
        print(a)
        'none'
"""
    found = [docstring.value for docstring in docstrings(ast.parse(content))]
    assert sorted(found) == ["Attribute of an instance.", "Attribute.", "Class.", "Field.", "Method.", "Module."]
