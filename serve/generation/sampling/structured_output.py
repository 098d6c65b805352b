"""Texts that must be JSON of a schema: llguidance tells which tokens may come next."""

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve.errors import InputError, Overloaded
from serve.generation.sampling.schema_trials import CompileBudget, SchemaTrials, Trial
from serve.generation.sampling.schema_worker import compile_schema, first_line

Ends = tuple[int, ...]
LARGEST = 64_000
"""Characters of a schema."""
KEPT = 16
"""Schemas that are kept for the next request with them."""


class Grammar:
    """A compiled schema."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self.matcher, self.size = matcher, size
        self.failed = False
        """Whether llguidance gave it up in some text: it then does so in every one, since they share what it found."""

    def guide(self) -> "Guide":
        """Return the guide of a text that has not been begun."""
        return Guide(self)


class Guide:
    """The state of one text."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar, self.matcher = grammar, grammar.matcher.deep_copy()

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next (vocabulary,)."""
        size = self.grammar.size
        bits = allocate_token_bitmask(1, size)
        fill_next_token_bitmask(self.matcher, bits)
        if self.matcher.is_error():  # it then allows the end alone, as if the text were whole
            raise self._failure()
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[:size].astype(bool)
        if not allowed.any():
            raise InputError("nothing may follow by the JSON schema: it is at its end")
        return allowed

    def take(self, token: int) -> None:
        """Go on after a token."""
        if not self.matcher.consume_token(token):
            raise self._failure()

    def _failure(self) -> InputError:
        self.grammar.failed = True
        return InputError(f"json_schema cannot be followed: {first_line(self.matcher.get_error())}")


class Guides:
    """Compiles schemas for one tokenizer, which is converted once for every set of ends.

    That happens in threads of its own, after a trial in a process; a schema that was compiled lately is at hand.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, budget: CompileBudget | None = None) -> None:
        """Make guides over a vocabulary of `size` logits."""
        self.tokenizer, self.size, self.budget = tokenizer, size, budget or CompileBudget()
        self.converted: dict[Ends, LLTokenizer] = {}
        self.conversion = threading.Lock()
        self.kept: OrderedDict[tuple[str, Ends], Grammar] = OrderedDict()
        """By schema and ends; the one used last stays longest."""
        self.lock = threading.Lock()
        self.trials = SchemaTrials(self.budget)
        self.compiling: set[Trial] = set()
        """What waits to be compiled included."""
        self.threads = ThreadPoolExecutor(self.budget.processes, thread_name_prefix="adamix-schemas")

    def grammar(self, schema: Mapping[str, Any], ends: Sequence[int]) -> Grammar:
        """Return a schema's grammar; an error if llguidance cannot follow the schema, or the budget is exceeded."""
        future, trial = self._begin(schema, ends)
        try:
            return future.result()
        except BaseException:
            trial.cancel()
            raise

    async def compiled(self, schema: Mapping[str, Any], ends: Sequence[int]) -> Grammar:
        """Return a schema's grammar, as `grammar` does; compiling ends with the task that waits for it."""
        future, trial = self._begin(schema, ends)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            trial.cancel()
            raise

    def stop(self) -> None:
        """Compile nothing on, and end the processes; what is asked for afterwards starts them again."""
        with self.lock:
            compiling = list(self.compiling)
        for trial in compiling:
            trial.cancel()
        self.trials.stop()

    def _begin(self, schema: Mapping[str, Any], ends: Sequence[int]) -> tuple[Future[Grammar], Trial]:
        """Return the grammar that is to come, and what cancels it."""
        key, trial = (_text(schema), tuple(ends)), Trial()
        if (kept := self._kept(key)) is not None:
            done: Future[Grammar] = Future()
            done.set_result(kept)
            return done, trial
        with self.lock:
            if len(self.compiling) >= self.budget.processes + self.budget.queued:
                raise Overloaded(f"{len(self.compiling)} schemas are compiled or wait for it: try again later")
            self.compiling.add(trial)
        future = self.threads.submit(self._compile, *key, trial)
        future.add_done_callback(lambda _: self._done(trial))
        return future, trial

    def _done(self, trial: Trial) -> None:
        with self.lock:
            self.compiling.discard(trial)

    def _kept(self, key: tuple[str, Ends]) -> Grammar | None:
        with self.lock:
            if key in self.kept and self.kept[key].failed:
                del self.kept[key]
            if key in self.kept:
                self.kept.move_to_end(key)
            return self.kept.get(key)

    def _compile(self, schema: str, ends: Ends, trial: Trial) -> Grammar:
        """Return a grammar and keep it; an error if the schema is wrong, or cannot say what may come first."""
        try:
            if (kept := self._kept((schema, ends))) is not None:
                return kept
            self.trials.run(schema, trial)
            return self._keep(schema, ends)
        finally:
            self._done(trial)

    def _keep(self, schema: str, ends: Ends) -> Grammar:
        try:
            matcher: LLMatcher = compile_schema(schema, self._tokenizer(ends))
        except ValueError as error:
            raise InputError(f"json_schema {error}") from error
        grammar = Grammar(matcher, self.size)
        grammar.guide().allowed()
        with self.lock:
            self.kept[schema, ends] = grammar
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return grammar

    def _tokenizer(self, ends: Ends) -> LLTokenizer:
        with self.conversion:
            if ends not in self.converted:
                self.converted[ends] = self._convert(ends)
            return self.converted[ends]

    def _convert(self, ends: Ends) -> LLTokenizer:
        try:
            return LLTokenizer(self.tokenizer.to_str(), n_vocab=self.size, eos_token=list(ends))
        except ValueError as error:
            raise InputError(f"this base's tokenizer cannot follow a schema: {first_line(str(error))}") from error


def _text(schema: Mapping[str, Any]) -> str:
    """Return a schema on one line; an error if it is none, or too long."""
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"json_schema is no JSON schema: {first_line(str(error))}") from error
    if len(text) > LARGEST:
        raise InputError(f"json_schema has {len(text)} characters: give at most {LARGEST}")
    return text
