"""Carry out one run of the grid: `python -m benchmarks.quality.one FOLDER`, which has order.json."""

import json
import shutil
import sys
import time
import warnings
from pathlib import Path

import transformers

from adamix_train.artifacts.atomic_write import write_text
from adamix_train.recipe.flags import make_recipe
from adamix_train.run.train import train
from benchmarks.quality.routes import compare_routes


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
