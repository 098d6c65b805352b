"""Flags of adamix-serve that set a limit of its engines or of its requests."""

import argparse
from collections.abc import Callable
from typing import Any

from serve.connection_limits import ConnectionLimits
from serve.flag_types import not_negative, positive, positive_seconds, seconds
from serve.limits import BATCH_TOKENS, BatchLimits, GenerationLimits
from serve.runtime.providers import CPU, CUDA

BATCHES, SEQUENCES, CONNECTIONS = BatchLimits(), GenerationLimits(), ConnectionLimits()
MOST_GUESSES = 31
"""Most tokens of a step that may be guesses."""
LIMITS: dict[str, str] = {
    "max_batch_requests": "texts in one batch, or sequences generated at a time "
    f"(default: {BATCHES.max_batch_requests} for classifiers, {SEQUENCES.max_batch_requests} for generators)",
    "max_queued_requests": "texts that wait; beyond that the response is 429 "
    f"(default: {BATCHES.max_queued_requests} for classifiers, {SEQUENCES.max_queued_requests} for generators)",
    "streams": "classifiers: batches that run side by side under load, one thread each, on the CPU "
    "(default: --threads)",
    "max_batch_tokens": "classifiers: padded tokens of a batch "
    f"(default: {BATCH_TOKENS[CPU]} on the CPU, {BATCH_TOKENS[CUDA]} on a GPU)",
    "max_tokens_in_flight": "generators: KV-cache budget in tokens, active rows × longest possible sequence; a request "
    f"that can never fit is refused, one that does not fit now waits (default: {SEQUENCES.max_tokens_in_flight})",
    "long_row_tokens": "generators: texts that may become longer than this are batched by themselves, so "
    "that shorter ones need no room of their length "
    f"(default: {SEQUENCES.long_row_tokens})",
    "prefill_chunk": "generators: prompt tokens that are processed between two decode steps "
    f"(default: {SEQUENCES.prefill_chunk})",
    "prefix_tokens": "generators: size of the prefix cache in prompt tokens; 0 disables it "
    f"(default: {SEQUENCES.prefix_tokens})",
    "prompt_lookup": f"generators on the CPU: guess up to so many tokens, at most {MOST_GUESSES}, from a text's own "
    "prompt, and verify them in one step; off guesses none (default: off)",
}
"""Flags that set a limit of the engine, and their help."""
REQUESTS: tuple[tuple[str, int, str], ...] = (
    ("--max-client-batch-size", 64, "texts in one request"),
    ("--payload-limit", 2_000_000, "bytes of one request"),
    ("--payloads-limit", 256_000_000, "bytes of the bodies of all requests at a time; beyond that the response is 503"),
    ("--header-limit", CONNECTIONS.header_limit, "bytes of a request's line and headers; beyond that it is 431"),
    ("--header-timeout-secs", 10, "seconds in which the headers of a request have to arrive; then the response is 408"),
    ("--body-timeout-secs", 30, "seconds in which the body of a request has to arrive; then the response is 408"),
    ("--keep-alive-secs", 75, "seconds after which an idle connection is closed; more than the proxy before it waits"),
    ("--max-metric-adapters", 100, "adapters with a label of their own in the metrics; the others share one, other"),
    ("--write-timeout-secs", 60, "seconds in which a client has to read what was sent before its connection is cut"),
    (
        "--max-connections",
        CONNECTIONS.max_connections,
        "open connections; a further one takes the place of one without a request, or gets 503",
    ),
    ("--exit-timeout-secs", 30, "seconds to complete requests in flight after SIGTERM"),
)


def guesses(text: str) -> int:
    """Return the most tokens that a step guesses, 0 for off."""
    value = 0 if text == "off" else positive(text)
    if value > MOST_GUESSES:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_GUESSES}")
    return value


TYPES: dict[str, Callable[[str], int]] = {"prefix_tokens": not_negative, "prompt_lookup": guesses}
"""Types of the flags whose value need not be positive."""


def limits(args: argparse.Namespace) -> dict[str, Any]:
    """Return the limits of the engine; None for those that were not given."""
    waits = {"timeout": args.timeout, "max_queue_secs": args.max_queue_secs}
    return {**waits, "ensemble": args.ensemble, **{name: getattr(args, name) for name in LIMITS}}


def add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    for name, text in LIMITS.items():
        metavar = "N|off" if name == "prompt_lookup" else None
        parser.add_argument(f"--{name.replace('_', '-')}", type=TYPES.get(name, positive), metavar=metavar, help=text)
    for flag, default, text in REQUESTS:
        parser.add_argument(flag, type=positive, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--drain-delay",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="seconds after SIGTERM in which the server takes requests although /health/ready is 503, so that proxies "
        "send no more before it closes its port (default: 0)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=BATCHES.timeout,
        help="seconds that a request may wait to begin; then the response is 504 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue-secs",
        type=positive_seconds,
        help="longest wait that a new request may expect, by the rate at which the queue emptied of late; then the "
        f"response is 429 at once (default: {BATCHES.max_queue_secs:g} for classifiers, no bound for generators)",
    )
