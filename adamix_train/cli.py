"""The command adamix-train."""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

try:
    from adamix_train.errors import AdaMixError
    from adamix_train.recipe_file import add_flags, make_recipe
except ImportError as error:
    sys.exit(f"adamix-train needs the train extra ({error}): pip install 'adamix[train]'")

EXAMPLE = """\
examples:
  adamix-train recipe.yaml
  adamix-train recipe.yaml --num-modules 1 --out runs/plain
  adamix-train --base org/model --train-file train.csv --text-column message --label-column topic --out runs/topic
  adamix-train recipe.yaml --resume

A recipe is a YAML or TOML file with the fields below, written with underscores; a flag wins over the file.
"""


def main(argv: list[str] | None = None) -> None:
    """Train a mixture as a recipe says."""
    parser = argparse.ArgumentParser(
        prog="adamix-train",
        description="Train a mixture of adapters (AdaMix) on a frozen model for text classification.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", type=Path, help="a .yaml or .toml file")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    add_flags(parser.add_argument_group("fields of the recipe"))
    flags = vars(parser.parse_args(argv))
    file, resume, as_json = flags.pop("recipe"), flags.pop("resume"), flags.pop("json")
    try:
        recipe = make_recipe(file, flags)
        _quieten()
        # Imported last: transformers takes seconds, and a wrong flag or --help should not.
        from adamix_train.run import train

        results = train(recipe, resume=resume)
    except AdaMixError as error:
        sys.exit(f"adamix-train: {error}")
    except OSError as error:
        sys.exit(f"adamix-train: {error}")
    except KeyboardInterrupt:
        sys.exit(f"adamix-train: interrupted; go on from the last whole epoch with --resume --out {recipe.out}")
    results.pop("history")
    if as_json:
        print(json.dumps(results))
    else:
        print("\n".join(f"{name:>20}  {value}" for name, value in results.items()))


def _quieten() -> None:
    """Leave the progress bar and our own words; transformers tells of every new head weight by weight."""
    import peft
    import transformers

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("httpx", "torch", "accelerate", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=peft.utils.warning.PeftWarning)


if __name__ == "__main__":
    main()
