"""What adamix-export does with bundles that are there already, one command each."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamix_export.commands.inspect import describe, inspect_bundle
from adamix_export.converters.table import TARGETS, convert
from adamix_export.parity.verification import verify


@dataclass(frozen=True)
class Answer:
    """What a command has to say, for people and for programs."""

    text: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A first word after `adamix-export`."""

    description: str
    examples: str
    add_flags: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Answer]

    def parser(self, name: str) -> ArgumentParser:
        """Return the parser of what follows the word `name`."""
        parser = ArgumentParser(
            prog=f"adamix-export {name}",
            description=self.description,
            epilog="examples:\n" + self.examples,
            formatter_class=RawDescriptionHelpFormatter,
        )
        self.add_flags(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        return parser


def _inspect_flags(parser: ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="folder made by adamix-export")


def _inspect(args: Namespace) -> Answer:
    contents = inspect_bundle(args.bundle)
    return Answer(describe(contents), contents.as_dict())


def _verify_flags(parser: ArgumentParser) -> None:
    _inspect_flags(parser)
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="[NAME=]CHECKPOINT",
        help="runs of adamix-train that adapters of the bundle come from, to compare with in PyTorch",
    )
    parser.add_argument("--base", help="the base model's folder or hub id, where it is not where the run found it")
    parser.add_argument("--data", type=Path, help="labelled texts (default: the run's test or validation file)")
    parser.add_argument("--parity-rows", type=_positive, help="most texts to compare")
    parser.add_argument("--tolerance", type=float, help="largest difference of a logit (default: that of the export)")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def _verify(args: Namespace) -> Answer:
    verdict = verify(
        args.bundle,
        args.against,
        base=args.base,
        data=args.data,
        limit=args.parity_rows,
        tolerance=args.tolerance,
    )
    return Answer(str(verdict), verdict.as_dict())


def _convert_flags(parser: ArgumentParser) -> None:
    _inspect_flags(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--to", required=True, choices=TARGETS, help="the format")
    parser.add_argument("--adapter", help="one adapter of the bundle (default: all)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _convert(args: Namespace) -> Answer:
    hint = convert(args.bundle, args.out, args.to, adapter=args.adapter, force=args.force)
    return Answer(f"wrote {args.out} ({args.to})\n{hint}", {"out": str(args.out), "target": args.to, "hint": hint})


COMMANDS: dict[str, Command] = {
    "inspect": Command(
        description="Print what is in a bundle: adapters, inputs and outputs, operators, parity, sizes.",
        examples="  adamix-export inspect bundles/both\n"
        "  adamix-export inspect bundles/both --json | jq .graphs[0].ops",
        add_flags=_inspect_flags,
        run=_inspect,
    ),
    "verify": Command(
        description="Check a bundle on this machine: the sha256 of its files, and that every adapter answers its\n"
        "canary rows as PyTorch did when it was exported. With --against it is compared with the checkpoint in\n"
        "PyTorch, as at the end of the export. The exit status is 1, with one line, if anything differs.",
        examples="  adamix-export verify bundles/both\n"
        "  adamix-export verify bundles/both --against topic=runs/topic tone=runs/tone\n"
        "  adamix-export verify bundles/topic --against runs/topic --data new.csv",
        add_flags=_verify_flags,
        run=_verify,
    ),
    "convert": Command(
        description="Write a bundle in the format of another tool:\n"
        + "\n".join(f"  {name:<14}{target.what}" for name, target in TARGETS.items()),
        examples="  adamix-export convert bundles/topic peft/topic --to peft\n"
        "  adamix-export convert bundles/both peft/tone --to peft --adapter tone",
        add_flags=_convert_flags,
        run=_convert,
    ),
}
"""By the word; a checkpoint's folder of such a name is written ./NAME."""
