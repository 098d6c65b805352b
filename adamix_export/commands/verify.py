"""adamix-export verify BUNDLE: check a bundle on this machine."""

from argparse import ArgumentParser, Namespace

from adamix_export.commands import inspect
from adamix_export.commands.command import Command, Output, add_comparison_flags
from adamix_export.commands.signals import StopSignals


def add_flags(parser: ArgumentParser) -> None:
    """Add the argument BUNDLE and the flags of a comparison with checkpoints."""
    inspect.add_flags(parser)
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="[NAME=]CHECKPOINT",
        help="runs of adamix-train that the bundle's adapters were exported from, to compare with in PyTorch",
    )
    add_comparison_flags(parser, default_tolerance="that of the export")


def run(args: Namespace, stop: StopSignals) -> Output:
    """Verify the bundle."""
    from adamix_export.parity.verification import verify

    verification = verify(
        args.bundle,
        args.against,
        base=args.base,
        data=args.data,
        limit=args.parity_rows,
        tolerance=args.tolerance,
    )
    return Output(str(verification), verification.as_dict())


VERIFY = Command(
    description="Check a bundle on this machine: the sha256 of its files, and that every adapter gives the same\n"
    "results on its canary texts as PyTorch did at the export. With --against, compare it with a checkpoint in\n"
    "PyTorch, as an export does. The exit status is 1, with one line on stderr, if anything differs.",
    examples="  adamix-export verify bundles/both\n"
    "  adamix-export verify bundles/both --against topic=runs/topic tone=runs/tone\n"
    "  adamix-export verify bundles/topic --against runs/topic --data new.csv",
    add_flags=add_flags,
    run=run,
)
