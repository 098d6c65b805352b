"""Predict files that outgrow one machine: Ray Data reads them, sends their rows to predictors, and writes.

Files are Parquet, JSONL or CSV, on a file system that pyarrow knows: of the nodes, or an object store. Predictors are
the same as those of one machine, each in a process with a bundle of its own.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from pyarrow import csv
from ray.data.datasource import FilenameProvider
from ray.exceptions import RayError

from adamix_predict.chunks import ERROR, ChunkPredictor
from adamix_predict.job import Job
from adamix_predict.predict import cards_of, columns_of
from adamix_predict.predictors import Kind, kind_of
from adamix_predict.ray_places import absolute, check_apart, files_of, form_of, located, make_room, remove, suffix_of
from adamix_predict.summary import Summary
from adamix_train.errors import AdaMixError, DataError
from adamix_train.readers.reader import Row
from serve.bundle.reader import open_bundle
from serve.cluster.connection import connect
from serve.errors import InputError, ServeError, UnknownAdapter, shortened
from serve.loaded_model import LoadOptions

TYPES: Mapping[type, pa.DataType] = {str: pa.string(), float: pa.float64()}
SHOWN_CHARACTERS = 80
"""Characters of a row that an error quotes: rows have no numbers where files are read in parts."""


@dataclass(frozen=True, kw_only=True)
class RayPlan:
    """A job on a cluster."""

    job: Job
    """Bundle and columns; `file` and `out` are those below."""
    source: str
    """File or folder that is read, a path or a URI such as s3://bucket/rows."""
    out: str
    """Folder that is written, likewise."""
    address: str
    predictors: int | None = None
    """Most predictors at a time; None takes as many as the cluster has cores for."""


class BatchPredictor:
    """One predictor of a cluster."""

    def __init__(self, job: Job, options: LoadOptions, counts: Any) -> None:
        """Open the bundle; `counts` is the actor that counts for all."""
        bundle = open_bundle(job.bundle)
        kind = kind_of(bundle, job)
        predictor = kind.open(bundle, job, **options)
        cards = cards_of(bundle, predictor, job)
        self.added = predictor.types(list(cards.values())) | ({ERROR: str} if job.keep_bad_rows else {})
        columns = columns_of(job, kind, {name: card.pairs for name, card in cards.items()})
        self.summary, self.counts, self.job = Summary(), counts, job
        self.chunks = ChunkPredictor(
            job=job, predictor=predictor, columns=columns, added=tuple(self.added), summary=self.summary
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return rows with the columns of their predictions, in the same types whatever the rows are."""
        rows = [Row(values, _place(values)) for values in table.to_pylist()]
        before = (self.summary.bad_rows, self.summary.cut_texts)
        found = self.chunks.predict(rows)
        for name, kind in self.added.items():
            values = pa.array([one.get(name) for one in found], TYPES[kind])
            table = table.append_column(self.job.prefix + name, values)
        bad, cut = self.summary.bad_rows - before[0], self.summary.cut_texts - before[1]
        ray.get(self.counts.add.remote(len(rows), bad, cut))
        return table


class Counts:
    """Counts of all predictors."""

    def __init__(self) -> None:
        self.total = Summary()

    def add(self, rows: int, bad_rows: int, cut_texts: int) -> None:
        """Count rows."""
        self.total.rows += rows
        self.total.bad_rows += bad_rows
        self.total.cut_texts += cut_texts

    def summary(self) -> Summary:
        """Return the counts."""
        return self.total


def predict_on_ray(plan: RayPlan, options: LoadOptions) -> Summary:
    """Predict all rows, and write them into a folder; with an error there is none.

    Raises:
        AdaMixError: The files are missing or malformed, the folder exists, or a row cannot be predicted.
        ServeError: The bundle cannot be opened, or has no such adapter.
    """
    plan = replace(plan, source=absolute(plan.source), out=absolute(plan.out))  # predictors run in other folders
    form = form_of(plan.source, READERS)
    written = suffix_of(plan.out) or form
    if written not in WRITERS:
        raise DataError(f"--out {plan.out} ends in {written}; folders are written as {', '.join(WRITERS)}")
    check_apart(plan.out, (plan.source, str(plan.job.bundle)))
    with redirect_stdout(sys.stderr), _connected(plan.address):  # Ray's own lines are no part of the output
        return _predict(plan, options, form, written)


def _predict(plan: RayPlan, options: LoadOptions, form: str, written: str) -> Summary:
    job = replace(plan.job, bundle=plan.job.bundle.absolute(), out=None, resume=False)
    counts = ray.remote(num_cpus=0)(Counts).remote()
    cores = options.get("threads") or 1
    most = plan.predictors or max(1, int(ray.cluster_resources().get("CPU", 1) // cores))
    chunk_rows = _checked_kind(job).open.chunk_rows
    ray.data.DataContext.get_current().raise_original_map_exception = True
    began = time.perf_counter()
    make_room(plan.out, force=plan.job.force, suffixes=READERS)
    try:
        rows = READERS[form](plan)
        predicted = (rows if job.limit is None else rows.limit(job.limit)).map_batches(
            BatchPredictor,
            fn_constructor_args=(job, LoadOptions(**{**options, "threads": cores}), counts),
            batch_format="pyarrow",
            batch_size=chunk_rows,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=cores,
        )
        WRITERS[written](predicted, plan.out)
    except Exception as error:
        remove(plan.out)
        raise _own(error) from error
    summary: Summary = ray.get(counts.summary.remote())
    summary.seconds = time.perf_counter() - began
    return summary


def _checked_kind(job: Job) -> Kind:
    """Return the kind of a job's bundle; raise here, in one line, what would end every predictor."""
    bundle = open_bundle(job.bundle)
    own = [name for name, one in bundle.adapters.items() if one.card.member_of not in bundle.adapters]
    if job.adapter is not None and job.adapter not in bundle.adapters:
        raise UnknownAdapter(f"there is no adapter {job.adapter!r} here; there are {', '.join(own)}")
    if job.adapter is None and job.adapter_column is None and len(own) != 1:
        raise InputError(f"name an adapter with --adapter or --adapter-column: {', '.join(own)}")
    return kind_of(bundle, job)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connect to a cluster until the block ends, unless the process is connected."""
    if ray.is_initialized():
        yield
        return
    connect(address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _own(error: BaseException) -> BaseException:
    """Return the error of this project that is the cause of an error of Ray; that itself if there is none."""
    found: BaseException | None = error
    while found is not None:
        cause = getattr(found, "cause", None)
        for one in (cause, found):
            if type(one).__module__.startswith(("adamix", "serve.")) and isinstance(one, AdaMixError | ServeError):
                return one
            if isinstance(one, ValueError | OSError) and not isinstance(one, RayError):  # such as of a short row
                return DataError(f"the rows could not be read or written: {' '.join(str(one).split())}")
        found = cause or found.__cause__
    return error


def _read_csv(plan: RayPlan, *, suffix: str, delimiter: str) -> Any:
    """Read all values as they are written: no number loses its zeros."""
    parse = csv.ParseOptions(delimiter=plan.job.delimiter or delimiter, newlines_in_values=True)
    return ray.data.read_csv(
        plan.source,
        file_extensions=[suffix.removeprefix(".")],
        parse_options=parse,
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(_header(plan.source, suffix, parse), pa.string())
        ),
    )


def _header(source: str, suffix: str, parse: csv.ParseOptions) -> Sequence[str]:
    system, _ = located(source)
    first = min(one for one in files_of(source) if suffix_of(one) == suffix)
    with system.open_input_stream(first) as stream, csv.open_csv(stream, parse_options=parse) as reader:
        names: Sequence[str] = reader.schema.names
    return names


def _place(values: Mapping[str, Any]) -> str:
    return f"the row {shortened(str(values), SHOWN_CHARACTERS)}"


READERS: dict[str, Callable[[RayPlan], Any]] = {
    ".parquet": lambda plan: ray.data.read_parquet(plan.source),
    ".jsonl": lambda plan: ray.data.read_json(plan.source, file_extensions=["jsonl"]),
    ".csv": partial(_read_csv, suffix=".csv", delimiter=","),
    ".tsv": partial(_read_csv, suffix=".tsv", delimiter="\t"),
}
"""Readers by suffix."""
WRITERS: dict[str, Callable[[Any, str], None]] = {
    ".parquet": lambda rows, out: rows.write_parquet(out),
    ".jsonl": lambda rows, out: rows.write_json(out, filename_provider=FilenameProvider(file_format="jsonl")),
    ".csv": lambda rows, out: rows.write_csv(out),
    ".tsv": lambda rows, out: rows.write_csv(
        out,
        filename_provider=FilenameProvider(file_format="tsv"),
        arrow_csv_args_fn=lambda: {"write_options": csv.WriteOptions(delimiter="\t")},
    ),
}
"""Writers by suffix of the folder, or of the files that are read."""
