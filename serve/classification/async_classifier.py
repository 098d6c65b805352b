"""The classification engine behind the seam: requests of one event loop share batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tokenizers import Tokenizer

from serve.api_keys import tenant_of
from serve.async_engine import AsyncEngine
from serve.bundle.adapter import Adapter
from serve.classification.batcher import Batcher
from serve.classification.classifier import Classifier, Members
from serve.classification.row_queue import QueuedRow
from serve.classification.text_rows import TextRows, runs_of
from serve.classification.text_tokenizer import EncodedText, parts
from serve.engine import BatchFinished, Capability, EngineInfo, EngineStats
from serve.errors import InputError
from serve.events import Stage
from serve.limits import BatchLimits
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, Text, adapter_names
from serve.runtime.tokenization import check_characters

Adapters = Mapping[str | None, Adapter]
"""The adapters of a request by the names it has for them."""


class AsyncClassifier(AsyncEngine):
    """A classifier behind a queue; `async with` starts it and, at the end, drains it.

    Texts of all callers share batches, each row through its own adapter.
    """

    capabilities = frozenset({Capability.CLASSIFY})

    def __init__(self, classifier: Classifier, limits: BatchLimits | None = None) -> None:
        super().__init__(classifier.model, classifier.registry)
        self.classifier = classifier
        self.limits = limits or BatchLimits(max_batch_tokens=classifier.batch_tokens)
        self.batcher: Batcher[EncodedText, Prediction] = Batcher(
            classifier.run, self.limits, streams=classifier.streams, on_batch=self._batch_finished
        )

    async def __call__(
        self,
        texts: str | Sequence[Text],
        *,
        adapter: str | Sequence[str | None] | None = None,
        truncate: bool = True,
        windows: bool = False,
        overlap: int | None = None,
        members: bool = False,
    ) -> list[Prediction]:
        """Classify texts or pairs, as `Classifier` does; without `truncate` a text that is too long is an error."""
        texts = [texts] if isinstance(texts, str) else texts
        names = adapter_names(adapter, len(texts))
        request = ClassificationRequest(
            texts=texts, adapters=names, truncate=truncate, windows=windows, overlap=overlap, members=members
        )
        return await self.classify(request)

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Return one prediction for each text; see `ClassificationEngine.classify`."""
        limit = self._max_rows(request)
        adapters = self.registry.find_each(request.adapters)
        members = self.classifier.members(adapters, asked=request.members)
        self._check_size(request, adapters, members, limit)

        def tokenize() -> list[TextRows]:
            return list(self._rows(request, adapters, members, limit))

        characters = sum(len(part) for text in request.texts for part in parts(text))
        with self.stage(Stage.TOKENIZE):
            rows = await self.tokenizer_threads.run(tokenize, characters)
        with self.stage(Stage.CLASSIFY), self.watch_device():
            queued = [row for part in rows for row in part]
            tenants = [tenant_of(row.adapter.card.name) for row in queued]
            predictions = iter(await self.batcher.submit(queued, tenants))
        return [part.combine(predictions) for part in rows]

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, which neither truncates nor pads."""
        return self.classifier.tokenizer.tokenizer

    def info(self) -> EngineInfo:
        """Return the facts of the bundle, and whether it is served as an ensemble."""
        return replace(super().info(), ensemble=self.classifier.ensemble)

    def stats(self) -> EngineStats:
        """Return the counts of this moment."""
        return self.loaded.stats(
            self.classifier.cards,
            draining=self.batcher.draining,
            failure=self.failure,
            waiting=len(self.batcher.queue),
            running=self.batcher.running_rows,
            waiting_adapters=frozenset(item.row.adapter.card.name for item in self.batcher.queue),
            abandoned=self.batcher.abandoned,
        )

    async def start(self) -> None:
        """Begin to form batches, in the running event loop."""
        self.batcher.start()

    async def drain(self) -> None:
        """Refuse new requests and return when all accepted ones are answered."""
        await self.batcher.drain()

    def _max_rows(self, request: ClassificationRequest) -> int:
        queued = self.limits.max_queued_requests
        return queued if request.max_windows is None else min(queued, request.max_windows)

    def _check_size(self, request: ClassificationRequest, adapters: Adapters, members: Members, limit: int) -> None:
        """Refuse too many texts or characters before anything is tokenized."""
        runs = [self._runs(name, members) for name in request.adapters]
        if sum(runs) > limit:
            times = f", each through its adapter's members, are {sum(runs)} rows" if members else ""
            raise InputError(f"{len(request.texts)} texts at once{times}: at most {limit} go into one request")
        for text, name, count in zip(request.texts, request.adapters, runs, strict=True):
            longest = adapters[name].card.max_length
            check_characters(sum(map(len, parts(text))), longest * (limit // count if request.windows else 1))

    def _runs(self, name: str | None, members: Members) -> int:
        """Return the number of adapters that a text goes through."""
        return runs_of(members.get(name, ()), ensemble=self.classifier.ensemble)

    def _rows(
        self, request: ClassificationRequest, adapters: Adapters, members: Members, limit: int
    ) -> Iterator[TextRows]:
        """Yield the rows of each text; raise an InputError before more than `limit` of them are built."""
        count = 0
        for index, (text, name) in enumerate(zip(request.texts, request.adapters, strict=True), 1):
            rows = self.classifier.rows(
                text,
                adapters[name],
                members.get(name, ()),
                truncate=request.truncate,
                windows=request.windows,
                overlap=request.overlap,
            )
            count += len(rows)
            if count > limit:
                more = " or more" if index < len(request.texts) else ""
                times = ", each through its adapter's members" if members else ""
                raise InputError(f"the texts have {count} windows{more}{times}; at most {limit} go into one request")
            yield rows

    def _batch_finished(self, batch: Sequence[QueuedRow[EncodedText, Prediction]], start: float, took: float) -> None:
        rows = [item.row for item in batch]
        lengths = [len(row) for row in rows]
        event = BatchFinished(
            adapters=[row.adapter.card.name for row in rows],
            distinct_adapters=len({row.adapter.card.sha256 for row in rows}),
            tokens=sum(lengths),
            padding_tokens=len(rows) * max(lengths) - sum(lengths),
            queue_seconds=start - min(item.since for item in batch),
            run_seconds=took,
            start_time=start,
            row_tokens=lengths,
            queued_times=[item.since for item in batch],
            requests=[item.request for item in batch],
        )
        for request in {item.request for item in batch}:
            if request is not None and request.batches is not None:
                request.batches.append(event)
        self.report(event)
