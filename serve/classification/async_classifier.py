"""A classifier for programs of one event loop: requests that come together run together."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from serve.classification.batcher import Batcher, Limits
from serve.classification.classifier import Classifier
from serve.classification.prediction import Prediction, average
from serve.classification.text_tokenizer import LONG_TEXT, Row, Text, Windows, check_characters, parts
from serve.errors import InputError

TOKENIZERS = 2
"""Threads of an engine that tokenize long texts: more of them would take the processor from the model."""
Made = TypeVar("Made")


class AsyncClassifier:
    """A classifier behind a queue, for the tasks of one event loop; `async with` starts it and, at the end, drains it.

    Texts of all callers share batches, each row through its own adapter.
    """

    def __init__(self, classifier: Classifier, limits: Limits | None = None) -> None:
        self.model = classifier
        limits = limits or Limits(max_batch_tokens=classifier.batch_tokens)
        self.batcher: Batcher[Row, Prediction] = Batcher(classifier.run, limits, streams=classifier.streams)
        self.tokenizers = ThreadPoolExecutor(TOKENIZERS, "adamix-tokens")

    @property
    def draining(self) -> bool:
        """Whether it takes no more texts."""
        return self.batcher.draining

    @property
    def waiting(self) -> int:
        """How many texts wait for a batch."""
        return len(self.batcher.queue)

    @property
    def abandoned(self) -> int:
        """How many texts were taken and never answered, because the end was forced."""
        return self.batcher.abandoned

    async def __aenter__(self) -> Self:
        self.batcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.batcher.drain()

    async def __call__(
        self,
        texts: str | Sequence[Text],
        *,
        adapter: str | Sequence[str | None] | None = None,
        truncate: bool = True,
        windows: bool = False,
        overlap: int | None = None,
        most_rows: int | None = None,
    ) -> list[Prediction]:
        """Classify texts or pairs, as `Classifier` does; with `truncate` off a text that is too long is an error.

        More than `most_rows` rows, which windows over long texts come to, are an error as well, and so is a text with
        more characters than that many rows could have.
        """
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter
        queued = self.batcher.limits.max_queued_rows
        most = queued if most_rows is None else min(queued, most_rows)
        if len(texts) > most:
            raise InputError(f"{len(texts)} texts at once: at most {most} go into one request")
        for text, name in zip(texts, names, strict=True):
            check_characters(text, self.model.registry.find(name).card.max_length * (most if windows else 1))

        def tokenize() -> list[Sequence[Row] | Windows]:
            if windows:
                return list(self._windows(texts, names, overlap=overlap, most=most))
            return [[self.model.row(text, name, truncate=truncate)] for text, name in zip(texts, names, strict=True)]

        rows = await _tokenized(tokenize, texts, self.tokenizers)
        answers = iter(await self.batcher.submit([row for part in rows for row in part]))
        return [average([next(answers) for _ in range(len(part))]) for part in rows]

    def _windows(
        self, texts: Sequence[Text], names: Sequence[str | None], *, overlap: int | None, most: int
    ) -> Iterator[Windows]:
        """Yield the windows of each text; an error once they come to more than `most`, before any of them is made."""
        count = 0
        for index, (text, name) in enumerate(zip(texts, names, strict=True), 1):
            windows = self.model.windows(text, name, overlap=overlap)
            count += len(windows)
            if count > most:
                more = " or more" if index < len(texts) else ""
                raise InputError(f"the texts come to {count} windows{more}; at most {most} go into one request")
            yield windows


async def _tokenized(tokenize: Callable[[], Made], texts: Sequence[Text], tokenizers: Executor) -> Made:
    """Return what texts are made into: outside the event loop, which would stand still, where they are long."""
    if sum(len(part) for text in texts for part in parts(text)) <= LONG_TEXT:
        return tokenize()
    return await asyncio.get_running_loop().run_in_executor(tokenizers, tokenize)
