"""Execute a notebook of plain Python cells in this process, and keep what they print: no Jupyter is needed."""

import argparse
import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

PARAMETERS = "parameters"
"""Tag of the cell whose variables can be replaced, as papermill has it."""
Notebook = dict[str, Any]


class CellError(Exception):
    """A cell failed; the message names it, and the cause is its error."""


def execute(notebook: Notebook, parameters: Mapping[str, object] | None = None) -> Notebook:
    """Return a notebook with the output of each code cell, executed in order in one namespace.

    Args:
        notebook: Content of an .ipynb file.
        parameters: Variables that replace those of the cell tagged `parameters`.

    Raises:
        CellError: A cell raised an error.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        count += 1
        text = _run("".join(cell["source"]), namespace, count)
        if PARAMETERS in cell["metadata"].get("tags", ()):
            namespace.update(parameters or {})
        outputs = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []
        cells.append({**cell, "execution_count": count, "outputs": outputs})
    return {**notebook, "cells": cells}


def _run(source: str, namespace: dict[str, Any], count: int) -> str:
    """Run a cell, and return what it printed."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(source, f"<cell {count}>", "exec"), namespace)
    except Exception as error:
        raise CellError(f"cell {count} failed: {type(error).__name__}: {error}") from error
    return printed.getvalue()


def main() -> None:
    """Execute a notebook, and write its outputs into the file."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Execute a notebook and keep its outputs.")
    parser.add_argument("file", type=Path, help="notebook, .ipynb")
    file = parser.parse_args().file
    try:
        done = execute(json.loads(file.read_text("utf-8")))
    except CellError as error:
        sys.exit(f"demos.notebooks.execute: {error}")
    file.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
