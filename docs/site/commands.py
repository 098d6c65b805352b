"""Reference of the commands, as their --help prints it."""

import contextlib
import io
import os
from collections.abc import Sequence
from importlib import import_module
from unittest.mock import patch

COMMANDS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "adamix-train": ("adamix_train.cli", ((), ("sweep",))),
    "adamix-export": ("adamix_export.cli", ((), ("inspect",), ("verify",), ("convert",))),
    "adamix-serve": ("serve.cli", ((), ("deploy",))),
    "adamix-predict": ("adamix_predict.cli", ((),)),
    "adamix-demo": ("demos.quickstart", ((),)),
}
"""Command → its module, and the arguments of each of its helps before --help."""
ENVIRONMENT = {"COLUMNS": "110", "NO_COLOR": "1"}


def command_pages() -> dict[str, str]:
    """Return the page of all commands."""
    parts = [
        f"## {' '.join((name, *arguments))}\n\n```text\n{help_text(module, arguments)}```\n"
        for name, (module, helps) in COMMANDS.items()
        for arguments in helps
    ]
    return {"commands.md": "# Commands\n\nEach command's own `--help`.\n\n" + "\n".join(parts)}


def help_text(module: str, arguments: Sequence[str] = ()) -> str:
    """Return the help of the command in a module."""
    printed = io.StringIO()
    with patch.dict(os.environ, ENVIRONMENT), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        import_module(module).main([*arguments, "--help"])
    return printed.getvalue()
