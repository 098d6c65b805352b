"""The command adamix-export."""

import json
import logging
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

INSTALL = "run pip install '.[export,cpu]' in a clone of the repository"

try:
    from adamix_export.commands.command import Command
    from adamix_export.commands.export import EXPORT
    from adamix_export.commands.signals import StopSignals
    from adamix_export.commands.table import COMMANDS
    from adamix_train.errors import AdaMixError
    from serve.errors import ServeError
except ImportError as error:
    sys.exit(f"adamix-export needs the export extra and ONNX Runtime ({error}): {INSTALL}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, or export."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        name = arguments.pop(0)
        prog, command = f"adamix-export {name}", COMMANDS[name]
    else:
        prog, command = "adamix-export", EXPORT
    run_command(prog, command, command.parser(prog, _whole_parser).parse_args(arguments))


def _whole_parser() -> ArgumentParser:
    """Return the parser of export with the other commands below it, for completion alone."""
    parser = EXPORT.parser("adamix-export")
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        command.configure(commands.add_parser(name, help=command.description))
    return parser


def run_command(prog: str, command: Command, args: Namespace) -> None:
    """Run a command with its parsed arguments and print what it returns; errors end the program in one line."""
    stop = StopSignals()
    _quieten()
    try:
        output = command.run(args, stop)
    except ImportError as error:
        sys.exit(f"{prog} needs the export extra and ONNX Runtime ({error}): {INSTALL}")
    except (AdaMixError, ServeError, OSError) as error:
        sys.exit(f"{prog}: {error}")
    print(json.dumps(output.data) if args.json else output.text)


def _quieten() -> None:
    """Show warnings of this project only; transformers reads its settings when it is imported."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    main()
