"""A command: its description, its flags and the function that runs it."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamix_cli.completion import add_completion
from adamix_export.commands.signals import StopSignals
from adamix_train.command_parser import CommandParser


@dataclass(frozen=True)
class Output:
    """The output of a command."""

    text: str
    data: dict[str, Any]
    """The same for `--json`."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of adamix-export. Its module imports torch and ONNX in `run` only, so that `--help` is fast."""

    description: str
    examples: str
    usage: str | None = None
    """None lets argparse write the usage line."""
    add_flags: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, StopSignals], Output]

    def parser(self, prog: str, whole: Callable[[], ArgumentParser] | None = None) -> ArgumentParser:
        """Return the parser of the arguments after `prog`; `whole` returns one with subcommands, for completion."""
        parser = CommandParser(prog=prog)
        self.configure(parser)
        add_completion(parser, whole)
        return parser

    def configure(self, parser: ArgumentParser) -> None:
        """Add the command's description, examples and flags to a parser."""
        parser.usage, parser.description = self.usage, self.description
        parser.epilog = "examples:\n" + self.examples
        parser.formatter_class = RawDescriptionHelpFormatter
        self.add_flags(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_comparison_flags(parser: ArgumentParser, *, default_tolerance: str) -> None:
    """Add the flags of a comparison with PyTorch; the command describes its default tolerance."""
    parser.add_argument("--base", help="folder or Hub id of the base model (default: the path stored in the run)")
    parser.add_argument(
        "--data", type=Path, help="labelled texts to compare on (default: the run's test or validation file)"
    )
    parser.add_argument(
        "--parity-rows",
        type=positive,
        help="maximum number of texts to compare (default: 500 for classification, 48 for generation)",
    )
    parser.add_argument("--tolerance", type=float, help=f"largest difference of a logit (default: {default_tolerance})")


def positive(text: str) -> int:
    """Return the number in a flag's value; the type of flags that take a number above 0."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)
