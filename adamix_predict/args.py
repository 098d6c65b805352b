"""Command-line flags of adamix-predict."""

import argparse
from pathlib import Path

from adamix_cli.completion import add_completion
from adamix_predict.job import PREFIX, Job
from adamix_train.command_parser import CommandParser
from adamix_train.readers.reader import DELIMITERS
from serve.args import add_model_flags
from serve.flag_types import positive

EXAMPLE = """\
examples:
  adamix-predict bundles/tone reviews.csv --out labelled.csv
  adamix-predict bundles/both test.jsonl --adapter tone --label-column label --json --out labelled.parquet

Every row is written as it is, with columns added: predicted_label and predicted_score of a classifier,
predicted_score of a regression, predicted_text and predicted_finish_reason of a generator. Without --out, rows go to
the standard output as JSON, one a line. Texts that are too long are cut as in training, and counted.

A file is written whole or not at all. The first row that cannot be predicted ends the job with its line.
"""
STDOUT = "-"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; `argv` None takes that of the process."""
    parser = CommandParser(
        prog="adamix-predict",
        description="Run a bundle of adamix-export over the rows of a file.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by adamix-export")
    parser.add_argument("file", metavar="FILE", help="rows: .csv, .tsv, .txt (tabs), .jsonl or .parquet, of any length")
    _add_column_flags(parser)
    _add_output_flags(parser)
    _add_prediction_flags(parser)
    _add_ray_flags(parser)
    add_model_flags(parser)
    add_completion(parser)
    args = parser.parse_args(argv)
    if args.json and args.out is None:
        parser.error("--json prints the summary where the rows go without a file: add --out FILE")
    _check_ray_flags(parser, args)
    return args


def job(args: argparse.Namespace) -> Job:
    """Return the job that the flags describe."""
    named = {name: value for name, value in vars(args).items() if name in Job.__dataclass_fields__}
    named |= {"file": Path(args.file), "out": None if args.out is None or args.ray is not None else Path(args.out)}
    return Job(**{**named, "keep_bad_rows": args.bad_rows == "keep", "ensemble": bool(args.ensemble)})


def _add_column_flags(parser: argparse.ArgumentParser) -> None:
    columns = parser.add_argument_group("columns")
    columns.add_argument("--adapter", metavar="NAME", help="adapter of all rows (default: the only one)")
    columns.add_argument("--adapter-column", metavar="COLUMN", help="column that names the adapter of each row")
    columns.add_argument(
        "--text-column", metavar="COLUMN", help="column of the text (default: text; input for bundles that generate)"
    )
    columns.add_argument(
        "--pair-column", metavar="COLUMN", help="column of the second text, for adapters of pairs (default: pair)"
    )
    columns.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="column of the expected label or score: adds accuracy, macro F1 and Matthews' correlation, or Pearson's "
        "and Spearman's, to the summary; rows where it is empty do not count",
    )
    columns.add_argument(
        "--delimiter",
        type=_delimiter,
        metavar="CHARACTER",
        help=f"character between fields, or {', '.join(DELIMITERS)} (default: recognised)",
    )
    columns.add_argument("--limit", type=positive, metavar="N", help="read the first N rows (default: all)")


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=_out,
        metavar="FILE",
        help=".csv, .tsv, .jsonl or .parquet (default: -, the standard output in JSON)",
    )
    output.add_argument("--force", action="store_true", help="replace FILE if it exists")
    output.add_argument(
        "--resume",
        action="store_true",
        help="keep what is predicted in FILE.journal until FILE is whole; the same command goes on from there when it "
        "was stopped, and writes what an undisturbed run writes",
    )
    output.add_argument(
        "--prefix", default=PREFIX, help="beginning of the names of added columns, may be '' (default: %(default)s)"
    )
    output.add_argument(
        "--bad-rows",
        choices=("stop", "keep"),
        default="stop",
        help="at a row that cannot be predicted, stop and write nothing, or keep it with the reason in predicted_error "
        "(default: %(default)s)",
    )
    output.add_argument("--json", action="store_true", help="print the summary as JSON to the standard output")


def _add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    predictions = parser.add_argument_group("predictions")
    predictions.add_argument("--scores", action="store_true", help="add predicted_score_LABEL for each label")
    predictions.add_argument(
        "--windows", action="store_true", help="read long texts in overlapping windows rather than cut them"
    )
    predictions.add_argument(
        "--members",
        action="store_true",
        help="add predicted_spread: the deviation over the modules of a mixture; for bundles exported with "
        "--keep-modules",
    )
    predictions.add_argument(
        "--max-new-tokens", type=positive, metavar="N", help="generators: most tokens of a text (default: 64)"
    )


def _add_ray_flags(parser: argparse.ArgumentParser) -> None:
    cluster = parser.add_argument_group("cluster")
    cluster.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="predict by Ray Data on a cluster: auto (of this node), HOST:6379, or local. FILE is a file or a "
        "folder, --out a folder, both also as s3:// or gs:// (needs the extra ray)",
    )
    cluster.add_argument(
        "--predictors", type=positive, metavar="N", help="with --ray: processes at most (default: as cores allow)"
    )


def _check_ray_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the process where flags contradict --ray, or need it."""
    if args.ray is None:
        if args.predictors:
            parser.error("--predictors is for a cluster: add --ray ADDRESS")
        for place in (args.file, args.out or ""):
            if "://" in place:
                parser.error(f"{place} is read and written by Ray Data alone: add --ray ADDRESS")
        return
    if args.out is None:
        parser.error("--ray writes a folder: add --out FOLDER")
    for name in ("resume", "label_column"):
        if getattr(args, name):
            parser.error(f"--{name.replace('_', '-')} means nothing with --ray: leave it out")


def _out(text: str) -> str | None:
    return None if text == STDOUT else text


def _delimiter(text: str) -> str:
    if len(found := DELIMITERS.get(text, text)) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, nor one of {', '.join(DELIMITERS)}")
    return found
