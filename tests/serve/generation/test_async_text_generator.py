"""The engine behind the seam: the tasks of a loop, and a program's threads, over one scheduler."""

import asyncio
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from serve.engine import Capability, Event, SequenceFinished
from serve.errors import DeadlineExceeded, DeviceLost, InputError, ShuttingDown
from serve.generated_text import FinishReason, GenerationResult, StreamStart, TextDelta
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.generation.model_runner import ModelRunner
from serve.generation.sampling.schema_trials import CompileBudget
from serve.limits import GenerationLimits
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams
from tests.fixtures.fake_driver import LOST
from tests.fixtures.hand_computed_decoder import END, NAMES, HandComputedDecoder, write_decoder_bundle
from tests.serve.generation.sampling.test_schema_trials import ENDLESS

ENDLESS_TEXT = SamplingParams(max_new_tokens=9, logit_bias={END: -100})
"""Sampling parameters of a text that no end-of-sequence token ends."""


def test_threads_and_loops_generate_at_once(generator: Generator) -> None:
    expected = {name: generator("good bad", adapter=name, max_new_tokens=9)[0].tokens for name in NAMES}
    found: list[tuple[str, list[int]]] = []

    def ask(name: str) -> None:
        found.append((name, generator("good bad", adapter=name, max_new_tokens=9)[0].tokens))

    async def together() -> None:
        sampling = SamplingParams(max_new_tokens=9)
        async with AsyncTextGenerator(generator) as write:
            results = await asyncio.gather(*(write("good bad", adapter=name, sampling=sampling) for name in NAMES * 3))
        found.extend((one.adapter, one.tokens) for [one] in results)

    threads = [threading.Thread(target=ask, args=(name,)) for name in NAMES * 3]
    for thread in threads:
        thread.start()
    asyncio.run(together())
    for thread in threads:
        thread.join(30)
    assert len(found) == 18
    assert all(tokens == expected[name] for name, tokens in found)


def test_a_stream_is_a_start_then_pieces_then_the_result(generator: Generator) -> None:
    request = GenerationRequest(prompts=["good bad"], adapters=["north"], sampling=ENDLESS_TEXT)

    async def ask() -> tuple[list[object], list[GenerationResult], list[str]]:
        async with AsyncTextGenerator(generator) as engine:
            events: list[object] = [event async for event in engine.stream(request)]
            pieces = [piece async for piece in engine.stream_text("good bad", adapter="north", sampling=ENDLESS_TEXT)]
            return events, await engine.generate(request), pieces

    (start, *deltas, result), (whole,), pieces = asyncio.run(ask())
    card = generator.cards["north"]
    ids = generator.prompt("good bad", "north").input_ids
    assert start == StreamStart("north", card.sha256, len(ids), ["good bad"], [ids])
    assert result == whole
    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == pieces and len(pieces) == len(deltas)
    assert "".join(pieces) == whole.text


def test_results_of_requests_keep_the_white_space_that_calls_remove(generator: Generator) -> None:
    """The tiny tokenizer puts a space before every word but the first, so a text is cut for the test."""

    async def ask() -> tuple[list[GenerationResult], list[GenerationResult]]:
        async with AsyncTextGenerator(generator) as engine:
            raw = await engine.generate(GenerationRequest(prompts=["good"], adapters=["north"], sampling=sampling))
            return raw, await engine("good", adapter="north", sampling=sampling)

    (whole,) = generator("good", adapter="north", sampling=ENDLESS_TEXT)
    second = whole.text.split()[1]
    sampling = SamplingParams(max_new_tokens=9, logit_bias={END: -100}, stop=[second])
    (raw,), (called,) = asyncio.run(ask())
    assert raw.text == whole.text[: whole.text.index(second)] != called.text == raw.text.strip()


def test_every_sequence_that_ends_is_an_event(generator: Generator) -> None:
    events: list[Event] = []

    async def ask() -> None:
        async with AsyncTextGenerator(generator) as engine:
            engine.subscribe(events.append)
            await engine("good bad", adapter="north", sampling=ENDLESS_TEXT)
            with pytest.raises(InputError, match="json_schema cannot be followed with this base"):
                await engine("good", adapter="north", sampling=SamplingParams(json_schema={"type": "object"}))

    asyncio.run(ask())
    (first,) = events
    assert isinstance(first, SequenceFinished)
    assert (first.adapter, first.finish_reason, first.generated_tokens) == ("north", FinishReason.LENGTH, 9)
    assert first.prompt_tokens == len(generator.prompt("good bad", "north").input_ids)
    assert first.first_token_seconds is not None and first.first_token_seconds > 0
    assert first.decode_seconds is not None and first.decode_seconds > 0


def test_models_facts_and_counts_are_those_of_the_bundle(generator: Generator) -> None:
    engine = AsyncTextGenerator(generator)
    assert engine.capabilities == {Capability.GENERATE}
    assert [(model.name, model.is_base) for model in engine.models()] == [
        *((name, False) for name in NAMES),
        ("base", True),
    ]
    assert (engine.info().task, engine.info().slots) == ("text-generation", 2)
    stats = engine.stats()
    assert (stats.adapters, stats.slots, stats.waiting) == (3, 2, 0)
    assert (stats.active_sequences, stats.tokens_in_flight, stats.draining) == (0, 0, False)


def test_a_request_beyond_any_limit_is_refused_before_a_prompt_is_tokenized(generator: Generator) -> None:
    text = "a " * 950_000

    async def ask() -> None:
        async with AsyncTextGenerator(generator) as engine:
            for name in (*NAMES, "base"):
                with pytest.raises(InputError, match="the text has 1900000 characters: at most 262144 are tokenized"):
                    await engine(text, adapter=name)
            with pytest.raises(InputError, match="260 texts at once: at most 256 may wait"):
                await engine([text] * 130, adapter="north", sampling=SamplingParams(n=2))
            with pytest.raises(InputError, match="the text has 1900000 characters"):
                await anext(engine.stream_text(text, adapter="north"))
            with pytest.raises(InputError, match="n is 2: a stream has one text"):
                await anext(engine.stream_text("a", adapter="north", sampling=SamplingParams(n=2)))

    asyncio.run(ask())


def test_a_drained_engine_refuses_requests_and_its_schemas_are_no_longer_compiled(
    decoder: HandComputedDecoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_decoder_bundle(tmp_path_factory.mktemp("decoder") / "bundle", decoder)
    budget = CompileBudget(seconds=600, megabytes=4096)
    slow = Generator(folder, provider="cpu", threads=1, compile_budget=budget)
    sampling = SamplingParams(json_schema=ENDLESS)

    async def ask() -> None:
        async with AsyncTextGenerator(slow) as engine:
            asked = asyncio.create_task(engine("good", adapter="north", sampling=sampling))
            while not any(trial.worker for trial in slow.grammars.compiling):
                await asyncio.sleep(0.01)
        with pytest.raises(ShuttingDown, match="the server is stopping"):
            await asked
        with pytest.raises(ShuttingDown):
            await engine("good", adapter="north", sampling=sampling)
        assert not slow.grammars.trials.idle

    asyncio.run(ask())


def slow_to_compile(decoder: HandComputedDecoder, folder: Path, timeout: float) -> Generator:
    """A generator that compiles an endless schema for ten minutes, if it is let."""
    budget = CompileBudget(seconds=600, megabytes=4096)
    limits = GenerationLimits(timeout=timeout)
    bundle = write_decoder_bundle(folder, decoder)
    return Generator(bundle, provider="cpu", threads=1, compile_budget=budget, limits=limits)


def test_a_server_that_begins_to_stop_does_not_wait_for_schemas(decoder: HandComputedDecoder, tmp_path: Path) -> None:
    """Requests that are being answered go on; those that wait for a schema, or come with one, are refused."""
    slow, sampling = slow_to_compile(decoder, tmp_path / "bundle", 600), SamplingParams(json_schema=ENDLESS)

    async def ask() -> None:
        async with AsyncTextGenerator(slow) as engine:
            asked = asyncio.create_task(engine("good", adapter="north", sampling=sampling))
            while not any(trial.worker for trial in slow.grammars.compiling):
                await asyncio.sleep(0.01)
            engine.prepare_to_drain()
            with pytest.raises(ShuttingDown):
                await asked
            with pytest.raises(ShuttingDown):
                await engine("good", adapter="north", sampling=sampling)
            assert not slow.grammars.compiling
            assert (await engine("good", adapter="north", sampling=SamplingParams(max_new_tokens=1)))[0].tokens
            assert engine.stats().abandoned == 0

    asyncio.run(ask())


def test_a_schema_is_compiled_within_the_time_that_a_request_may_wait(
    decoder: HandComputedDecoder, tmp_path: Path
) -> None:
    slow = slow_to_compile(decoder, tmp_path / "bundle", 0.3)

    async def ask() -> None:
        async with AsyncTextGenerator(slow) as engine:
            with pytest.raises(DeadlineExceeded, match=r"json_schema was not compiled within 0\.3 s"):
                await engine("good", adapter="north", sampling=SamplingParams(json_schema=ENDLESS))

    asyncio.run(ask())


class LostRunner:
    """Stands before a model runner whose GPU is lost: nothing runs, and no row can be cleared."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner

    def __getattr__(self, name: str) -> object:
        return getattr(self.runner, name)

    def run(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError(LOST)

    clear = run


def test_a_lost_gpu_fails_every_request_and_freezes_none(tmp_path: Path, decoder: HandComputedDecoder) -> None:
    own = Generator(write_decoder_bundle(tmp_path / "bundle", decoder), provider="cpu", threads=1)
    sampling = SamplingParams(max_new_tokens=9)

    async def use() -> None:
        async with AsyncTextGenerator(own) as engine:
            assert (await engine("good", adapter="north", sampling=sampling))[0].adapter == "north"
            assert engine.stats().failure is None
            lost = LostRunner(engine.scheduler.buckets.runner)
            engine.scheduler.buckets.batches[0].runner = lost  # type: ignore[assignment]
            tasks = [engine("good bad", adapter=name, sampling=sampling) for name in NAMES]
            failures = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
            assert [type(one) for one in failures] == [DeviceLost] * len(NAMES)
            assert "CUDA failure 700" in str(engine.stats().failure)
            request = GenerationRequest(prompts=["good"], adapters=["north"], sampling=sampling)
            with pytest.raises(DeviceLost, match="CUDA failure 700"):
                async for _ in engine.stream(request):
                    pass
            assert engine.worker is not None and engine.worker.is_alive()

    asyncio.run(use())
