"""Carry out runs of the grid: `python -m benchmarks.quality.one` takes their folders, each with order.json, by lines.

For each it answers with a line: `done`, or the error that the run ended with.
"""

import json
import os
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

import transformers

from adamix_train.artifacts.atomic_write import write_text
from adamix_train.errors import one_line
from adamix_train.recipe.flags import make_recipe
from adamix_train.run.train import train
from benchmarks.quality.routes import compare_routes
from benchmarks.quality.worker import DONE


def main(folder: Path) -> None:
    """Train, measure, keep the record and throw the weights away."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    order = json.loads((folder / "order.json").read_text())
    recipe = make_recipe(None, order["recipe"])
    shutil.rmtree(recipe.out, ignore_errors=True)
    start = time.monotonic()
    results = train(recipe)
    seconds = time.monotonic() - start
    routes = compare_routes(recipe) if order["routes"] else {}
    record = {**results, "seconds": seconds, "recipe": order["recipe"], "routes": routes}
    shutil.rmtree(recipe.out)
    write_text(folder / "record.json", json.dumps(record, indent=2))


def answer(folder: Path) -> str:
    """Carry out a run and return the line that says how it ended."""
    try:
        main(folder)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {one_line(error)}"
    return DONE


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a run prints is no answer
    for line in sys.stdin:
        print(answer(Path(line.rstrip("\n"))), file=answers, flush=True)
