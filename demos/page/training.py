"""A training run from a CSV file to an adapter that is served: train, export, load, each shown as it goes on."""

import json
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demos.page.catalog import AdapterFacts, Catalog
from demos.page.child_process import run_command
from demos.page.csv_batch import read_csv
from demos.page.server_client import PageError, ServerClient
from demos.page.training_place import TASKS, TrainingPlace
from serve.bundle.adapter import check_adapter_name
from serve.errors import BundleError

LOG = "log.jsonl"
"""File of a run to which adamix-train adds what it logs."""
MIN_ROWS = 10
REFUSED = (400, 404, 422)
"""Statuses of a server that may load adapters, and not this one."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Adapter that is asked for, from the rows of a file."""

    name: str
    file: Path
    text_column: str
    label_column: str
    model: AdapterFacts
    """Adapter whose base, kind, rank, number of modules and maximum length the new one has."""
    epochs: float | None = None
    """Passes over the rows; None leaves them to adamix-train."""
    api_key: str | None = None


@dataclass(kw_only=True)
class TrainingState:
    """How far a run has come."""

    stage: str = ""
    entries: list[dict[str, Any]] = field(default_factory=list)
    """Entries logged so far."""
    parity: dict[str, Any] | None = None
    """Comparison of the exported adapter with PyTorch, once it is served."""


async def train_adapter(
    client: ServerClient, place: TrainingPlace, catalog: Catalog, request: TrainingRequest
) -> AsyncGenerator[TrainingState, None]:
    """Yield the state of a run now and then until its adapter is served; closing the iterator ends the run.

    Raises:
        PageError: The file, the name or the key is not usable, the run failed, or the server refuses the adapter.
    """
    _check_request(place, catalog, request)
    await _check_key(client, request)
    if place.turn.locked():
        raise PageError("Another training is going on here: wait for its end.")
    state = TrainingState(stage="Reading the rows and the base")
    async with place.turn:
        with tempfile.TemporaryDirectory(prefix="adamix-page-", ignore_cleanup_errors=True) as scratch:
            async with aclosing(_steps(client, place, request, state, Path(scratch))) as steps:
                async for _ in steps:
                    yield state


async def _steps(
    client: ServerClient, place: TrainingPlace, request: TrainingRequest, state: TrainingState, scratch: Path
) -> AsyncGenerator[None, None]:
    run, out = scratch / request.name, scratch / "exported"
    try:
        async with aclosing(_run("adamix_train.cli", _training_arguments(place, request, run), scratch)) as looks:
            async for _ in looks:
                state.entries = read_log(run / LOG)
                state.stage = "Training" if state.entries else state.stage
                yield
        state.entries, state.stage = read_log(run / LOG), "Exporting, and comparing with PyTorch"
        arguments = [f"{request.name}={run}", str(out), "--shape", "adapter", "--json"]
        async with aclosing(_run("adamix_export.cli", arguments, scratch)) as looks:
            async for _ in looks:
                yield
    except PageError as error:
        raise PageError(str(error).replace(str(request.file), request.file.name)) from error
    parity = json.loads((scratch / "stdout").read_text("utf-8"))["parity"][request.name]
    state.stage = "Loading into the server"
    yield
    _publish(out, place.adapter_dir / request.name)
    await _load(client, place, request)
    state.stage, state.parity = "Served", parity
    yield


async def _load(client: ServerClient, place: TrainingPlace, request: TrainingRequest) -> None:
    """Load a new adapter into the server; one that it refuses is deleted, and otherwise kept."""
    body = {"lora_name": request.name, "lora_path": request.name}
    try:
        await client.post("/v1/load_lora_adapter", body, api_key=request.api_key)
    except PageError as error:
        if error.status in REFUSED:
            shutil.rmtree(place.adapter_dir / request.name, ignore_errors=True)
            raise
        kept = f"The adapter is in the folder {request.name} below --adapter-dir: load it in the tab Adapters."
        raise PageError(f"{error} {kept}", status=error.status) from error


def _run(module: str, arguments: Sequence[str], scratch: Path) -> AsyncGenerator[None, None]:
    return run_command(module, arguments, out=scratch / "stdout", log=scratch / "stderr")


def _training_arguments(place: TrainingPlace, request: TrainingRequest, run: Path) -> list[str]:
    model = request.model
    options: dict[str, object] = {
        "base": place.base_of(model),
        "task": TASKS[model.bundle.task],
        "train-file": request.file,
        "delimiter": "comma",
        "text-column": request.text_column,
        "label-column": request.label_column,
        "kind": model.kind,
        "r": model.rank or 8,
        "num-modules": model.num_modules or 1,
        "max-length": model.max_length,
        "epochs": request.epochs,
        "report-to": "none",
        "out": run,
    }
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def read_log(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log so far; a line that is still being written is left out."""
    if not file.is_file():
        return []
    lines = file.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _publish(folder: Path, target: Path) -> None:
    """Put an adapter's folder where the server finds it, whole or not at all."""
    partial = target.with_name(f".{target.name}-partial")
    try:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        partial.rename(target)
    except OSError as error:
        raise PageError(f"{target} cannot be written: {error.strerror}.") from error


def _check_request(place: TrainingPlace, catalog: Catalog, request: TrainingRequest) -> None:
    """Raise a PageError for what would fail only after minutes, or could not be told apart later."""
    try:
        check_adapter_name(request.name)
    except BundleError as error:
        raise PageError(f"{error}.") from error
    target = place.adapter_dir / request.name
    if request.name in catalog.adapters or request.name in catalog.generators or target.exists():
        raise PageError(f"There is an adapter called {request.name} already: give another name.")
    content = read_csv(request.file)
    if request.text_column == request.label_column:
        raise PageError("Choose two different columns, one with the texts and one with the labels.")
    for column in (request.text_column, request.label_column):
        if column not in content.columns:
            raise PageError(
                f"{request.file.name} has no column {column}; its columns are {', '.join(content.columns)}."
            )
    if len(content.rows) < MIN_ROWS:
        raise PageError(f"{request.file.name} has {len(content.rows)} rows: give {MIN_ROWS} at least.")


async def _check_key(client: ServerClient, request: TrainingRequest) -> None:
    """Raise a PageError if the server would not load an adapter at the end: it is asked for one that is not there."""
    body = {"lora_name": request.name, "lora_path": request.name}
    try:
        await client.post("/v1/load_lora_adapter", body, api_key=request.api_key)
    except PageError as error:
        if error.status not in REFUSED:
            raise
