"""Continuous batching over an exported bank: whatever the mix, every row is what it is alone."""

import asyncio
import gc
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.bundle.adapter import Adapter
from serve.errors import Draining, Failed, InputError, Overloaded
from serve.generation.async_text_generator import AsyncGenerator
from serve.generation.cache.prefix_cache import SHORTEST_PREFIX, Prefixes
from serve.generation.detokenizer import TextStream
from serve.generation.generator import Generator
from serve.generation.limits import Pool
from serve.generation.prompts import Prompt
from serve.generation.request import Generation
from serve.generation.sampling.params import Sampling
from serve.generation.scheduler import Engine
from serve.runtime.buffers import BUFFERS, HOST, DeviceBuffers, HostBuffers
from tests.adamix_train.conftest import writing_data
from tests.fixtures.generation_banks import NAMES, bank_of_writers

__all__ = ["writing_data"]

PROMPT = st.lists(st.integers(3, 19), min_size=1, max_size=52)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, writing_data: Path) -> Generator:
    """Three adapters of two kinds on a tiny decoder, and two slots."""
    bundle = bank_of_writers("llama", tmp_path_factory.mktemp("llama"), writing_data)
    made = Generator(bundle, provider="cpu", threads=1, slots=2)
    made.alone = cache(lambda ids, name, count: alone(made, ids, name, count))  # type: ignore[attr-defined]
    return made


def alone(generator: Generator, ids: tuple[int, ...], name: str, count: int) -> list[int]:
    """What is written after a prompt by itself, without continuous batching."""
    prompt = Prompt(list(ids), generator.registry.find(name))
    [tokens], _ = generator._greedy([prompt], count)
    return tokens


def generation(generator: Generator, ids: list[int], name: str, /, count: int = 8, **asked: object) -> Generation:
    sampling = Sampling(max_new_tokens=count, **asked)  # type: ignore[arg-type]
    (made,) = generator.generations([Prompt(ids, generator.registry.find(name))], sampling)
    return made


def unasked(generator: Generator) -> tuple[Adapter, Sampling, TextStream]:
    """What goes with a prompt whose request does not say how much to write."""
    return generator.registry.find("one"), Sampling(), TextStream(generator.token_decoders())


def engine(generator: Generator, **bounds: int) -> Engine:
    return Engine(generator.bundle, generator.session, generator.bank, Pool(**bounds))


def finish(made: Engine) -> int:
    steps = 0
    while made.busy:
        made.step()
        steps += 1
        assert steps < 5000
    return steps


def resident_mib() -> float:
    """Return the memory of this process that is in use, after what is garbage has gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@contextmanager
def empty_after(made: Engine) -> Iterator[None]:
    yield
    assert not made.busy
    assert made.bank is not None and not made.bank.in_use, "every adapter is released"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.tuples(PROMPT, st.sampled_from(NAMES), st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=8
    ),
    rows=st.integers(1, 5),
    chunk=st.integers(1, 80),
    prefix=st.sampled_from([0, 1000]),
    tokens=st.integers(64, 500),
)
def test_whatever_joins_and_leaves_each_text_is_that_of_the_prompt_alone(
    texts: list[tuple[list[int], str, int, int]], rows: int, chunk: int, prefix: int, tokens: int, generator: Generator
) -> None:
    """Any lengths, adapters, arrivals and chunks; more adapters than slots, and little memory."""
    made = engine(generator, rows=rows, chunk=chunk, prefix_tokens=prefix, tokens=tokens)
    arriving = sorted(enumerate(texts), key=lambda item: item[1][3])
    written: dict[int, Generation] = {}
    step = 0
    with empty_after(made):
        while arriving or made.busy:
            while arriving and arriving[0][1][3] <= step:
                index, (ids, name, count, _) = arriving.pop(0)
                written[index] = generation(generator, ids, name, count)
                made.submit(written[index])
            made.step()
            assert len(made.live) + bool(made.reading) <= rows
            assert made.in_flight <= made.decoder.cache.rows * made.decoder.cache.tokens <= tokens
            step += 1
    for index, (ids, name, count, _) in enumerate(texts):
        expected = generator.alone(tuple(ids), name, count)  # type: ignore[attr-defined]
        assert written[index].tokens == expected
        assert written[index].ended == ("length" if len(expected) == count else "stop")


def test_a_prompt_that_begins_as_another_reads_only_the_rest(generator: Generator) -> None:
    made = engine(generator, chunk=16)
    shared = [3 + index % 11 for index in range(SHORTEST_PREFIX + 8)]
    first, second = ([*shared, *rest] for rest in ([5, 6, 7], [8, 9]))
    one, other = generation(generator, first, "one"), generation(generator, second, "one")
    made.submit(one)
    before = finish(made)
    made.submit(other)
    assert finish(made) < before
    assert len(made.prefixes.kept) == 1
    for ids, found in ((first, one), (second, other)):
        assert found.tokens == alone(generator, tuple(ids), "one", 8)
    foreign = generation(generator, second, "other")
    assert made.prefixes.find(foreign) == (None, 0), "another adapter has other states"


def test_what_is_kept_of_prompts_is_bounded(generator: Generator) -> None:
    made = engine(generator, prefix_tokens=100)
    for start in range(6):
        made.submit(
            generation(generator, [3 + (start * 7 + index * (start + 1)) % 16 for index in range(40)], "one", 1)
        )
    finish(made)
    assert 0 < sum(len(tokens) for _, tokens in made.prefixes.kept) <= 100


def test_a_text_that_nobody_waits_for_leaves_at_the_next_step(generator: Generator) -> None:
    made = engine(generator, rows=2, chunk=4)
    rows = [generation(generator, [4, 5, 6], "one", 40), generation(generator, [7] * 20, "one", 40)]
    kept = generation(generator, [8, 9], "one")
    with empty_after(made):
        for row in (*rows, kept):
            made.submit(row)
        made.step()
        made.step()
        assert ([row.generation for row in made.live], made.reading and made.reading.generation) == ([rows[0]], rows[1])
        for row in rows:
            row.cancelled = True
        made.step()
        assert rows[0].ended == rows[1].ended == "cancelled"
        assert [row.generation for row in made.live] == [kept] or kept.ended
        finish(made)
    assert kept.tokens == alone(generator, (8, 9), "one", 8)


def test_memory_of_a_device_holds_what_that_of_the_host_does(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a GPU, over addresses of the processor: rows that join, leave, move, and share a prefix."""
    monkeypatch.setitem(BUFFERS, HOST, DeviceBuffers)
    made = engine(generator, rows=3, chunk=16, tokens=200)
    shared = [3 + index % 11 for index in range(SHORTEST_PREFIX + 2)]
    prompts = [[4, 5], [7] * 30, [*shared, 6], [8, 9, 3], [*shared, 9, 9], [5]]
    texts = [generation(generator, ids, NAMES[index % 2], 3 + 2 * index) for index, ids in enumerate(prompts)]
    search = generation(generator, [6, 4], "one", 8, beams=3)
    for text in (*texts, search):
        made.submit(text)
    finish(made)
    assert isinstance(made.decoder.cache.buffers, DeviceBuffers)
    for text in texts:
        name = text.adapter.card.name
        assert text.tokens == alone(generator, tuple(text.prompt), name, text.most)
    monkeypatch.setitem(BUFFERS, HOST, HostBuffers)
    again = generation(generator, [6, 4], "one", 8, beams=3)
    (other := engine(generator)).submit(again)
    finish(other)
    assert search.tokens == again.tokens


def test_what_goes_wrong_with_a_text_ends_it_and_no_other(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    made = engine(generator)
    wrong, fine = generation(generator, [4, 5], "one", seed=1, temperature=1.0), generation(generator, [4, 5], "other")

    class Broken:
        def random(self) -> float:
            raise ZeroDivisionError("no such number")

    wrong.random = Broken()  # type: ignore[assignment]
    with empty_after(made):
        for text in (wrong, fine):
            made.submit(text)
        finish(made)
    assert wrong.ended == "failed" and isinstance(wrong.error, Failed)
    assert "no such number" in str(wrong.error) and "no such number" in caplog.text
    assert fine.tokens == alone(generator, (4, 5), "other", 8)


def test_a_step_that_fails_ends_what_is_written_and_takes_the_next(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Prefixes):
        def wants(self, generation: Generation) -> bool:
            raise ZeroDivisionError("no such prefix")

    made = engine(generator, rows=1)
    whole, made.prefixes = made.prefixes, Broken(0)
    first, second = (generation(generator, [4, 5], "other") for _ in range(2))
    with empty_after(made):
        made.submit(first)
        made.submit(second)
        made.step()
        assert first.ended == "failed" and "no such prefix" in str(first.error) and "no such prefix" in caplog.text
        assert not made.live and second.ended is None
        made.prefixes = whole
        finish(made)
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
    assert generator.bank is not None
    made = engine(generator)
    broken, fine = generation(generator, [4, 5], "one"), generation(generator, [4, 5], "other")
    with empty_after(made):
        made.submit(broken)
        made.submit(fine)
        made.step()
        stacks = {name: stack[broken.slot].copy() for name, stack in generator.bank.stacks.items()}
        for name, stack in generator.bank.stacks.items():
            if ".lora.up" in name:
                stack[broken.slot] = np.nan
        finish(made)
        for name, stack in generator.bank.stacks.items():
            stack[broken.slot] = stacks[name]
    assert broken.ended == "failed"
    assert isinstance(broken.error, Failed)
    assert fine.tokens == alone(generator, (4, 5), "other", 8)


def test_what_never_fits_is_refused_and_what_does_not_fit_now_waits(generator: Generator) -> None:
    made = engine(generator, tokens=30, queued=2)
    with pytest.raises(InputError, match="the prompt is empty"):
        made.submit(generation(generator, [], "one"))
    with pytest.raises(InputError, match="12 tokens and 20 more never fit: 30 tokens may be in flight"):
        made.submit(generation(generator, [3] * 12, "one", 20))
    with pytest.raises(InputError, match="12 tokens and 100 more never fit: the model's context has 64"):
        engine(generator).submit(generation(generator, [3] * 12, "one", 100))
    with pytest.raises(InputError, match="64 tokens and 1 more never fit"):
        engine(generator).submit(Generation([3] * 64, *unasked(generator)))
    with empty_after(capped := engine(generator)):
        most = Generation([3] * 60, *unasked(generator))
        capped.submit(most)
        finish(capped)
    assert most.most == 4
    first, second, third = (generation(generator, [3, 4, 5], "one", 15) for _ in range(3))
    made.submit(first)
    made.step()
    made.submit(second)
    made.submit(third)
    with pytest.raises(Overloaded, match="2 texts wait already"):
        made.submit(generation(generator, [3], "one"))
    assert [row.generation for row in made.live] == [first]
    finish(made)
    assert first.tokens == second.tokens == third.tokens


def test_short_prompts_do_not_wait_for_a_long_one(generator: Generator) -> None:
    """The long one takes ten chunks; those that come meanwhile are read between them, whatever is live."""
    made = engine(generator, chunk=4, prefix_tokens=0)
    long = generation(generator, [7] * 40, "other", 6)
    also = generation(generator, [9] * 38, "one", 6)
    short = [generation(generator, [3 + index, 5], NAMES[index % 2], 9) for index in range(5)]
    with empty_after(made):
        for text in (long, also):
            made.submit(text)
        made.step()
        for text in short:
            made.submit(text)
            made.step()
            made.step()
            assert text.tokens or text.ended, "it has begun"
            assert not long.tokens
        finish(made)
    for text in (long, also, *short):
        assert text.tokens == alone(generator, tuple(text.prompt), text.adapter.card.name, text.most)


def test_a_search_begins_beside_a_prompt_that_is_being_read(generator: Generator) -> None:
    """Its beams take rows before that one."""
    made = engine(generator, chunk=4, prefix_tokens=0)
    long = generation(generator, [7] * 40, "other", 6)
    search, expected = (generation(generator, [6, 4], "one", 8, beams=3) for _ in range(2))
    made.submit(long)
    made.step()
    made.submit(search)
    finish(made)
    (other := engine(generator)).submit(expected)
    finish(other)
    assert search.tokens == expected.tokens
    assert long.tokens == alone(generator, (7,) * 40, "other", 6)


def test_a_call_that_is_interrupted_leaves_no_rows(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(3))
    step = generator.engine._read

    def interrupted() -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        step()

    assert generator.bank is not None
    with monkeypatch.context() as patch:
        patch.setattr(generator.engine, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generator(["a shop"] * 20, adapter="one", max_new_tokens=40)
    assert not generator.engine.busy and not generator.bank.in_use
    assert generator("a shop", adapter="other")


def test_one_long_text_among_short_ones_does_not_exceed_the_memory(generator: Generator) -> None:
    """Every row of a buffer is as long as the longest: a long one waits for others to leave, and they for it."""
    made = engine(generator, rows=8, tokens=128)
    short = [generation(generator, [3 + index, 5], "one", 10) for index in range(8)]
    long = generation(generator, [7] * 40, "one", 20)
    with empty_after(made):
        for text in (*short[:4], long, *short[4:]):
            made.submit(text)
        while made.busy:
            made.step()
            assert made.decoder.cache.rows * made.decoder.cache.tokens <= 128
            inside = {row.generation for row in made.live}
            assert long not in inside or len(inside) <= 2
    for text in (*short, long):
        assert text.tokens == alone(generator, tuple(text.prompt), "one", text.most)


def test_the_same_seed_writes_the_same_whatever_else_is_written(generator: Generator) -> None:
    def drawn(others: int) -> list[int]:
        made = engine(generator)
        for index in range(others):
            made.submit(generation(generator, [5 + index, 7], NAMES[index % 2], 9, temperature=2.0))
        row = generation(generator, [4, 9, 6], "one", 12, temperature=1.5, seed=7)
        made.submit(row)
        finish(made)
        return row.tokens

    assert drawn(0) == drawn(1) == drawn(4)


def test_nothing_is_left_after_many_texts(generator: Generator) -> None:
    made = engine(generator, rows=4)
    random = np.random.default_rng(0)
    sizes: list[float] = []
    with empty_after(made):
        for turn in range(250):
            rows = [
                generation(
                    generator, random.integers(3, 19, random.integers(1, 20)).tolist(), NAMES[random.integers(3)], 4
                )
                for _ in range(8)
            ]
            for row in rows:
                made.submit(row)
            for row in rows[::3]:
                row.cancelled = True
            finish(made)
            assert all(row.ended for row in rows)
            if turn in (49, 249):
                sizes.append(resident_mib())
        assert sizes[1] - sizes[0] < 8, "the process is no larger after 2,000 texts than after 400"
        assert made.decoder.cache.rows <= 4 and made.decoder.cache.tokens == 128


def test_a_text_streams_and_whoever_stops_listening_stops_it(generator: Generator) -> None:
    asked = Sampling(max_new_tokens=10)
    whole = generator("a shop", adapter="one", sampling=asked)[0]
    assert "".join(generator.stream("a shop", adapter="one", sampling=asked)).strip() == whole.text
    stream = generator.stream("a shop", adapter="one", sampling=Sampling(max_new_tokens=40))
    next(stream)
    stream.close()
    assert not generator.engine.busy


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
        async with AsyncGenerator(generator) as write:
            texts = asyncio.gather(*(write("a shop", adapter=name) for name in NAMES))
            pieces = [piece async for piece in write.stream("good", adapter="one")]
            gone = asyncio.create_task(write("the parcel was bad", adapter="one", sampling=Sampling(max_new_tokens=40)))
            await asyncio.sleep(0.05)
            gone.cancel()
            with pytest.raises(InputError, match="the text is empty"):
                await write(" ", adapter="one")
            found = [written.tokens for [written] in await texts]
        with pytest.raises(Draining):
            await write("a shop", adapter="one")
        return found, "".join(pieces)

    found, streamed = asyncio.run(ask())
    assert found == [generator("a shop", adapter=name)[0].tokens for name in NAMES]
    assert streamed.strip() == generator("good", adapter="one")[0].text
    assert not generator.engine.busy
