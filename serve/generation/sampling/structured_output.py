"""Structured output: text of a JSON schema or a grammar, constrained token by token through llguidance."""

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
from serve.generation.sampling.embedded_schemas import explained_grammar, prepared_grammar
from serve.generation.sampling.refused_schemas import RefusedSchemas, return_memory
from serve.generation.sampling.schema_preparation import explained, prepared
from serve.generation.sampling.schema_trials import CompileBudget, SchemaTrials, Trial
from serve.generation.sampling.schema_worker import compile_schema, first_line, name_of

EosTokens = tuple[int, ...]
Constraint = Mapping[str, Any] | str
"""A JSON schema, or a grammar in llguidance's dialect of Lark or in GBNF."""
MAX_SCHEMA_LENGTH = 64_000
"""Characters of a schema."""
MAX_GRAMMARS = 16
"""Grammars that are kept for the next request with their schema."""


class Grammar:
    """A compiled schema or grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, name: str = "json_schema") -> None:
        """Keep what was compiled from the field of that name."""
        self.matcher, self.vocabulary, self.name = matcher, vocabulary, name
        self.failed = False
        """llguidance gave up in one sequence, and would in all others, which share what it computed."""

    def start(self) -> "GrammarState":
        """Return the state of a sequence that has not begun."""
        return GrammarState(self)


class GrammarState:
    """The position of one sequence in a grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar, self.matcher = grammar, grammar.matcher.deep_copy()

    def allowed(self) -> NDArray[np.bool_]:
        """Return a mask (vocabulary,) of the tokens that may come next.

        Raises:
            InputError: llguidance cannot follow the schema any further, or the text is complete.
        """
        size = self.grammar.vocabulary
        bits = allocate_token_bitmask(1, size)
        fill_next_token_bitmask(self.matcher, bits)
        if self.matcher.is_error():  # it then allows the end alone, as if the text were complete
            raise self._failure()
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little")[:size].astype(bool)
        if not allowed.any():
            raise InputError(f"{self.grammar.name} allows no further token: the text is complete", self.grammar.name)
        return allowed

    def accept(self, token: int) -> None:
        """Advance by a token.

        Raises:
            InputError: llguidance cannot follow the schema any further.
        """
        if not self.matcher.consume_token(token):
            raise self._failure()

    def _failure(self) -> InputError:
        self.grammar.failed = True
        name = self.grammar.name
        return InputError(f"{name} cannot be followed: {first_line(self.matcher.get_error())}", name)


class GrammarCache:
    """Compiles schemas for one tokenizer, in threads of its own and after a trial in a process; keeps the latest."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, budget: CompileBudget | None = None) -> None:
        """Create an empty cache.

        Args:
            tokenizer: The bundle's tokenizer, converted once for each set of end-of-sequence tokens.
            vocabulary: Number of logits.
            budget: Bounds of compiling a schema.
        """
        self.tokenizer, self.vocabulary, self.budget = tokenizer, vocabulary, budget or CompileBudget()
        self.converted: dict[EosTokens, LLTokenizer] = {}
        self.conversion = threading.Lock()
        self.grammars: OrderedDict[tuple[str, EosTokens], Grammar] = OrderedDict()
        """Grammars by schema and end-of-sequence tokens, least recently used first."""
        self.refused = RefusedSchemas()
        self.lock = threading.Lock()
        self.trials = SchemaTrials(self.budget)
        self.compiling: set[Trial] = set()
        """Trials that run or wait."""
        self.threads = ThreadPoolExecutor(self.budget.processes, thread_name_prefix="adamix-schemas")

    def compile(self, schema: Constraint, eos_token_ids: Sequence[int]) -> Grammar:
        """Return the grammar of a schema.

        Raises:
            InputError: llguidance cannot follow the schema, or compiling it exceeds the budget.
            Overloaded: Too many schemas wait.
        """
        future, trial = self._begin(schema, eos_token_ids)
        try:
            return future.result()
        except BaseException:
            trial.cancel()
            raise

    async def compile_async(self, schema: Constraint, eos_token_ids: Sequence[int]) -> Grammar:
        """Return the grammar of a schema, as `compile` does; cancelling the call ends the compilation."""
        future, trial = self._begin(schema, eos_token_ids)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            trial.cancel()
            raise

    def stop(self) -> None:
        """Cancel all compilations and end the processes; later requests start them again."""
        with self.lock:
            compiling = list(self.compiling)
        for trial in compiling:
            trial.cancel()
        self.trials.stop()

    def _begin(self, schema: Constraint, eos_token_ids: Sequence[int]) -> tuple[Future[Grammar], Trial]:
        """Return a future of the grammar, and the trial that cancels it."""
        key, trial = (_serialized(schema), tuple(eos_token_ids)), Trial()
        if (cached := self._cached(key)) is not None:
            done: Future[Grammar] = Future()
            done.set_result(cached)
            return done, trial
        self.refused.check(*key)
        with self.lock:
            if len(self.compiling) >= self.budget.processes + self.budget.queued:
                raise Overloaded(f"{len(self.compiling)} schemas are being compiled or wait: try again later")
            self.compiling.add(trial)
        future = self.threads.submit(self._compile, *key, trial)
        future.add_done_callback(lambda _: self._done(trial))
        return future, trial

    def _done(self, trial: Trial) -> None:
        with self.lock:
            self.compiling.discard(trial)

    def _cached(self, key: tuple[str, EosTokens]) -> Grammar | None:
        with self.lock:
            if key not in self.grammars or self.grammars[key].failed:
                return None
            self.grammars.move_to_end(key)
            return self.grammars[key]

    def _compile(self, schema: str, eos: EosTokens, trial: Trial) -> Grammar:
        try:
            if (cached := self._cached((schema, eos))) is not None:
                return cached
            self.refused.check(schema, eos)
            self._forget_failed()
            try:
                self.trials.run(schema, trial)
                return self._add(schema, eos)
            except InputError as error:
                refusal = InputError(_explained(str(error), json.loads(schema)), error.field)
                if not trial.late:  # the machine may have been busy with other work
                    self.refused.add(schema, eos, refusal)
                raise refusal from error
        finally:
            self._done(trial)

    def _forget_failed(self) -> None:
        """Forget the grammars that failed in a text: each holds megabytes, which return to the system."""
        with self.lock:
            failed = [key for key, grammar in self.grammars.items() if grammar.failed]
            for key in failed:
                del self.grammars[key]
        if failed:
            return_memory()

    def _add(self, schema: str, eos: EosTokens) -> Grammar:
        """Compile and keep a schema whose trial succeeded."""
        try:
            tokenizer = self._tokenizer(eos)
        except ValueError as error:
            fault = f"{name_of(schema)} cannot be followed with this base's tokenizer: {first_line(str(error))}"
            raise InputError(fault, name_of(schema)) from error
        try:
            matcher: LLMatcher = compile_schema(schema, tokenizer)
        except ValueError as error:
            raise InputError(f"{name_of(schema)} {error}", name_of(schema)) from error
        grammar = Grammar(matcher, self.vocabulary, name_of(schema))
        grammar.start().allowed()
        with self.lock:
            self.grammars[schema, eos] = grammar
            if len(self.grammars) > MAX_GRAMMARS:
                self.grammars.popitem(last=False)
        return grammar

    def _tokenizer(self, eos: EosTokens) -> LLTokenizer:
        with self.conversion:
            if eos not in self.converted:
                text = self.tokenizer.to_str()
                self.converted[eos] = LLTokenizer(text, n_vocab=self.vocabulary, eos_token=list(eos))
            return self.converted[eos]


def _serialized(schema: Constraint) -> str:
    """Return a schema or grammar on one line.

    Raises:
        InputError: It is no JSON, or too long.
    """
    try:
        text = json.dumps(prepared_grammar(schema) if isinstance(schema, str) else prepared(schema))
    except (TypeError, ValueError, RecursionError) as error:
        name, verb = ("grammar", "holds") if isinstance(schema, str) else ("json_schema", "is")
        raise InputError(f"{name} {verb} no JSON schema: {first_line(str(error))}", name) from error
    if len(text) > MAX_SCHEMA_LENGTH:
        name = name_of(text)
        raise InputError(f"{name} has {len(text)} characters: give at most {MAX_SCHEMA_LENGTH}", name)
    return text


def _explained(fault: str, schema: Any) -> str:
    """Return llguidance's message about a schema or grammar, in words that say where it is wrong."""
    return explained_grammar(fault, schema) if isinstance(schema, str) else explained(fault, schema)
