"""Continuous batching over a decoder that is computed by hand: every text is what it is alone."""

import asyncio
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import BundleError, Failed, InputError, Overloaded, UnknownAdapter
from serve.generation.async_text_generator import AsyncGenerator
from serve.generation.generator import Generator
from serve.generation.limits import Pool
from serve.generation.prompts import Prompt
from serve.generation.request import Generation
from serve.generation.sampling.logits import processed
from serve.generation.sampling.params import Sampling
from serve.generation.scheduler import Engine
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import CONTEXT, END, NAMES, Writer, make_writer, write_writer
from tests.serve.conftest import WORDS, live_app

PROMPTS = st.lists(st.integers(3, len(WORDS) - 1), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def writer() -> Writer:
    return make_writer()


@pytest.fixture(scope="module")
def generator(writer: Writer, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """Three adapters and two slots."""
    folder = write_writer(tmp_path_factory.mktemp("writer") / "bundle", writer)
    return Generator(folder, provider="cpu", threads=1, slots=2)


def generation(generator: Generator, ids: list[int], name: str, /, count: int = 8, **asked: object) -> Generation:
    sampling = Sampling(max_new_tokens=count, **asked)  # type: ignore[arg-type]
    (made,) = generator.generations([Prompt(ids, generator.find(name))], sampling)
    return made


def engine(generator: Generator, **bounds: int) -> Engine:
    return Engine(generator.bundle, generator.session, generator.bank, Pool(**bounds))


def finish(made: Engine) -> None:
    for _ in range(2000):
        if not made.busy:
            assert made.bank is not None and not made.bank.in_use
            return
        made.step()
    raise AssertionError("it does not end")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.tuples(PROMPTS, st.sampled_from([*NAMES, "base"]), st.integers(1, 10), st.integers(0, 6)),
        min_size=1,
        max_size=10,
    ),
    rows=st.integers(1, 6),
    chunk=st.integers(1, 50),
    prefix=st.sampled_from([0, 500]),
    tokens=st.integers(48, 300),
)
def test_whatever_the_mix_every_row_is_what_is_computed_by_hand(
    texts: list[tuple[list[int], str, int, int]],
    rows: int,
    chunk: int,
    prefix: int,
    tokens: int,
    generator: Generator,
    writer: Writer,
) -> None:
    made = engine(generator, rows=rows, chunk=chunk, prefix_tokens=prefix, tokens=tokens)
    written = [generation(generator, ids, name, count) for ids, name, count, _ in texts]
    arriving = sorted(range(len(texts)), key=lambda index: texts[index][3])
    step = 0
    while arriving or made.busy:
        while arriving and texts[arriving[0]][3] <= step:
            made.submit(written[arriving.pop(0)])
        made.step()
        assert made.decoder.cache.rows * made.decoder.cache.tokens <= tokens
        step += 1
    for found, (ids, name, count, _) in zip(written, texts, strict=True):
        assert found.tokens == writer.greedy(ids, None if name == "base" else name, count)


def test_logprobs_are_those_of_the_logits_by_hand(generator: Generator, writer: Writer) -> None:
    found = generation(generator, [4, 5, 9], "north", 6, logprobs=3)
    made = engine(generator)
    made.submit(found)
    finish(made)
    ids = [4, 5, 9]
    for token, entry in zip(found.tokens, found.logprobs, strict=False):
        logits = writer.logits(ids, "north").astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum())
        assert entry.chosen == pytest.approx(expected[token], abs=1e-4)
        assert [one for one, _ in entry.likeliest] == np.argsort(-expected)[:3].tolist()
        ids.append(token)


def test_a_seed_draws_the_same_beside_others(generator: Generator, writer: Writer) -> None:
    """And what it draws is drawn from the distribution that is computed by hand."""
    alone = generation(generator, [4, 5], "south", 7, temperature=2.0, top_k=5, seed=3)
    made = engine(generator)
    made.submit(alone)
    finish(made)
    beside = generation(generator, [4, 5], "south", 7, temperature=2.0, top_k=5, seed=3)
    others = [generation(generator, [6 + index], "north", 9, temperature=1.0, seed=index) for index in range(4)]
    made.submit(*others[:2], beside, *others[2:])
    finish(made)
    assert beside.tokens == alone.tokens
    ids = [4, 5]
    for token in alone.tokens:
        scores = processed(writer.logits(ids, "south"), [4, 5], ids[2:], alone.sampling)
        assert np.isfinite(scores[token]) and np.isfinite(scores).sum() == 5
        ids.append(token)


def test_a_search_with_a_beam_for_each_token_finds_the_likeliest_of_all_pairs(
    generator: Generator, writer: Writer
) -> None:
    def logprobs(ids: list[int]) -> np.ndarray:
        logits = writer.logits(ids, "west").astype(np.float64)
        found: np.ndarray = logits - np.log(np.exp(logits).sum())
        return found

    tokens = [token for token in range(len(WORDS)) if token != END]
    differing = 0
    for first in range(3, len(WORDS)):
        search = generation(generator, [first], "west", 2, beams=len(WORDS), logit_bias={END: -100})
        made = engine(generator)
        made.submit(search)
        finish(made)
        pairs = {(a, b): logprobs([first])[a] + logprobs([first, a])[b] for a in tokens for b in tokens}
        assert tuple(search.tokens) == max(pairs, key=lambda pair: pairs[pair])
        differing += search.tokens != writer.greedy([first], "west", 2)
    assert differing, "for some it is not the likeliest token each time"


def test_what_cannot_be_written_is_told_before_it_waits(generator: Generator) -> None:
    made = engine(generator, queued=2)
    for ids, count, message in (
        ([], 3, "the prompt is empty"),
        ([4] * 10, CONTEXT, f"never fit: the model's context has {CONTEXT}"),
        ([4] * CONTEXT, 1, f"never fit: the model's context has {CONTEXT}"),
    ):
        with pytest.raises(InputError, match=message):
            made.submit(generation(generator, ids, "north", count))
    with pytest.raises(InputError, match="3 texts at once: at most 2 may wait"):
        made.submit(*(generation(generator, [4], "north") for _ in range(3)))
    made.submit(*(generation(generator, [4], "north") for _ in range(2)))
    with pytest.raises(Overloaded, match="2 texts wait already"):
        made.submit(generation(generator, [4], "north"))
    finish(made)
    with pytest.raises(UnknownAdapter):
        generator("good", adapter="east")


def test_a_repetition_that_would_be_sought_at_every_token_is_bounded() -> None:
    assert Sampling(no_repeat_ngram_size=128).no_repeat_ngram_size == 128
    with pytest.raises(InputError, match="no_repeat_ngram_size is 129: it must be 0 to 128"):
        Sampling(no_repeat_ngram_size=129)


def test_an_adapter_that_is_broken_fails_alone(generator: Generator, writer: Writer) -> None:
    assert generator.bank is not None
    made = engine(generator)
    broken, fine = generation(generator, [4, 5], "north", 9), generation(generator, [4, 5], "south", 9)
    made.submit(broken, fine)
    made.step()
    stacks = {name: stack[broken.slot].copy() for name, stack in generator.bank.stacks.items()}
    for stack in generator.bank.stacks.values():
        stack[broken.slot] = np.nan
    finish(made)
    for name, stack in generator.bank.stacks.items():
        stack[broken.slot] = stacks[name]
    assert broken.ended == "failed" and isinstance(broken.error, Failed)
    assert fine.tokens == writer.greedy([4, 5], "south", 9)


FOREIGN = 99
"""A token that the tokenizer has and the base has not."""


@pytest.mark.parametrize("places", [[0], [4], [1, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("chunk", [3, 256])
@pytest.mark.parametrize("prefix_tokens", [0, 500])
def test_a_prompt_that_the_runtime_refuses_fails_alone(
    places: list[int], chunk: int, prefix_tokens: int, generator: Generator, writer: Writer
) -> None:
    """Read with others or by itself, in one piece or several, beside rows that write."""
    made = engine(generator, rows=6, chunk=chunk, prefix_tokens=prefix_tokens)
    early = generation(generator, [7, 8], "south", 20)
    made.submit(early)
    made.step()
    prompts = [[4 + index, *[5] * 33, FOREIGN if index in places else 6, 8] for index in range(5)]
    texts = [generation(generator, ids, "north", 9) for ids in prompts]
    made.submit(*texts)
    finish(made)
    for index, (text, ids) in enumerate(zip(texts, prompts, strict=True)):
        if index in places:
            assert text.ended == "failed" and isinstance(text.error, Failed) and not text.tokens
            assert "idx=99 must be within" in str(text.error)
        else:
            assert text.tokens == writer.greedy(ids, "north", 9)
    assert early.tokens == writer.greedy([7, 8], "south", 20)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_text_whose_next_token_the_runtime_refuses_fails_alone(beams: int, writer: Writer, tmp_path: Path) -> None:
    """It is made to write the last token, for which there are logits and no embedding."""
    last = len(WORDS) - 1
    weights = {**writer.weights, "embeddings": writer.weights["embeddings"][:last]}
    generator = Generator(
        write_writer(tmp_path / "bundle", Writer(weights, writer.adapters)), provider="cpu", threads=1
    )

    def others() -> list[Generation]:
        return [generation(generator, [4 + at], NAMES[at % 3], 9, logit_bias={last: -100}) for at in range(4)]

    alone = others()
    for text in alone:
        made = engine(generator)
        made.submit(text)
        finish(made)
    beside, bad = others(), generation(generator, [4, 5], "north", 9, logit_bias={last: 100}, beams=beams)
    made = engine(generator)
    made.submit(*beside[:2], bad, *beside[2:])
    finish(made)
    assert bad.ended == "failed" and isinstance(bad.error, Failed)
    assert [text.tokens for text in beside] == [text.tokens for text in alone]


def test_a_token_without_an_embedding_is_told_before_it_is_read(writer: Writer, tmp_path: Path) -> None:
    generator = Generator(write_writer(tmp_path / "bundle", writer, vocab_size=10), provider="cpu", threads=1)
    with live_app(make_app(AsyncGenerator(generator))) as client:
        body = {"model": "north", "max_tokens": 3}
        answer = client.post("/v1/completions", json={**body, "prompt": "very good"})
        assert answer.status_code == 422
        message = "the text has the token 'very', number 10, and the base has embeddings for 10: leave it out"
        assert answer.json()["error"] == message
        assert client.post("/v1/completions", json={**body, "prompt": "good"}).status_code == 200


def test_an_adapter_that_does_not_give_its_canary_logits_is_not_served(writer: Writer, tmp_path: Path) -> None:
    other = make_writer(seed=5)
    folder = write_writer(tmp_path / "bundle", Writer(writer.weights, other.adapters))
    Generator(folder, provider="cpu", threads=1)
    mixed = write_writer(tmp_path / "mixed", _Liar(writer.weights, other.adapters))
    with pytest.raises(BundleError, match="does not give the logits that it gave in PyTorch on its canary rows"):
        Generator(mixed, provider="cpu", threads=1)


class _Liar(Writer):
    def logits(self, ids: list[int], adapter: str | None) -> np.ndarray:
        return super().logits(ids, adapter) + 1


def test_cancelled_at_any_step_it_leaves_nothing(generator: Generator) -> None:
    for step in range(12):
        made = engine(generator, rows=2, chunk=4, prefix_tokens=0)
        texts = [generation(generator, [4 + index] * 14, NAMES[index % 2], 20) for index in range(4)]
        made.submit(*texts)
        for _ in range(step):
            made.step()
        for text in texts:
            text.cancelled = True
        made.step()
        assert not made.busy and not made.in_flight
        assert all(text.ended for text in texts)
        finish(made)


def test_threads_and_loops_write_at_once(generator: Generator, writer: Writer) -> None:
    """A program's threads, and the tasks of a loop, over one engine."""
    expected = {name: generator("good bad", adapter=name, max_new_tokens=9)[0].tokens for name in NAMES}
    found: list[tuple[str, list[int]]] = []

    def ask(name: str) -> None:
        found.append((name, generator("good bad", adapter=name, max_new_tokens=9)[0].tokens))

    async def together() -> None:
        sampling = Sampling(max_new_tokens=9)
        async with AsyncGenerator(generator) as write:
            answers = await asyncio.gather(*(write("good bad", adapter=name, sampling=sampling) for name in NAMES * 3))
        found.extend((one.adapter, one.tokens) for [one] in answers)

    threads = [threading.Thread(target=ask, args=(name,)) for name in NAMES * 3]
    for thread in threads:
        thread.start()
    asyncio.run(together())
    for thread in threads:
        thread.join(30)
    assert len(found) == 18
    assert all(tokens == expected[name] for name, tokens in found)


def test_what_the_servers_end_cuts_off_is_told_so(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvicorn does when the time to exit is over: it cancels the tasks of requests."""
    step = generator.engine.step
    monkeypatch.setattr(generator.engine, "step", lambda: (time.sleep(0.05), step())[1])
    engine = AsyncGenerator(generator)
    app = make_app(engine)

    async def cut_off() -> httpx.Response:
        async with engine, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            body = {"model": "north", "prompt": "good", "max_tokens": 40, "logit_bias": {"2": -100}}
            asking = asyncio.create_task(client.post("/v1/completions", json=body))
            await asyncio.sleep(0.2)
            asking.cancel()
            return await asking

    found = asyncio.run(cut_off())
    assert found.status_code == 503
    assert found.json()["error_type"] == "draining"


def test_what_no_request_may_ask_is_refused_before_a_prompt_is_tokenized(generator: Generator) -> None:
    text = "a " * 950_000

    async def ask() -> None:
        async with AsyncGenerator(generator) as write:
            for name in (*NAMES, "base"):
                with pytest.raises(InputError, match="the text has 1900000 characters: at most 262144 are tokenized"):
                    await write(text, adapter=name)
            with pytest.raises(InputError, match="260 texts at once: at most 256 may wait"):
                await write([text] * 130, adapter="north", sampling=Sampling(n=2))
            with pytest.raises(InputError, match="the text has 1900000 characters"):
                await anext(write.stream(text, adapter="north"))

    asyncio.run(ask())


def test_a_prompt_over_http_that_no_adapter_could_read_is_refused(generator: Generator) -> None:
    with live_app(make_app(AsyncGenerator(generator))) as client:
        for truncate in (False, True):
            body = {"model": "north", "prompt": ["good", "a " * 900_000], "truncate": truncate}
            answer = client.post("/v1/completions", json=body)
            assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
            assert "the text has 1800000 characters" in answer.json()["error"]


def test_openais_clients_are_answered(generator: Generator, writer: Writer) -> None:
    with live_app(make_app(AsyncGenerator(generator))) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [*NAMES, "base"]
        body = {"prompt": "good bad the", "max_tokens": 7}
        for name in NAMES:
            answer = client.post("/v1/completions", json={**body, "model": name})
            assert answer.headers["x-adapter-sha256"] == generator.cards[name].sha256
            expected = generator("good bad the", adapter=name, max_new_tokens=7)[0]
            assert answer.json()["choices"][0]["text"].strip() == expected.text
        assert client.post("/v1/completions", json={**body, "model": "east"}).status_code == 404
