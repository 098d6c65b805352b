"""The generation engine behind the seam: requests of one event loop, stepped by a thread."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from tokenizers import Tokenizer

from serve.adapters.base_adapter import BASE
from serve.async_engine import AsyncEngine
from serve.bundle.adapter import AdapterCard
from serve.engine import Capability, EngineStats, ModelInfo, SequenceFinished
from serve.errors import DeadlineExceeded, ShuttingDown
from serve.events import Stage
from serve.generated_text import GenerationResult, StreamEvent, TextDelta
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt, characters_of, check_size
from serve.generation.request import SequenceState, cancel
from serve.generation.result import check_streamable, results_of, stripped
from serve.generation.sampling.structured_output import Grammar
from serve.generation.sequence_factory import constraints_of
from serve.generation.text_stream import TextStream
from serve.requests import GenerationRequest, adapter_names
from serve.sampling_params import GREEDY, SamplingParams

STOPPING = "the server is stopping; send the request to another one"


class AsyncTextGenerator(AsyncEngine):
    """A generator for the tasks of one event loop; `async with` starts it and, at the end, drains it.

    Sequences of all callers share batches, each through its own adapter.
    """

    capabilities = frozenset({Capability.GENERATE})

    def __init__(self, generator: Generator) -> None:
        super().__init__(generator.model, generator.registry)
        self.generator, self.scheduler = generator, generator.scheduler
        self.change = threading.Condition()
        """Notified when sequences have been submitted, or the end has been announced."""
        self.stopping = self.draining = False
        self.abandoned = 0
        """Sequences whose caller was cancelled before their end: a forced shutdown or a client that disconnected."""
        self.worker: threading.Thread | None = None

    async def __call__(
        self,
        texts: str | Sequence[str],
        *,
        adapter: str | Sequence[str | None] | None = None,
        sampling: SamplingParams = GREEDY,
        truncate: bool = True,
    ) -> list[GenerationResult]:
        """Generate a text for each input, as `Generator` does, without white space around it."""
        texts = [texts] if isinstance(texts, str) else texts
        names = adapter_names(adapter, len(texts))
        request = GenerationRequest(prompts=texts, adapters=names, sampling=sampling, truncate=truncate)
        return [stripped(result) for result in await self.generate(request)]

    async def stream_text(
        self, text: str, *, adapter: str | None = None, sampling: SamplingParams = GREEDY, truncate: bool = True
    ) -> AsyncIterator[str]:
        """Stream the text that is generated for an input. Closing the iterator cancels the request."""
        check_streamable(sampling)
        request = GenerationRequest(prompts=[text], adapters=[adapter], sampling=sampling, truncate=truncate)
        async with contextlib.aclosing(self.stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield event.text

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Return `sampling.n` results for each prompt; see `GenerationEngine.generate`."""
        sequences = await self._sequences(request)
        try:
            with self.stage(Stage.GENERATE), self.watch_device():
                await asyncio.gather(*self._submit(sequences))
        finally:
            cancel(sequences)
        texts = self.generator.token_texts
        return [result for place, sequence in enumerate(sequences) for result in results_of(sequence, texts, place)]

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream the texts of a request; see `GenerationEngine.stream`."""
        sequences = await self._sequences(request)
        stream = TextStream(sequences, self.generator.token_texts, partial(_call_in_loop, asyncio.get_running_loop()))
        ends = [asyncio.create_task(waiting) for waiting in self._submit(sequences)]
        try:
            with self.stage(Stage.GENERATE), self.watch_device():
                async for event in stream.events(ends):
                    yield event
        finally:
            cancel(sequences)
            for end in ends:
                end.cancel()

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, which neither truncates nor pads."""
        return self.generator.tokenizer

    def models(self) -> list[ModelInfo]:
        """Return the adapters that are served, and the base model of a bank."""
        base = self.model(BASE) if BASE not in self.registry.adapters else None
        return super().models() + ([base] if base else [])

    def model(self, name: str) -> ModelInfo | None:
        """Return the adapter of this name, or the base model, or None."""
        found = super().model(name)
        if found is None and name == BASE and self.generator.base is not None:
            return replace(self.describe(self.generator.base.card), is_base=True)
        return found

    def describe(self, card: AdapterCard) -> ModelInfo:
        """Return the public facts of an adapter."""
        encoder = self.generator.prompt_encoder
        return replace(
            super().describe(card), prompt=card.prompt, chat=encoder.chat_form(card), tools=encoder.tool_form(card)
        )

    def serves(self, name: str) -> bool:
        """Return whether there is an adapter of this name, or the base model has it and requests can select that."""
        return super().serves(name) or (name == BASE and self.generator.base is not None)

    def stats(self) -> EngineStats:
        """Return the counts of this moment."""
        return self.loaded.stats(
            self.generator.cards,
            draining=self.draining,
            failure=self.failure,
            waiting=self.scheduler.waiting,
            running=len(self.scheduler.buckets.sequences()),
            abandoned=self.abandoned,
            active_sequences=len(self.scheduler.buckets.rows),
            tokens_in_flight=self.scheduler.buckets.tokens_in_flight,
            max_tokens_in_flight=self.scheduler.limits.max_tokens_in_flight,
            running_adapters=self.scheduler.running_adapters,
            waiting_adapters=self.scheduler.queue.adapters,
        )

    async def start(self) -> None:
        """Begin to step, in a thread."""
        self.worker = threading.Thread(target=self._work, name="adamix-steps", daemon=True)
        self.worker.start()

    def prepare_to_drain(self) -> None:
        """Cancel the compilation of schemas, and refuse requests that need one."""
        self.stopping = True
        self.generator.grammars.stop()

    async def drain(self) -> None:
        """Refuse new requests and return when all accepted ones are answered."""
        self.draining = True
        self.prepare_to_drain()
        self._wake()
        if self.worker is not None:
            await asyncio.to_thread(self.worker.join)

    async def _sequences(self, request: GenerationRequest) -> list[SequenceState]:
        """Return sequences that have not begun; what no request may ask is refused before anything is tokenized."""
        generator, sampling, arrival = self.generator, request.sampling, time.monotonic()
        self.scheduler.queue.check_count(len(request.prompts) * sampling.n)
        found = {name: generator.find(name) for name in dict.fromkeys(request.adapters)}
        adapters = [found[name] for name in request.adapters]  # of one moment: none that comes later answers a part
        for prompt, adapter in zip(request.prompts, adapters, strict=True):
            check_size(prompt, adapter.card.max_length)
        characters = sum(map(characters_of, request.prompts))
        with self.stage(Stage.TOKENIZE):
            prompts = await self.tokenizer_threads.run(partial(generator.prompts_of, request, adapters), characters)
        self._check_open()
        with self.stage(Stage.COMPILE_GRAMMAR) if sampling.is_constrained else contextlib.nullcontext():
            grammars = await self._grammars(prompts, sampling)
        return generator.factory.of_request(request, prompts, grammars, arrival_time=arrival)

    async def _grammars(self, prompts: Sequence[Prompt], sampling: SamplingParams) -> dict[tuple[int, ...], Grammar]:
        """Return the grammars of a request's schema, by the end-of-sequence tokens of its adapters."""
        grammars, timeout = self.generator.grammars, self.scheduler.limits.timeout
        if self.stopping and sampling.is_constrained:
            raise ShuttingDown(STOPPING)
        try:
            async with asyncio.timeout(None if math.isinf(timeout) else timeout):
                return {eos: await grammars.compile_async(one, eos) for one, eos in constraints_of(prompts, sampling)}
        except TimeoutError as error:
            name = "json_schema" if sampling.grammar is None else "grammar"
            raise DeadlineExceeded(f"{name} was not compiled within {timeout:g} s: try again later") from error

    def _submit(self, sequences: Sequence[SequenceState]) -> list[Coroutine[None, None, None]]:
        """Queue sequences, all or none; return coroutines that wait for the end of each, and raise its error."""
        self._check_open()
        loop, ends = asyncio.get_running_loop(), [asyncio.Event() for _ in sequences]
        for sequence, end in zip(sequences, ends, strict=True):
            sequence.on_end = partial(_call_in_loop, loop, self._ended, sequence, end)
        self.scheduler.submit(*sequences)
        self._wake()
        return [self._wait(sequence, end) for sequence, end in zip(sequences, ends, strict=True)]

    def _check_open(self) -> None:
        self.check_device()
        if self.draining:
            raise ShuttingDown(STOPPING)

    async def _wait(self, sequence: SequenceState, end: asyncio.Event) -> None:
        try:
            await end.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if sequence.error is not None:
            raise sequence.error

    def _ended(self, sequence: SequenceState, end: asyncio.Event) -> None:
        """Report the end of a sequence, whether anybody waits for it or not; called in the event loop."""
        self.report(_event_of(sequence))
        end.set()

    def _wake(self) -> None:
        with self.change:
            self.change.notify_all()

    def _work(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(lambda: self.draining or self.scheduler.busy)
            if not self.scheduler.busy:
                return
            with self.generator.turn:
                self.scheduler.step()


def _event_of(sequence: SequenceState) -> SequenceFinished:
    """Return the event of a sequence that has ended."""
    first, finish = sequence.first_token_time, sequence.finish_time
    assert sequence.finish_reason is not None and finish is not None
    return SequenceFinished(
        adapter=sequence.adapter.card.name,
        finish_reason=sequence.finish_reason,
        prompt_tokens=len(sequence.input_tokens),
        generated_tokens=len(sequence.tokens),
        first_token_seconds=None if first is None else first - sequence.arrival_time,
        decode_seconds=None if first is None else finish - first,
        cached_tokens=sequence.cached_tokens,
        guessed_tokens=sum(row.guessed_tokens for row in sequence.rows),
        accepted_tokens=sum(row.accepted_tokens for row in sequence.rows),
        token_seconds=[] if sequence.beam_search else [late - early for early, late in pairwise(sequence.token_times)],
        arrival_time=sequence.arrival_time,
        submit_time=sequence.submit_time,
        begin_time=sequence.begin_time,
        first_token_time=first,
        finish_time=finish,
        batch_rows=sequence.batch_rows,
        batch_adapters=sequence.batch_adapters,
        requests=[sequence.request],
    )


def _call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in an event loop; one that has closed meanwhile waits for nothing."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
