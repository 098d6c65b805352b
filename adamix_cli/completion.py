"""Shell completion of a command: --print-completion bash or zsh."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh")
FLAG = "--print-completion"
PATHS = ("BUNDLE", "FILE", "FOLDER")
"""Metavars of values that are paths, whatever their type is."""
TEXT = (None, str, Path)
"""Types of values that may be paths."""


class PrintCompletion(argparse.Action):
    """Prints a script that lets a shell complete the command, and ends the program."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, whole: Callable[[], argparse.ArgumentParser] | None = None
    ) -> None:
        super().__init__(
            option_strings,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            choices=SHELLS,
            help="print the script that lets this shell complete the command, and exit",
        )
        self.whole = whole

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Print the script."""
        import shtab  # which is slow to import, and seldom needed

        described = self.whole() if self.whole else parser
        described._actions.sort(key=lambda action: not isinstance(action, argparse._SubParsersAction))
        _complete_paths(described)
        sys.stdout.write(shtab.complete(described, values) + "\n")
        parser.exit()


def add_completion(parser: argparse.ArgumentParser, whole: Callable[[], argparse.ArgumentParser] | None = None) -> None:
    """Add the flag.

    Args:
        parser: Parser of the command.
        whole: Returns a parser that has the subcommands, where `parser` has none.
    """
    parser.add_argument(FLAG, action=PrintCompletion, whole=whole)


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Let values that are neither a choice nor a number be completed as paths."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _complete_paths(one)
        elif not action.choices and action.nargs != 0 and (action.type in TEXT or action.metavar in PATHS):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
