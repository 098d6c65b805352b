"""The loop of a peer that runs jobs: a line of JSON in, a line of JSON out. Output of libraries goes to stderr."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def answer(do: Callable[[dict[str, Any]], Any]) -> None:
    """Say that the peer is ready, and then what `do` returns for each job."""
    answer_once_made(lambda: do)


def answer_by_methods(make: Callable[[], object]) -> None:
    """Make what has a method for each kind of job; then answer each with the method that it names as `do`."""

    def made() -> Callable[[dict[str, Any]], Any]:
        worker = make()
        return lambda job: getattr(worker, job["do"])(job)

    answer_once_made(made)


def decoder_arguments(argv: list[str] | None = None) -> dict[str, Any]:
    """Return what a decoder is opened with: a model's folder, and a precision and a folder of adapters if given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("precision", nargs="?")
    parser.add_argument("--adapters", type=Path)
    return vars(parser.parse_args(argv))


def answer_once_made(make: Callable[[], Callable[[dict[str, Any]], Any]]) -> None:
    """Make what does the jobs, whose library may write while it opens a model; then answer with it."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        do = make()
        print(json.dumps("ready"), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(do(json.loads(line))), file=out, flush=True)
