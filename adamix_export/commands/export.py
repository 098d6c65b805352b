"""adamix-export CHECKPOINT … OUT: export checkpoints and compare the result with PyTorch."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from adamix_cli.progress_bar import progress_bar
from adamix_export.commands.command import Command, Output, add_comparison_flags
from adamix_export.commands.facts import add_fact_flags, read_facts, require_used
from adamix_export.commands.signals import StopSignals
from adamix_export.errors import ExportError
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.options import SHAPES, Options
from adamix_export.precision.table import PRECISIONS
from adamix_export.text_format import parity_table
from adamix_train.recipe.recipe import COLLAPSES

STAGES = 4
"""Stages of an export in fp32; a precision may add some."""
RENAMED_COLLAPSES = {"mean": "uniform", "weights": "learned"}
"""Values of --collapse in earlier versions."""


def add_flags(parser: ArgumentParser) -> None:
    """Add the flags of an export."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT … OUT",
        help="runs of adamix-train, PEFT checkpoints or whole models; then a new folder",
    )
    parser.add_argument(
        "--shape", choices=SHAPES, help="default: merged for one checkpoint, bank for several or with --keep-modules"
    )
    parser.add_argument(
        "--slots", type=int, default=0, help="shape bank: spare slots for adapters that are loaded later (default: 0)"
    )
    parser.add_argument(
        "--keep-modules",
        action="store_true",
        help="shape bank: keep the modules of each mixture beside their mean, as the adapters NAME.0, NAME.1, …; a "
        "server then tells how far they agree",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_fact_flags(parser)
    _add_collapse_flags(parser)
    _add_precision_flags(parser)
    _add_parity_flags(parser)


def run(args: Namespace, stop: StopSignals) -> Output:
    """Export the checkpoints; show the stages on stderr."""
    if len(args.checkpoints) < 2:
        raise ExportError("give one checkpoint or more, and then the folder to write")
    from adamix_export.checkpoint.checkpoint import open_checkpoint
    from adamix_export.checkpoint.locate import adapter_name
    from adamix_export.checkpoint.module_weights import choose_module_weights
    from adamix_export.pipeline.export import EXPORTS

    *arguments, out = args.checkpoints
    shape = args.shape or ("bank" if len(arguments) > 1 or args.keep_modules else "merged")
    more = next(iter(PRECISIONS[args.precision].values())).stages
    with progress_bar(total=STAGES + more, desc="opening", bar_format="{l_bar}{bar}| {elapsed}") as bar:

        def progress(stage: str) -> None:
            stop.check()
            bar.set_description(stage)
            bar.update()

        facts = read_facts(args, [adapter_name(argument) for argument in arguments])
        opened = [
            open_checkpoint(argument, base=args.base, facts=facts[adapter_name(argument)]) for argument in arguments
        ]
        for one in opened:
            require_used(facts[one.name], one.folder, shape)
        checkpoints = [choose_module_weights(one, args.collapse, args.collapse_data) for one in opened]
        options = _options(args, approximate=any(one.rank or one.rank_energy for one in facts.values()))
        reports = EXPORTS[shape](checkpoints, Path(out), options, progress)
    parity = {name: report.as_dict() for name, report in reports.items()}
    return Output(
        f"wrote {out} ({shape}, {args.precision})\n" + parity_table(reports),
        {"out": out, "shape": shape, "precision": args.precision, "parity": parity},
    )


def _add_collapse_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--collapse",
        type=_collapse,
        choices=COLLAPSES,
        help="weights of a mixture's modules in their mean: equal, learned by the run, or equal for the modules that "
        "improve the validation metric (default: the run's choice)",
    )
    parser.add_argument(
        "--collapse-data",
        type=Path,
        help="labelled texts to choose a greedy soup on (default: the run's validation data)",
    )


def _add_precision_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of the base's weights: fp16 or bf16 for GPUs, int8 for CPUs; for text generation, w8a8 for batches and "
        "long prompts, int4 for one text at a time, and int4-fp16 for GPUs (default: %(default)s)",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="write a second graph over the same weights that computes no padding, which a server opens on a GPU; for "
        "classifiers in fp16 or fp32",
    )
    parser.add_argument(
        "--calibration-data",
        type=Path,
        help="int8 of classifiers, w8a8 and int4 of decoders: labelled texts that the precision is calibrated on "
        "(default: the run's training data)",
    )


def _add_parity_flags(parser: ArgumentParser) -> None:
    add_comparison_flags(
        parser,
        default_tolerance="the precision's; 1e-4 in fp32",
    )
    parser.add_argument(
        "--max-metric-drop",
        type=float,
        help="largest drop of the metric: 0.01 is one percentage point of accuracy, or 1%% of perplexity (default: the "
        "precision's)",
    )


def _collapse(text: str) -> str:
    if text in RENAMED_COLLAPSES:
        raise ArgumentTypeError(
            f"{text} is called {RENAMED_COLLAPSES[text]} in this version; choose from {', '.join(COLLAPSES)}"
        )
    return text


def _options(args: Namespace, *, approximate: bool) -> Options:
    return Options(
        approximate=approximate,
        check=Check(data=args.data, limit=args.parity_rows),
        tolerance=args.tolerance,
        max_metric_drop=args.max_metric_drop,
        calibration=args.calibration_data,
        force=args.force,
        keep_modules=args.keep_modules,
        slots=args.slots,
        precision=args.precision,
        packed=args.packed,
    )


EXPORT = Command(
    usage="%(prog)s [options] [NAME=]CHECKPOINT [[NAME=]CHECKPOINT …] OUT",
    description="Collapse trained mixtures into single adapters and export them to ONNX.",
    examples="""\
  adamix-export runs/tone bundles/tone                                # one task in one plain graph
  adamix-export runs/tone runs/intent bundles/both --shape bank       # many tasks in one graph, one batch
  adamix-export runs/tone bundles/sure --keep-modules                 # and its modules: how far do they agree?
  adamix-export runs/tone bundles/small --precision int8              # smaller and faster on a CPU
  adamix-export mood=runs/tone adapters/mood --shape adapter          # a file of some 100 KB for another bank

An export ends by comparing ONNX Runtime with PyTorch. If they differ, the exit status is 1 and nothing is written.

Commands for existing bundles (each has its own --help):
  adamix-export inspect BUNDLE
  adamix-export verify BUNDLE
  adamix-export convert BUNDLE OUT --to TARGET
""",
    add_flags=add_flags,
    run=run,
)
