"""Schemas that cost too much are refused within a budget, and whatever goes on beside them goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from serve.errors import GenerationFailed, InputError, Overloaded, ShuttingDown
from serve.generation.sampling import schema_worker
from serve.generation.sampling.schema_trials import CompileBudget, SchemaTrials, Trial
from serve.generation.sampling.structured_output import GrammarCache

ENDLESS: dict[str, Any] = {"allOf": [{"type": "string", "pattern": f".*a{number}.*"} for number in range(20)]}
"""A text that all of these patterns allow is sought among some 2^20."""
PLAIN: dict[str, Any] = {"type": "object", "properties": {"cheap": {"type": "boolean"}}, "required": ["cheap"]}
SHORT = CompileBudget(seconds=0.3)
LONG = CompileBudget(seconds=600, megabytes=4096)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(["<end>", *alphabet])}, []))
    made.decoder = decoders.ByteLevel()
    return made


def grammar_cache(tokenizer: Tokenizer, budget: CompileBudget) -> GrammarCache:
    return GrammarCache(tokenizer, tokenizer.get_vocab_size(), budget)


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_schema_without_an_end_is_refused_and_one_beside_it_answered(tokenizer: Tokenizer) -> None:
    assert len(json.dumps(ENDLESS)) == 841

    async def ask() -> tuple[Any, ...]:
        made = grammar_cache(tokenizer, SHORT)
        asked = [made.compile_async(schema, [0]) for schema in (ENDLESS, PLAIN, ENDLESS)]
        return tuple(await asyncio.gather(*asked, return_exceptions=True))

    started = time.monotonic()
    one, plain, other = asyncio.run(ask())
    assert time.monotonic() - started < 15
    for refused in (one, other):
        assert isinstance(refused, InputError)
        assert str(refused).startswith("json_schema takes more than 0.3 s to compile: simplify it")
    assert plain.start().allowed().any()


def test_a_schema_that_takes_too_much_memory_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="json_schema takes more than 64 MB to compile: simplify it"):
        grammar_cache(tokenizer, CompileBudget(seconds=60, megabytes=64)).compile(ENDLESS, [0])


def nested(schema: dict[str, Any], depth: int, around: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    for _ in range(depth):
        schema = around(schema)
    return schema


def chain(around: Callable[[dict[str, Any]], dict[str, Any]], length: int = 900) -> dict[str, Any]:
    links = {f"d{number}": around({"$ref": f"#/$defs/d{number + 1}"}) for number in range(length)}
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}, id="counts in counts"),
        pytest.param({"type": "string", "pattern": "^(.{1,300} ){1,300}$"}, id="counts that overlap"),
        pytest.param({"type": "string", "pattern": ".*a.{300}.*b.{300}"}, id="two tails"),
        pytest.param({"type": "string", "pattern": "(?:" * 2000 + "a" + ")?" * 2000}, id="brackets"),
        pytest.param({"type": "integer", "multipleOf": 982_451_653}, id="a large factor"),
        pytest.param({"enum": [f"value {number}" for number in range(3500)]}, id="a large enum"),
        pytest.param({"properties": {f"p{number}": {} for number in range(3000)}}, id="many properties"),
        pytest.param({"type": "array", "minItems": 10**6, "maxItems": 10**7}, id="many items"),
        pytest.param({"type": "string", "minLength": 10**6, "maxLength": 10**7}, id="a long text"),
        pytest.param(nested({"type": "null"}, 60, lambda one: {"items": one}), id="depth"),
        pytest.param(nested({"type": "null"}, 400, lambda one: {"items": one}), id="more depth"),
        pytest.param(nested({"minLength": 1}, 9, lambda one: {"allOf": [one, {"anyOf": [one, {}]}]}), id="both"),
        pytest.param(chain(lambda link: link), id="a chain"),
        pytest.param(chain(lambda link: {"allOf": [link], "maxLength": 5}), id="a chain of allOf"),
        pytest.param(chain(lambda link: {"allOf": [link, link]}, 30), id="a chain that doubles"),
        pytest.param({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, id="a circle"),
        pytest.param(
            {"allOf": [{"anyOf": [{"properties": {f"{i}{j}": {"const": j}}} for j in range(4)]} for i in range(12)]},
            id="all of any",
        ),
        pytest.param(
            {"allOf": [{"type": "string", "pattern": f"^(a|b)*a(a|b){{{count}}}$"} for count in range(10, 20)]},
            id="states",
        ),
        pytest.param(
            {"allOf": [{"format": one} for one in ("email", "hostname", "uri", "date-time")]}, id="formats at once"
        ),
    ],
)
def test_a_schema_made_to_cost_much_is_compiled_or_refused_in_words(
    schema: dict[str, Any], tokenizer: Tokenizer
) -> None:
    try:
        state = grammar_cache(tokenizer, CompileBudget(seconds=1)).compile(schema, [0]).start()
        for _ in range(20):
            state.accept(int(state.allowed().nonzero()[0][-1]))
    except InputError as error:
        assert len(str(error)) < 300


def test_a_cancelled_request_ends_its_compilation(tokenizer: Tokenizer) -> None:
    async def ask() -> tuple[GrammarCache, int]:
        made = grammar_cache(tokenizer, LONG)
        asked = asyncio.create_task(made.compile_async(ENDLESS, [0]))
        await asyncio.to_thread(eventually, lambda: any(trial.worker for trial in made.compiling))
        (trial,) = made.compiling
        assert trial.worker is not None
        pid = trial.worker.pid
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        return made, pid

    made, pid = asyncio.run(ask())
    eventually(lambda: not runs(pid))
    eventually(lambda: not made.compiling)


def test_what_waits_holds_none_of_the_threads_that_others_use(tokenizer: Tokenizer) -> None:
    async def ask() -> None:
        made = grammar_cache(tokenizer, LONG)
        asked = [
            asyncio.create_task(made.compile_async({**ENDLESS, "title": str(number)}, [0])) for number in range(30)
        ]
        await asyncio.sleep(0.2)
        assert sum(await asyncio.gather(*(asyncio.to_thread(int, "1") for _ in range(20)))) == 20
        assert len(made.compiling) == 30
        made.stop()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ShuttingDown}
        assert not made.compiling

    started = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - started < 20


def test_more_than_may_wait_are_told_to_come_again(tokenizer: Tokenizer) -> None:
    async def ask() -> None:
        made = grammar_cache(tokenizer, CompileBudget(seconds=600, processes=1, queued=1))
        asked = [asyncio.create_task(made.compile_async({**ENDLESS, "title": str(number)}, [0])) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 schemas are being compiled or wait: try again later"):
            await made.compile_async(PLAIN, [0])
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: not made.compiling)
        assert (await made.compile_async(PLAIN, [0])).start().allowed().any()

    asyncio.run(ask())


def test_a_schema_at_hand_waits_for_no_trial(tokenizer: Tokenizer) -> None:
    async def ask() -> None:
        made = grammar_cache(tokenizer, CompileBudget(seconds=600, processes=1, queued=0))
        before = await made.compile_async(PLAIN, [0])
        asked = asyncio.create_task(made.compile_async(ENDLESS, [0]))
        await asyncio.sleep(0)
        assert await made.compile_async(PLAIN, [0]) is before
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(ask())


def test_a_process_is_kept_for_the_next_schema_and_ended_by_stop() -> None:
    trials = SchemaTrials(SHORT)
    trials.run(json.dumps(PLAIN), Trial())
    (worker,) = trials.idle
    with pytest.raises(InputError, match="json_schema cannot be followed"):
        trials.run('{"type": "nothing"}', Trial())
    assert trials.idle == [worker]
    worker.kill()
    worker.wait()
    trials.run(json.dumps(PLAIN), Trial())
    (other,) = trials.idle
    assert other.pid != worker.pid
    trials.stop()
    assert not trials.idle and other.returncode is not None
    trials.run(json.dumps(PLAIN), Trial())
    pid = trials.idle[0].pid
    del trials
    eventually(lambda: not runs(pid))


@pytest.mark.slow
def test_a_process_ends_with_its_server_or_with_its_time() -> None:
    """Killed, a server can end nothing; the trial under way then ends by itself."""
    script = f"""
import json, threading
from serve.generation.sampling.schema_trials import CompileBudget, SchemaTrials, Trial

trials, trial = SchemaTrials(CompileBudget(seconds=1.5)), Trial()
trials.run(json.dumps({PLAIN!r}), Trial())
print(trials.idle[0].pid, flush=True)
trials.run(json.dumps({ENDLESS!r}), trial)
"""
    for ending in (signal.SIGKILL, signal.SIGTERM):
        server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert runs(pid)
        time.sleep(0.2)
        server.send_signal(ending)
        server.communicate()
        eventually(lambda pid=pid: not runs(pid))


def test_signals_to_the_whole_group_leave_a_trial_to_the_server() -> None:
    trials = SchemaTrials(SHORT)
    trials.run(json.dumps(PLAIN), Trial())
    (worker,) = trials.idle
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    trials.run(json.dumps(PLAIN), Trial())
    assert trials.idle == [worker]


def test_a_process_that_cannot_work_is_no_fault_of_the_schema(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", schema_worker.__file__, str(tmp_path), "1", "512"]
    result = subprocess.run(command, input="{}\n", capture_output=True, text=True)
    error = SchemaTrials(SHORT)._reason(Trial(), result.returncode, result.stderr)
    assert isinstance(error, GenerationFailed)
    assert str(error).endswith("ended with status 1: ModuleNotFoundError: No module named 'llguidance'")


def test_a_budget_has_bounds() -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        CompileBudget(seconds=0)
