"""A generator for programs of one event loop, stepped by a thread."""

import asyncio
import contextlib
import threading
from collections import abc
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from serve.classification.async_classifier import TOKENIZERS, _tokenized
from serve.classification.text_tokenizer import check_characters
from serve.errors import Draining
from serve.generation.generator import Generator, schemas
from serve.generation.prompts import Prompt
from serve.generation.request import Generation, cancel
from serve.generation.result import Written, one_answer, written
from serve.generation.sampling.params import GREEDY, Sampling


class AsyncGenerator:
    """A generator for the tasks of one event loop, stepped by a thread; `async with` starts and drains it."""

    def __init__(self, generator: Generator, *, on_end: Callable[[Generation], None] = lambda generation: None) -> None:
        """`on_end` is called in the loop with every text that has ended."""
        self.model, self.engine, self.on_end = generator, generator.engine, on_end
        self.tokenizers = ThreadPoolExecutor(TOKENIZERS, "adamix-tokens")
        self.change = threading.Condition()
        self.draining = False
        """Whether it takes no more texts."""
        self.abandoned = 0
        """Texts that were taken and never written to their end, because the end was forced."""
        self.worker = threading.Thread(target=self._work, name="adamix-steps", daemon=True)

    @property
    def waiting(self) -> int:
        """How many texts wait for a row."""
        return self.engine.queued

    async def __aenter__(self) -> Self:
        self.worker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def __call__(
        self,
        texts: str | Sequence[str],
        *,
        adapter: str | Sequence[str | None] | None = None,
        sampling: Sampling = GREEDY,
        truncate: bool = True,
    ) -> list[Written]:
        """Write a text for each of `texts`, as `Generator` does."""
        prompts = await self.prompts(texts, adapter, answers=sampling.n, truncate=truncate)
        return await self.write(await self.generations(prompts, sampling))

    async def stream(
        self, text: str, *, adapter: str | None = None, sampling: Sampling = GREEDY, truncate: bool = True
    ) -> AsyncIterator[str]:
        """Yield a text as it is written; whoever stops listening stops the writing."""
        prompts = await self.prompts(text, adapter, truncate=truncate)
        (generation,) = await self.generations(prompts, one_answer(sampling))
        async with contextlib.aclosing(self.follow(generation)) as pieces:
            async for piece in pieces:
                yield piece

    async def generations(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Generation]:
        """Return texts that have not been begun; a schema is compiled meanwhile, as long as the caller waits for it."""
        self._check_draining()
        wanted = schemas(prompts, sampling)
        grammars = {ends: await self.model.guides.compiled(schema, ends) for schema, ends in wanted}
        return self.model.begin(prompts, sampling, grammars)

    async def prompts(
        self,
        texts: str | Sequence[str],
        adapter: str | Sequence[str | None] | None = None,
        *,
        answers: int = 1,
        truncate: bool = True,
    ) -> list[Prompt]:
        """Return the prompts of inputs, as `Generator.prompts` does.

        More `answers` to them than may wait are an error, and so is an input with more characters than its adapter
        could read.
        """
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter
        self.engine.check_count(len(texts) * answers)
        for text, name in zip(texts, names, strict=True):
            check_characters(text, self.model.find(name).card.max_length)
        return await _tokenized(partial(self.model.prompts, texts, names, truncate=truncate), texts, self.tokenizers)

    async def write(self, generations: Sequence[Generation]) -> list[Written]:
        """Have texts written to their end; if one fails, or nobody waits any more, all stop."""
        try:
            await asyncio.gather(*self._submit(generations))
        finally:
            cancel(generations)
        return [written(generation) for generation in generations]

    async def follow(self, generation: Generation) -> abc.AsyncGenerator[str, None]:
        """Yield the pieces of a text as it is written."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str]()
        generation.on_text = lambda piece: _call(loop, pieces.put_nowait, piece)
        (waiting,) = self._submit([generation])
        ended = asyncio.create_task(waiting)
        ended.add_done_callback(lambda _: pieces.put_nowait(""))
        try:
            while piece := await pieces.get():
                yield piece
            await ended
        finally:
            cancel([generation])
            ended.cancel()

    async def drain(self) -> None:
        """Take no more texts and return when all that were taken are written."""
        self.draining = True
        self.model.guides.stop()
        self._wake()
        await asyncio.to_thread(self.worker.join)

    def _submit(self, generations: Sequence[Generation]) -> list[Coroutine[None, None, None]]:
        """Queue texts, all or none; return what waits for the end of each, and raises its error."""
        self._check_draining()
        loop, ends = asyncio.get_running_loop(), [asyncio.Event() for _ in generations]
        for generation, ended in zip(generations, ends, strict=True):
            generation.on_end = partial(_call, loop, ended.set)
        self.engine.submit(*generations)
        self._wake()
        return [self._ended(generation, ended) for generation, ended in zip(generations, ends, strict=True)]

    def _check_draining(self) -> None:
        if self.draining:
            raise Draining("the server is stopping; send the request to another one")

    async def _ended(self, generation: Generation, ended: asyncio.Event) -> None:
        try:
            await ended.wait()
        except asyncio.CancelledError:
            self.abandoned += self.draining
            raise
        self.on_end(generation)
        if generation.error is not None:
            raise generation.error

    def _wake(self) -> None:
        with self.change:
            self.change.notify_all()

    def _work(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(lambda: self.draining or self.engine.busy)
            if not self.engine.busy:
                return
            with self.model.turn:
                self.engine.step()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a loop, which may have ended meanwhile: then nobody waits for it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
