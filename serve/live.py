"""A classifier for programs that serve: calls that come together run together."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from serve.classify import Classifier, Prediction, average
from serve.errors import InputError
from serve.scheduler import Batcher, Limits
from serve.tokens import Row, Text, parts

LONG_TEXT = 20_000
"""Characters above which texts are tokenized outside the event loop."""


class AsyncClassifier:
    """A classifier behind a queue, for the tasks of one event loop; `async with` starts it and, at the end, drains it.

    Texts of all callers share batches, each row through its own adapter.
    """

    def __init__(self, classifier: Classifier, limits: Limits | None = None) -> None:
        self.classifier = classifier
        limits = limits or Limits(max_batch_tokens=classifier.batch_tokens)
        self.batcher: Batcher[Row, Prediction] = Batcher(classifier.run, limits, streams=classifier.streams)

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

        More than `most_rows` rows, which windows over long texts come to, are an error as well.
        """
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter

        def tokenize() -> list[list[Row]]:
            return [
                self.classifier.windows(text, name, overlap=overlap)
                if windows
                else [self.classifier.row(text, name, truncate=truncate)]
                for text, name in zip(texts, names, strict=True)
            ]

        characters = sum(len(part) for text in texts for part in parts(text))
        rows = await asyncio.to_thread(tokenize) if characters > LONG_TEXT else tokenize()
        flat = [row for part in rows for row in part]
        if most_rows is not None and len(flat) > most_rows:
            raise InputError(f"the texts come to {len(flat)} windows; at most {most_rows} go into one request")
        answers = iter(await self.batcher.submit(flat))
        return [average([next(answers) for _ in part]) for part in rows]
