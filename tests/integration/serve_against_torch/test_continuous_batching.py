"""Continuous batching over an exported bank: whatever the mix, every row is what it is alone."""

import asyncio
import gc
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import GenerationFailed, InputError, Overloaded, ShuttingDown
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.cache.prefix_cache import MIN_PREFIX, PrefixCache
from serve.generation.detokenizer import IncrementalDetokenizer
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.request import SequenceState, sequences_of
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.runtime.buffers import DeviceBuffers
from serve.sampling_params import SamplingParams
from tests.fixtures.generation_banks import NAMES
from tests.fixtures.sequences import broken_adapter, greedy_tokens, new_scheduler, new_sequence, run

pytestmark = pytest.mark.slow
PROMPT = st.lists(st.integers(3, 19), min_size=1, max_size=52)


@pytest.fixture(scope="module")
def generator(folder_of: Callable[[str], Path]) -> Generator:
    """Three adapters of two kinds on a tiny decoder, and two slots."""
    made = Generator(folder_of("llama") / "bank", provider="cpu", threads=1, slots=2)
    made.alone = cache(lambda ids, name, count: alone(made, ids, name, count))  # type: ignore[attr-defined]
    return made


def alone(generator: Generator, ids: tuple[int, ...], name: str, count: int) -> list[int]:
    """Return the tokens after a prompt by itself, without continuous batching."""
    return greedy_tokens(generator, Prompt(list(ids), generator.find(name)), count)


def unlimited_sequence(generator: Generator, ids: list[int]) -> SequenceState:
    """Return a sequence whose request has no `max_new_tokens`."""
    detokenizer = IncrementalDetokenizer(generator.token_texts.decoders[True]())
    return SequenceState(ids, generator.find("one"), SamplingParams(), detokenizer)


def resident_mib() -> float:
    """Return the memory of this process that is in use, without garbage."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@contextmanager
def empty_after(made: ContinuousBatchScheduler) -> Iterator[None]:
    yield
    assert not made.busy
    assert made.buckets.bank is not None and not made.buckets.bank.in_use, "every adapter is released"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.tuples(PROMPT, st.sampled_from(NAMES), st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=8
    ),
    rows=st.integers(1, 5),
    chunk=st.integers(1, 80),
    prefix=st.sampled_from([0, 1000]),
    tokens=st.integers(64, 500),
    long=st.sampled_from([4, 20, 2048]),
)
def test_whatever_joins_and_leaves_each_text_is_that_of_the_prompt_alone(
    texts: list[tuple[list[int], str, int, int]],
    rows: int,
    chunk: int,
    prefix: int,
    tokens: int,
    long: int,
    generator: Generator,
) -> None:
    """Any lengths, adapters, arrivals and chunks; more adapters than slots, and little memory."""
    made = new_scheduler(
        generator,
        max_batch_requests=rows,
        prefill_chunk=chunk,
        prefix_tokens=prefix,
        max_tokens_in_flight=tokens,
        long_row_tokens=long,
    )
    arriving = sorted(enumerate(texts), key=lambda item: item[1][3])
    written: dict[int, SequenceState] = {}
    step = 0
    with empty_after(made):
        while arriving or made.busy:
            while arriving and arriving[0][1][3] <= step:
                index, (ids, name, count, _) = arriving.pop(0)
                written[index] = new_sequence(generator, ids, name, count)
                made.submit(written[index])
            made.step()
            assert len(made.buckets.rows) + bool(made.buckets.prefilling) <= rows
            for batch in made.buckets.batches:
                assert batch.tokens_in_flight <= batch.runner.held_tokens
            assert sum(batch.runner.held_tokens for batch in made.buckets.batches) <= tokens
            step += 1
    for index, (ids, name, count, _) in enumerate(texts):
        expected = generator.alone(tuple(ids), name, count)  # type: ignore[attr-defined]
        assert written[index].tokens == expected
        assert written[index].finish_reason == ("length" if len(expected) == count else "stop")


def test_a_prompt_that_begins_as_another_reads_only_the_rest(generator: Generator) -> None:
    made = new_scheduler(generator, prefill_chunk=16)
    shared = [3 + index % 11 for index in range(MIN_PREFIX + 8)]
    first, second = ([*shared, *rest] for rest in ([5, 6, 7], [8, 9]))
    one, other = new_sequence(generator, first, "one"), new_sequence(generator, second, "one")
    made.submit(one)
    before = run(made)
    made.submit(other)
    assert run(made) < before
    assert len(made.prefix_cache.entries) == 1
    for ids, found in ((first, one), (second, other)):
        assert found.tokens == alone(generator, tuple(ids), "one", 8)
    foreign = new_sequence(generator, second, "other")
    assert made.prefix_cache.find(foreign) is None, "another adapter has other states"


def test_what_is_kept_of_prompts_is_bounded(generator: Generator) -> None:
    made = new_scheduler(generator, prefix_tokens=100)
    for start in range(6):
        made.submit(
            new_sequence(generator, [3 + (start * 7 + index * (start + 1)) % 16 for index in range(40)], "one", 1)
        )
    run(made)
    assert 0 < sum(len(tokens) for _, tokens in made.prefix_cache.entries) <= 100


def test_a_text_that_nobody_waits_for_leaves_at_the_next_step(generator: Generator) -> None:
    made = new_scheduler(generator, max_batch_requests=2, prefill_chunk=4)
    rows = [new_sequence(generator, [4, 5, 6], "one", 40), new_sequence(generator, [7] * 20, "one", 40)]
    kept = new_sequence(generator, [8, 9], "one")
    with empty_after(made):
        for row in (*rows, kept):
            made.submit(row)
        made.step()
        made.step()
        prefilling = made.buckets.batches[0].prefilling
        assert (
            sequences_of(made.buckets.batches[0].rows) == [rows[0]]
            and prefilling is not None
            and prefilling.sequence is rows[1]
        )
        for row in rows:
            row.cancelled = True
        made.step()
        assert rows[0].finish_reason == rows[1].finish_reason == "cancelled"
        assert sequences_of(made.buckets.batches[0].rows) == [kept] or kept.finish_reason
        run(made)
    assert kept.tokens == alone(generator, (8, 9), "one", 8)


@pytest.mark.parametrize("captures", [False, True])
def test_the_paths_of_a_device_give_what_those_of_the_host_do(
    captures: bool, generator: Generator, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Rows that join, leave, move, and share a prefix; with captured steps also rows that only make a batch full."""
    again = new_sequence(generator, [6, 4], "one", 8, num_beams=3)
    (other := new_scheduler(generator)).submit(again)
    run(other)
    request.getfixturevalue("device_paths")
    monkeypatch.setattr("serve.loaded_model.captures_graphs", lambda session: captures)
    made = new_scheduler(generator, max_batch_requests=3, prefill_chunk=16, max_tokens_in_flight=200)
    shared = [3 + index % 11 for index in range(MIN_PREFIX + 2)]
    prompts = [[4, 5], [7] * 30, [*shared, 6], [8, 9, 3], [*shared, 9, 9], [5]]
    texts = [new_sequence(generator, ids, NAMES[index % 2], 3 + 2 * index) for index, ids in enumerate(prompts)]
    search = new_sequence(generator, [6, 4], "one", 8, num_beams=3)
    for text in (*texts, search):
        made.submit(text)
    run(made)
    assert isinstance(made.buckets.runner.cache.buffers, DeviceBuffers)
    for text in texts:
        name = text.adapter.card.name
        assert text.tokens == alone(generator, tuple(text.prompt), name, text.max_new_tokens)
    assert bool(made.buckets.runner.captured.options) == captures
    assert search.tokens == again.tokens


def test_what_goes_wrong_with_a_text_ends_it_and_no_other(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    made = new_scheduler(generator)
    wrong, fine = (
        new_sequence(generator, [4, 5], "one", seed=1, temperature=1.0),
        new_sequence(generator, [4, 5], "other"),
    )

    class Broken:
        def random(self) -> float:
            raise ZeroDivisionError("no such number")

    wrong.random = Broken()  # type: ignore[assignment]
    with empty_after(made):
        for text in (wrong, fine):
            made.submit(text)
        run(made)
    assert wrong.finish_reason == "failed" and isinstance(wrong.error, GenerationFailed)
    assert "no such number" in str(wrong.error) and "no such number" in caplog.text
    assert fine.tokens == alone(generator, (4, 5), "other", 8)


def test_a_step_that_fails_ends_what_is_written_and_takes_the_next(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(PrefixCache):
        def wants(self, sequence: SequenceState) -> bool:
            raise ZeroDivisionError("no such prefix")

    made = new_scheduler(generator, max_batch_requests=1)
    whole, made.prefix_cache = made.prefix_cache, Broken(0)
    first, second = (new_sequence(generator, [4, 5], "other") for _ in range(2))
    with empty_after(made):
        made.submit(first)
        made.submit(second)
        made.step()
        assert (
            first.finish_reason == "failed" and "no such prefix" in str(first.error) and "no such prefix" in caplog.text
        )
        assert not made.buckets.batches[0].rows and second.finish_reason is None
        made.prefix_cache = whole
        run(made)
    assert second.tokens == alone(generator, (4, 5), "other", 8)


def test_a_prompt_that_is_too_long_is_cut_or_refused(generator: Generator) -> None:
    """The adapters were trained on 24 tokens; the base reads what its context has."""
    long = "a shop " * 20
    with pytest.raises(InputError, match=r"the prompt has \d+ tokens, one reads 24 at most: shorten it"):
        generator(long, adapter="one", truncate=False)
    with pytest.raises(InputError, match="base reads 64 at most"):
        generator.prompts(long * 2, "base", truncate=False)
    whole = generator.tokenizer.encode(generator.cards["one"].prompt.replace("{input}", long)).ids
    assert generator.prompt(long, "one").input_ids == whole[-24:]


def test_a_broken_adapter_fails_its_row_and_no_other(generator: Generator) -> None:
    made = new_scheduler(generator)
    broken, fine = new_sequence(generator, [4, 5], "one"), new_sequence(generator, [4, 5], "other")
    with empty_after(made):
        made.submit(broken)
        made.submit(fine)
        made.step()
        with broken_adapter(generator, broken, ".lora.up"):
            run(made)
    assert broken.finish_reason == "failed"
    assert isinstance(broken.error, GenerationFailed)
    assert fine.tokens == alone(generator, (4, 5), "other", 8)


def test_what_never_fits_is_refused_and_what_does_not_fit_now_waits(generator: Generator) -> None:
    made = new_scheduler(generator, max_tokens_in_flight=30, max_queued_requests=2)
    with pytest.raises(InputError, match="the prompt is empty"):
        made.submit(new_sequence(generator, [], "one"))
    with pytest.raises(InputError, match="12 tokens and 20 more never fit: 30 tokens may be in flight"):
        made.submit(new_sequence(generator, [3] * 12, "one", 20))
    with pytest.raises(InputError, match="12 tokens and 100 more never fit: the model's context has 64"):
        new_scheduler(generator).submit(new_sequence(generator, [3] * 12, "one", 100))
    with pytest.raises(InputError, match="64 tokens and 1 more never fit"):
        new_scheduler(generator).submit(unlimited_sequence(generator, [3] * 64))
    with empty_after(capped := new_scheduler(generator)):
        most = unlimited_sequence(generator, [3] * 60)
        capped.submit(most)
        run(capped)
    assert most.max_new_tokens == 4
    first, second, third = (new_sequence(generator, [3, 4, 5], "one", 15) for _ in range(3))
    made.submit(first)
    made.step()
    made.submit(second)
    made.submit(third)
    with pytest.raises(Overloaded, match="2 texts wait already"):
        made.submit(new_sequence(generator, [3], "one"))
    assert sequences_of(made.buckets.batches[0].rows) == [first]
    run(made)
    assert first.tokens == second.tokens == third.tokens


def test_short_prompts_do_not_wait_for_a_long_one(generator: Generator) -> None:
    """The long one takes ten chunks; those that come meanwhile are read between them, whatever is live."""
    made = new_scheduler(generator, prefill_chunk=4, prefix_tokens=0)
    long = new_sequence(generator, [7] * 40, "other", 6)
    also = new_sequence(generator, [9] * 38, "one", 6)
    short = [new_sequence(generator, [3 + index, 5], NAMES[index % 2], 9) for index in range(5)]
    with empty_after(made):
        for text in (long, also):
            made.submit(text)
        made.step()
        for text in short:
            made.submit(text)
            made.step()
            made.step()
            assert text.tokens or text.finish_reason, "it has begun"
            assert not long.tokens
        run(made)
    for text in (long, also, *short):
        assert text.tokens == alone(generator, tuple(text.prompt), text.adapter.card.name, text.max_new_tokens)


def test_a_search_begins_beside_a_prompt_that_is_being_read(generator: Generator) -> None:
    """Its beams take rows before that one."""
    made = new_scheduler(generator, prefill_chunk=4, prefix_tokens=0)
    long = new_sequence(generator, [7] * 40, "other", 6)
    search, expected = (new_sequence(generator, [6, 4], "one", 8, num_beams=3) for _ in range(2))
    made.submit(long)
    made.step()
    made.submit(search)
    run(made)
    (other := new_scheduler(generator)).submit(expected)
    run(other)
    assert search.tokens == expected.tokens
    assert long.tokens == alone(generator, (7,) * 40, "other", 6)


def test_a_call_that_is_interrupted_leaves_no_rows(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(3))
    step = generator.scheduler._prefill

    def interrupted() -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        step()

    assert generator.bank is not None
    with monkeypatch.context() as patch:
        patch.setattr(generator.scheduler, "_prefill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generator(["a shop"] * 20, adapter="one", max_new_tokens=40)
    assert not generator.scheduler.busy and not generator.bank.in_use
    assert generator("a shop", adapter="other")


def test_one_long_text_among_short_ones_does_not_exceed_the_memory(generator: Generator) -> None:
    """Every row of a buffer is as long as the longest: a long one waits for others to leave, and they for it."""
    made = new_scheduler(generator, max_batch_requests=8, max_tokens_in_flight=128)
    short = [new_sequence(generator, [3 + index, 5], "one", 10) for index in range(8)]
    long = new_sequence(generator, [7] * 40, "one", 20)
    with empty_after(made):
        for text in (*short[:4], long, *short[4:]):
            made.submit(text)
        while made.busy:
            made.step()
            assert made.buckets.runner.cache.rows * made.buckets.runner.cache.tokens <= 128
            inside = sequences_of(made.buckets.batches[0].rows)
            assert long not in inside or len(inside) <= 2
    for text in (*short, long):
        assert text.tokens == alone(generator, tuple(text.prompt), "one", text.max_new_tokens)


def test_the_same_seed_writes_the_same_whatever_else_is_written(generator: Generator) -> None:
    def drawn(others: int) -> list[int]:
        made = new_scheduler(generator)
        for index in range(others):
            made.submit(new_sequence(generator, [5 + index, 7], NAMES[index % 2], 9, temperature=2.0))
        row = new_sequence(generator, [4, 9, 6], "one", 12, temperature=1.5, seed=7)
        made.submit(row)
        run(made)
        return row.tokens

    assert drawn(0) == drawn(1) == drawn(4)


@pytest.mark.slow
def test_nothing_is_left_after_many_texts(generator: Generator) -> None:
    made = new_scheduler(generator, max_batch_requests=4)
    random = np.random.default_rng(0)
    sizes: list[float] = []
    with empty_after(made):
        for turn in range(250):
            rows = [
                new_sequence(
                    generator, random.integers(3, 19, random.integers(1, 20)).tolist(), NAMES[random.integers(3)], 4
                )
                for _ in range(8)
            ]
            for row in rows:
                made.submit(row)
            for row in rows[::3]:
                row.cancelled = True
            run(made)
            assert all(row.finish_reason for row in rows)
            if turn in (49, 249):
                sizes.append(resident_mib())
        assert sizes[1] - sizes[0] < 8, "the process is no larger after 2,000 texts than after 400"
        assert made.buckets.runner.cache.rows <= 4 and made.buckets.runner.cache.tokens == 128


def test_a_text_streams_and_whoever_stops_listening_stops_it(generator: Generator) -> None:
    asked = SamplingParams(max_new_tokens=10)
    whole = generator("a shop", adapter="one", sampling=asked)[0]
    assert "".join(generator.stream("a shop", adapter="one", sampling=asked)).strip() == whole.text
    stream = generator.stream("a shop", adapter="one", sampling=SamplingParams(max_new_tokens=40))
    next(stream)
    stream.close()
    assert not generator.scheduler.busy


def test_threads_write_together(generator: Generator) -> None:
    texts = ["good", "the parcel was bad", "a shop", "my shop is great"]
    expected = [generator(text, adapter="other")[0].tokens for text in texts]
    found: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: generator(texts[at], adapter="other")[0].tokens}))
        for at in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[at] for at in range(4)] == expected


def test_a_program_asks_in_an_event_loop(generator: Generator) -> None:
    async def ask() -> tuple[list[list[int]], str]:
        async with AsyncTextGenerator(generator) as write:
            texts = asyncio.gather(*(write("a shop", adapter=name) for name in NAMES))
            pieces = [piece async for piece in write.stream_text("good", adapter="one")]
            gone = asyncio.create_task(
                write("the parcel was bad", adapter="one", sampling=SamplingParams(max_new_tokens=40))
            )
            await asyncio.sleep(0.05)
            gone.cancel()
            with pytest.raises(InputError, match="the text is empty"):
                await write(" ", adapter="one")
            found = [result.tokens for [result] in await texts]
        with pytest.raises(ShuttingDown):
            await write("a shop", adapter="one")
        return found, "".join(pieces)

    found, streamed = asyncio.run(ask())
    assert found == [generator("a shop", adapter=name)[0].tokens for name in NAMES]
    assert streamed.strip() == generator("good", adapter="one")[0].text
    assert not generator.scheduler.busy
