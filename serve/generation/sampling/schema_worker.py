"""Compilation of a JSON schema or a grammar, and the process that tries it first.

Both are serialized as JSON on one line: an object is a JSON schema, a string a grammar, in llguidance's dialect of Lark
or in GBNF.
Run as a script, this file reads one from each line of its input and replies with a line that holds its fault, or
an empty string. It runs isolated and imports llguidance alone, so that it starts quickly. A schema that exceeds the
budget ends the process; so does the end of the input.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

JSON_LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Layout of the JSON unless the schema's `x-guidance` sets another: a model may otherwise generate blanks only."""
PARSER_LIMITS: dict[str, Any] = {
    "max_grammar_size": 100_000,
    "initial_lexer_fuel": 200_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
}
"""Limits of a schema, of its first token, and of llguidance's work between two tokens, which all rows wait for."""
TRIED_BYTES, TRIED_SECONDS = 32, 0.2
"""Bytes of a text that a trial writes at most, and CPU time after which it writes no more."""
OUT_OF_MEMORY = 3
"""Exit status of a process in which Python, and not llguidance's allocator, ran out of memory."""
MAX_REASON_LENGTH = 200
"""Characters of a message that are quoted: some of llguidance's have pages."""


def name_of(schema: str) -> str:
    """Return the name of a request's field that holds such a schema or grammar."""
    return "grammar" if schema.startswith('"') else "json_schema"


def compile_schema(schema: str, tokenizer: Any) -> Any:
    """Return an `LLMatcher` at the beginning of a text, over an `LLTokenizer`.

    The first mask is computed here, since it may take longer than any later one; copies share it.

    Raises:
        ValueError: llguidance cannot follow the schema or grammar.
    """
    from llguidance import LLMatcher, LLParserLimits  # not at the top: the script learns its path from its arguments

    try:
        if name_of(schema) == "grammar":
            grammar = LLMatcher.grammar_from_lark(_as_lark(json.loads(schema)))
        else:
            grammar = LLMatcher.grammar_from_json_schema(schema, defaults=JSON_LAYOUT)
    except ValueError as error:
        kind = "grammar" if name_of(schema) == "grammar" else "JSON schema"
        raise ValueError(f"is no {kind}: {first_line(str(error))}") from error
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(**PARSER_LIMITS))
    matcher.compute_bitmask()
    if matcher.is_error():
        raise ValueError(f"cannot be followed: {first_line(matcher.get_error())}")
    return matcher


def try_texts(schema: str, tokenizer: Any) -> None:
    """Compile a schema and write the beginnings of two of its texts.

    A schema may compile, allow its first token, and fail at the next one. It passes if either text goes on, since
    others may then too: one of the least byte that may come next each time, one of the largest.

    Args:
        schema: A schema or grammar.
        tokenizer: An `LLTokenizer` of bytes.

    Raises:
        ValueError: llguidance cannot follow the schema or grammar, or none of the texts.
    """
    faults = []
    for choose in (min, max):  # each anew, since what failed once fails in all copies
        fault = _fault_of_text(compile_schema(schema, tokenizer), choose, tokenizer.eos_token)
        if not fault:
            return
        faults.append(fault)
    raise ValueError(f"cannot be followed: {first_line(faults[0])}")


def _fault_of_text(matcher: Any, choose: Callable[[Sequence[int]], int], end: int) -> str:
    """Return llguidance's message about the beginning of a text, or an empty string."""
    until = time.process_time() + TRIED_SECONDS
    for _ in range(TRIED_BYTES):
        bits = matcher.compute_bitmask()
        allowed = [token for token in range(end) if bits[token // 8] >> token % 8 & 1]
        if matcher.is_error() or not allowed or time.process_time() > until:
            break
        matcher.consume_token(choose(allowed))
    return str(matcher.get_error()) if matcher.is_error() else ""


def first_line(text: str) -> str:
    """Return the first line of a message, shortened; the script cannot import `serve.errors`."""
    return (text.strip() or "no reason given").splitlines()[0][:MAX_REASON_LENGTH]


def _as_lark(grammar: str) -> str:
    """Return a grammar in llguidance's dialect of Lark, translated if it is GBNF."""
    if "::=" not in grammar:
        return grammar
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return any_to_lark(grammar)
    except Exception as error:  # a parser by hand, which raises whatever it meets
        raise ValueError(str(error)) from error


def _main(path: str, seconds: str, megabytes: str) -> None:
    sys.path.append(path)
    from llguidance import LLTokenizer

    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group; the server decides when this ends
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(int(megabytes) * 2**20)
    tokenizer = LLTokenizer("byte")  # the slow part does not depend on the vocabulary
    for schema in iter(sys.stdin.readline, ""):
        _limit_time(float(seconds))
        try:
            try_texts(schema, tokenizer)
            fault = ""
        except ValueError as error:
            fault = str(error)
        _limit_time(0)
        sys.stdout.write(json.dumps(fault) + "\n")
        sys.stdout.flush()


def _limit_memory(size: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # some systems have no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _limit_time(seconds: float) -> None:
    """End this process after so much CPU time, 0 for none; on a system without such a timer, the server's ends it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
