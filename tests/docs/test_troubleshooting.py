"""Messages that the troubleshooting page quotes exist in the source."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.blocks import ROOT

PACKAGES = ("adamix_train", "adamix_export", "adamix_predict", "serve", "demos")
PAGE = ROOT / "docs/troubleshooting.md"
GAP = "…"
SHORTEST = 12
"""Characters that a quoted message has at least besides its gaps."""


def literals(tree: ast.AST) -> Iterator[str]:
    """Strings of a module; those that are put together have a gap for each part that is not a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            yield spelled(node)


def spelled(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else GAP
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spelled(node.left) + spelled(node.right)
    return GAP


def said(message: str, source: str) -> bool:
    """Whether a quoted message is part of a string, whatever its gaps stand for."""
    return re.search(".*?".join(re.escape(part.strip()) for part in message.split(GAP)), source, re.DOTALL) is not None


def quoted() -> list[str]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [cell for row in rows for cell in row[: 2 if re.match(r"\d{3}", row[0]) else 1] if cell.startswith("`")]
    return [cell.strip("`") for cell in cells]


@pytest.fixture(scope="module")
def source() -> list[str]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return [text for file in files for text in literals(ast.parse(file.read_text("utf-8"))) if len(text) > SHORTEST]


def test_there_are_messages() -> None:
    assert len(quoted()) >= 40


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_exists(message: str, source: list[str]) -> None:
    assert len(message.replace(GAP, "").strip()) >= SHORTEST
    assert any(said(message, text) for text in source), f"no string of the source is {message!r}"


def test_another_message_would_be_seen(source: list[str]) -> None:
    assert not any(said("the bundle is … and has been eaten by …", text) for text in source)
    assert said("there is no … here", "there is no adapter … here that does this")
    assert not said("there is no … there", "there is no adapter … here that does this")
