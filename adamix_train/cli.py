"""The command adamix-train."""

import argparse
import json
import logging
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

INSTALL = "run pip install '.[train]' in a clone of the repository"

try:
    from safetensors import SafetensorError

    from adamix_cli.completion import add_completion
    from adamix_train.command_parser import CommandParser
    from adamix_train.errors import AdaMixError, Interrupted
    from adamix_train.listings import LISTINGS, as_table
    from adamix_train.recipe.flags import add_flags, make_recipe
    from adamix_train.run.processes import is_first_process
    from adamix_train.run.sweep import sweep
    from adamix_train.run.train import train
except ImportError as error:
    sys.exit(f"adamix-train needs the train extra ({error}): {INSTALL}")

EXAMPLE = """\
examples:
  adamix-train recipe.yaml
  adamix-train recipe.yaml --num-modules 1 --out runs/plain
  adamix-train --base org/model --train-file train.csv --text-column message --label-column topic --out runs/topic
  adamix-train recipe.yaml --resume
  torchrun --nproc-per-node 2 -m adamix_train recipe.yaml --rank 8          (--rank is --r, which torchrun misreads)
  adamix-train sweep recipe.yaml --seeds 5
  adamix-train --base org/model --task sst2 --shots 16 --out runs/few       (downloads the set from the Hub)

A recipe is a YAML or TOML file with the fields above, spelled with underscores. A flag overrides the file.
"""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of the signal, as shells have it."""
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""Environment in which transformers does not list every new weight; what the user has set wins."""


def main(argv: list[str] | None = None) -> None:
    """Train the model of a recipe, with one seed or with several."""
    arguments = sys.argv[1:] if argv is None else argv
    sweeping = arguments[:1] == ["sweep"]
    parser = _sweep_parser() if sweeping else _parser()
    flags = vars(parser.parse_args(arguments[sweeping:]))
    if sweeping and "seed" in flags:
        parser.error("a sweep takes --seeds, not --seed")
    file, as_json = flags.pop("recipe"), flags.pop("json")
    if listed := flags.pop("list", None):
        _print_listing(listed, as_json=as_json)
        return
    resume, seeds = flags.pop("resume", False), flags.pop("seeds", None)
    try:
        recipe = make_recipe(file, flags)
        _set_up_logging()
        if sweeping:
            _print_sweep(sweep(recipe, seeds), as_json=as_json)
        else:
            _print_results(train(recipe, resume=resume), as_json=as_json)
    except ImportError as error:
        sys.exit(f"adamix-train needs the train extra ({error}): {INSTALL}")
    except Interrupted as error:
        _end(f"adamix-train: {error}", 128 + error.signal)
    except (AdaMixError, OSError, SafetensorError) as error:
        sys.exit(f"adamix-train: {error}")
    except KeyboardInterrupt:
        _end("adamix-train: stopped at once; go on from the last complete checkpoint with --resume", INTERRUPTED)


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="adamix-train",
        usage="adamix-train [RECIPE] [--resume] [--json] [--FIELD VALUE ...]",
        description="Train a mixture of adapters (AdaMix), or one of its baselines, on a Hugging Face model, for "
        "classification, regression or text generation. `adamix-train sweep` trains with several seeds.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out")
    parser.add_argument("--list", choices=LISTINGS, help="print what there is to choose from, and exit")
    add_completion(parser, _whole_parser)
    return _with_recipe(parser)


def _whole_parser() -> argparse.ArgumentParser:
    """Return the parser with its subcommand, for completion alone: `main` tells them apart by the first argument."""
    parser = _parser()
    several = _sweep_parser()
    parser.add_subparsers().add_parser("sweep", parents=[several], add_help=False, help=several.description)
    return parser


def _sweep_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="adamix-train sweep",
        usage="adamix-train sweep [RECIPE] [--seeds N] [--json] [--FIELD VALUE ...]",
        description="Train a recipe with several seeds into OUT/seed-N, and report mean and deviation of the metrics. "
        "Finished seeds are kept: repeat the command to continue an interrupted sweep, or to add seeds.",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=[0, 1, 2],
        metavar="N|A,B,…",
        help="number of seeds, or a list of them (default: 3)",
    )
    return _with_recipe(parser)


def _with_recipe(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("recipe", nargs="?", type=Path, help="recipe file, .yaml or .toml")
    parser.add_argument("--version", action="version", version=f"adamix {version('adamix')}")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    add_flags(parser.add_argument_group("fields of the recipe"))
    return parser


def _seeds(text: str) -> list[int]:
    """Return the seeds 0 … N - 1 for `N`, and the listed seeds for `A,B`."""
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    seeds = numbers if len(numbers) > 1 else [*range(sum(numbers))]
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds above 0 nor a list such as 3,5,8")
    return list(dict.fromkeys(seeds))


def _print_results(results: dict[str, Any], *, as_json: bool) -> None:
    if not is_first_process():
        return
    if as_json:
        print(json.dumps({name: value for name, value in results.items() if name != "history"}))
    else:
        from adamix_train.run.summary import summary  # which imports numpy

        print("\n".join(summary(results)))


def _print_listing(name: str, *, as_json: bool) -> None:
    listing = LISTINGS[name]()
    print(json.dumps(listing) if as_json else as_table(listing, name))


def _print_sweep(summary: dict[str, Any], *, as_json: bool) -> None:
    if not is_first_process():
        return
    if as_json:
        print(json.dumps(summary))
        return
    print(f"{len(summary['seeds'])} seeds: {', '.join(map(str, summary['seeds']))}")
    from adamix_train.run.summary import spelled_out  # as above

    for name, spread in summary["metrics"].items():
        print(f"{spelled_out(name):>20}  {spread['mean']:.4f} ± {spread['deviation']:.4f}")
    for seed, found in summary["advice"].items():
        for advice in found:
            print(f"\nseed {seed}: {advice}")


def _set_up_logging() -> None:
    """Print our own messages; silence those of the libraries, which are not imported yet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("httpx", "torch", "accelerate", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


if __name__ == "__main__":
    main()
