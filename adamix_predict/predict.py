"""Run a job: open its bundle, and predict the rows of its file chunk by chunk."""

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Unpack

from adamix_predict.chunks import ERROR, ChunkPredictor
from adamix_predict.columns import Columns
from adamix_predict.job import Job
from adamix_predict.journal import Journal, identity_of, open_journal
from adamix_predict.predictors import Kind, Predictor, kind_of
from adamix_predict.progress import Progress, count_rows
from adamix_predict.summary import Summary
from adamix_predict.turn import only_job_of
from adamix_predict.writers import check_suffix, open_writer
from adamix_train.errors import RecipeError
from adamix_train.readers.files import READERS, stream_rows
from adamix_train.readers.reader import FileFormat, Row
from serve.bundle.adapter import AdapterCard
from serve.bundle.reader import Bundle, open_bundle
from serve.loaded_model import LoadOptions


def predict(job: Job, **options: Unpack[LoadOptions]) -> Summary:
    """Predict and write the rows of a file; with an error nothing is written.

    Args:
        job: What to predict.
        options: Keyword arguments that open the bundle: provider, threads, slots, host_adapters, cache.

    Raises:
        AdaMixError: The file is missing, empty or malformed, lacks a column, or has a row that cannot be predicted.
        ServeError: The bundle cannot be opened, or has no such adapter.
    """
    if job.out is not None:
        check_suffix(job.out)
    rows = _rows(job)
    first = next(rows)
    bundle = open_bundle(job.bundle)
    kind = kind_of(bundle, job)
    columns = columns_of(job, kind, {})
    columns.check(first)  # before the bundle takes its time to open
    predictor: Predictor = kind.open(bundle, job, **options)
    cards = cards_of(bundle, predictor, job)
    added = predictor.types(list(cards.values())) | ({ERROR: str} if job.keep_bad_rows else {})
    columns = columns_of(job, kind, {name: card.pairs for name, card in cards.items()})
    columns.check(first)
    summary = Summary()
    chunks = ChunkPredictor(job=job, predictor=predictor, columns=columns, added=tuple(added), summary=summary)
    types = {job.prefix + name: kind for name, kind in added.items()}
    progress = Progress(sys.stderr, lambda: count_rows(job.file, job.limit))
    began = time.perf_counter()
    try:
        with (
            only_job_of(job.out),
            _journal(job, bundle, predictor) as journal,
            open_writer(job.out, job.file, types) as write,
        ):
            known = iter(journal.known if journal else ())
            for chunk in _chunks(itertools.islice(itertools.chain([first], rows), job.limit), predictor.chunk_rows):
                values = next(known, None)
                if values is not None:
                    chunks.recall(chunk, values)
                else:
                    values = chunks.predict(chunk)
                    if journal is not None:
                        journal.add(values)
                write(chunks.with_values(chunk, values))
                progress.show(summary.rows)
    finally:
        progress.clear()
    summary.seconds = time.perf_counter() - began
    return summary


def _rows(job: Job) -> Iterator[Row]:
    form = FileFormat(delimiter=job.delimiter, keep_malformed=job.keep_bad_rows)
    return stream_rows(job.file, readers=READERS, form=form)


def _journal(job: Job, bundle: Bundle, predictor: Predictor) -> AbstractContextManager[Journal | None]:
    """Return the journal of a job that may be resumed; None of another."""
    if not job.resume or job.out is None:
        return nullcontext()
    return open_journal(job.out, identity_of(job, bundle, predictor.chunk_rows))


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def cards_of(bundle: Bundle, predictor: Predictor, job: Job) -> dict[str | None, AdapterCard]:
    """Return the adapters that rows may go through, by the names that rows have for them."""
    if job.adapter_column is None:
        cards: dict[str | None, AdapterCard] = {job.adapter: predictor.card(job.adapter)}
    else:
        cards = {name: predictor.card(name) for name in bundle.adapters}
    if job.pair_column and not any(card.pairs for card in cards.values()):
        raise RecipeError("--pair-column is for adapters that take pairs, and this one takes one text: leave it out")
    return cards


def columns_of(job: Job, kind: Kind, pairs: dict[str | None, bool]) -> Columns:
    """Return the columns that are read of every row; `pairs` says of each adapter whether it takes pairs."""
    return Columns(
        source=job.file,
        text=job.text_column or kind.text_column,
        pair=job.pair_column or "pair",
        label=job.label_column,
        adapter=job.adapter_column,
        adapter_name=job.adapter,
        pairs=pairs,
    )
