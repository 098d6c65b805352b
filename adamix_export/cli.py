"""The command adamix-export."""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

try:
    import transformers
    from tqdm import tqdm

    from adamix_export.checkpoint.checkpoint import open_source
    from adamix_export.checkpoint.module_weights import COLLAPSES, weigh
    from adamix_export.commands.signals import Stopping
    from adamix_export.commands.table import COMMANDS
    from adamix_export.parity.comparison import Check
    from adamix_export.pipeline.export import EXPORTS
    from adamix_export.pipeline.options import Options
    from adamix_export.precision.table import PRECISIONS
    from adamix_export.text_format import parity_table
    from adamix_train.errors import AdaMixError
    from serve.errors import ServeError
except ImportError as error:
    sys.exit(f"adamix-export needs the export extra and ONNX Runtime ({error}): pip install 'adamix[export,cpu]'")

EXAMPLE = """\
examples:
  adamix-export runs/tone bundles/tone                                # one task in one plain graph
  adamix-export runs/tone runs/intent bundles/both --shape bank       # many tasks in one graph, one batch
  adamix-export runs/tone bundles/small --precision int8              # smaller and faster on a processor
  adamix-export mood=runs/tone adapters/mood --shape adapter          # a file of some 100 KB for a bank elsewhere

The export ends by running what it wrote in ONNX Runtime against PyTorch. If they differ, it exits with 1 and
nothing is written.

what there is can be looked at, checked again and taken elsewhere (each has its own --help):
  adamix-export inspect BUNDLE
  adamix-export verify BUNDLE
  adamix-export convert BUNDLE OUT --to TARGET
"""
STAGES = 4
"""Of an export in fp32; a precision may add some."""


def main(argv: list[str] | None = None) -> None:
    """Export checkpoints, or do what the first word says."""
    arguments = sys.argv[1:] if argv is None else argv
    _quieten()
    if arguments and arguments[0] in COMMANDS:
        _run_command(*arguments)
    else:
        _export(arguments)


def _run_command(name: str, *arguments: str) -> None:
    args = COMMANDS[name].parser(name).parse_args(arguments)
    Stopping()
    try:
        answer = COMMANDS[name].run(args)
    except (AdaMixError, ServeError, OSError) as error:
        sys.exit(f"adamix-export {name}: {error}")
    print(json.dumps(answer.data) if args.json else answer.text)


def _export(arguments: list[str]) -> None:
    args = _parser().parse_args(arguments)
    if args.parity_rows is not None and args.parity_rows < 1:
        sys.exit(f"adamix-export: --parity-rows is {args.parity_rows}; it must be positive")
    if len(args.checkpoints) < 2:
        sys.exit("adamix-export: give one checkpoint or more, and then the folder to write")
    stopping = Stopping()
    *checkpoints, out = args.checkpoints
    check = Check(data=args.data, limit=args.parity_rows)
    shape = args.shape or ("merged" if len(checkpoints) == 1 else "bank")
    more = next(iter(PRECISIONS[args.precision].values())).stages
    with tqdm(total=STAGES + more, desc="opening", bar_format="{l_bar}{bar}| {elapsed}") as bar:

        def progress(stage: str) -> None:
            stopping.check()
            bar.set_description(stage)
            bar.update()

        try:
            options = Options(
                check=check,
                tolerance=args.tolerance,
                most_lost=args.most_lost,
                calibration=args.calibration_data,
                force=args.force,
                slots=args.slots,
                precision=args.precision,
            )
            opened = [open_source(checkpoint, base=args.base) for checkpoint in checkpoints]
            sources = [weigh(source, args.collapse, args.collapse_data) for source in opened]
            reports = EXPORTS[shape](sources, Path(out), options, progress)
        except (AdaMixError, ServeError, OSError) as error:
            bar.close()
            sys.exit(f"adamix-export: {error}")
    if args.json:
        parity = {name: report.as_dict() for name, report in reports.items()}
        print(json.dumps({"out": out, "shape": shape, "precision": args.precision, "parity": parity}))
    else:
        print(f"wrote {out} ({shape}, {args.precision})\n" + parity_table(reports))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adamix-export",
        usage="%(prog)s [options] [NAME=]CHECKPOINT [[NAME=]CHECKPOINT …] OUT",
        description="Collapse trained mixtures into single adapters and write them as ONNX.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT … OUT", help="runs of adamix-train; then a new folder"
    )
    parser.add_argument("--shape", choices=EXPORTS, help="default: merged for one checkpoint, bank for several")
    parser.add_argument(
        "--base", help="the base model's folder or hub id, where it is no longer where the run found it"
    )
    parser.add_argument(
        "--data", type=Path, help="labelled texts for the parity check (default: the run's test or validation file)"
    )
    parser.add_argument(
        "--parity-rows", type=int, help="most texts to compare (default: 500 to classify, 48 to write from)"
    )
    parser.add_argument(
        "--tolerance", type=float, help="largest difference of a logit (default: the precision's; 1e-4 in fp32)"
    )
    parser.add_argument(
        "--most-lost",
        type=float,
        help="most that the metric may lose by the precision: points (0.01 is one of a hundred), of perplexity a share "
        "(default: the precision's)",
    )
    parser.add_argument(
        "--calibration-data",
        type=Path,
        help="int4: labelled texts that decide how weights are rounded (default: what the run was trained on)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of the base's weights: fp16 for GPUs, int8 for processors, int4 to write with, int4-fp16 that on GPUs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--collapse",
        choices=COLLAPSES,
        help="weights of the modules in their mean: equal, those that the run learned, or the best mean of some of "
        "them (default: what the run chose)",
    )
    parser.add_argument(
        "--collapse-data",
        type=Path,
        help="labelled texts to choose a greedy soup on (default: what the run validated on)",
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=0,
        help="shape bank: spare slots for adapters that are loaded later (default: none)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print the parity report as one JSON object")
    return parser


def _quieten() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    main()
