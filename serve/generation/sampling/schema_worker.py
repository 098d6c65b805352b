"""Compiling a JSON schema, and the process that tries it first.

Run as a script, this file reads a schema from each line of its input and answers each with a line that says what is
wrong with it, or nothing. It runs isolated and imports nothing but llguidance, wherever that lies, so that it starts
quickly. A schema that exceeds the budget ends the process; so does the end of the input.
"""

import contextlib
import json
import signal
import sys
from typing import Any

FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How JSON is laid out unless the schema's `x-guidance` says otherwise: a model may else write blanks to its limit."""
LIMITS: dict[str, Any] = {
    "max_grammar_size": 100_000,
    "initial_lexer_fuel": 200_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
}
"""Of a schema, of its first token, and of what llguidance does between two tokens, which all rows wait for."""
OUT_OF_MEMORY = 3
"""Exit status of a process to which Python, and not the allocator of llguidance, said so."""


def compile_schema(schema: str, tokenizer: Any) -> Any:
    """Return an `LLMatcher` at the beginning of a text, over an `LLTokenizer`; a ValueError says what is wrong.

    Which tokens may come first is found here, since it may take longer than any later step; copies share it.
    """
    from llguidance import LLMatcher, LLParserLimits  # not above: a script learns from its arguments where it lies

    try:
        grammar = LLMatcher.grammar_from_json_schema(schema, defaults=FORM)
    except ValueError as error:
        raise ValueError(f"is no JSON schema: {first_line(str(error))}") from error
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
    matcher.compute_bitmask()
    if matcher.is_error():
        raise ValueError(f"cannot be followed: {first_line(matcher.get_error())}")
    return matcher


def first_line(text: str) -> str:
    """Return what is worth telling of a message: some go on for pages."""
    return (text.strip() or "no reason given").splitlines()[0][:200]


def _main(path: str, seconds: str, megabytes: str) -> None:
    sys.path.append(path)
    from llguidance import LLTokenizer

    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group; the server decides when this ends
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(int(megabytes) * 2**20)
    tokenizer = LLTokenizer("byte")  # what takes long does not depend on the vocabulary
    for schema in iter(sys.stdin.readline, ""):
        _limit_time(float(seconds))
        try:
            compile_schema(schema, tokenizer)
            wrong = ""
        except ValueError as error:
            wrong = str(error)
        _limit_time(0)
        sys.stdout.write(json.dumps(wrong) + "\n")
        sys.stdout.flush()


def _limit_memory(size: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limit on some systems
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _limit_time(seconds: float) -> None:
    """End this process after so much CPU time; 0 takes that back. A system without such a timer has the server's."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
