"""adamix-export convert BUNDLE OUT --to TARGET: write a bundle in another tool's format."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from adamix_export.commands import inspect
from adamix_export.commands.command import Command, Output
from adamix_export.commands.signals import StopSignals
from adamix_export.converters.table import TARGETS, convert


def add_flags(parser: ArgumentParser) -> None:
    """Add the flags of a conversion."""
    inspect.add_flags(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--to", required=True, choices=TARGETS, help="the format")
    parser.add_argument("--adapter", help="one adapter of the bundle (default: all)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(args: Namespace, stop: StopSignals) -> Output:
    """Convert the bundle."""
    hint = convert(args.bundle, args.out, args.to, adapter=args.adapter, force=args.force)
    return Output(f"wrote {args.out} ({args.to})\n{hint}", {"out": str(args.out), "target": args.to, "hint": hint})


CONVERT = Command(
    description="Write a bundle in the format of another tool:\n"
    + "\n".join(f"  {name:<14}{target.description}" for name, target in TARGETS.items()),
    examples="  adamix-export convert bundles/topic peft/topic --to peft\n"
    "  adamix-export convert bundles/both peft/tone --to peft --adapter tone",
    add_flags=add_flags,
    run=run,
)
