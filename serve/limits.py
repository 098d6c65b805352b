"""Limits of an engine, as its operator sets them: the bounds of queues, batches and caches."""

from dataclasses import dataclass

import numpy as np

BATCH_TOKENS = {"CPUExecutionProvider": 512, "CUDAExecutionProvider": 8192, "OpenVINOExecutionProvider": 512}
"""Default padded tokens of a batch by provider: on the CPU as many as its caches hold; elsewhere not yet measured."""
DEFAULT_MAX_NEW_TOKENS = 64
"""Most tokens that are generated for a prompt whose request does not say how many."""
DEFAULT_CHAT_TOKENS = 512
"""The same for the answer of a chat, which people expect whole."""


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """Limits of a classifier's queue and batches."""

    max_batch_tokens: int = 512
    """Padded tokens of a batch: rows × longest row. A single longer row still runs, alone."""
    run_overhead_tokens: int = 16
    """Fixed cost of one run, expressed in tokens: higher values accept more padding for larger batches.

    MiniLM: 13 on one core, 22 on two."""
    max_batch_requests: int = 64
    """Texts in a batch."""
    max_queued_requests: int = 1024
    """Texts that wait for a batch; a full queue refuses more."""
    timeout: float = 30.0
    """Seconds that a request may wait for its first batch."""
    max_queue_secs: float = 2.0
    """Longest wait in seconds that a new request may expect, by the rate of late; else it is refused."""


@dataclass(frozen=True, kw_only=True)
class GenerationLimits:
    """Limits of a generator's queue, batch and KV cache."""

    max_batch_requests: int = 16
    """Sequences that are generated at a time; a beam counts as one."""
    max_tokens_in_flight: int = 16_384
    """KV-cache budget in tokens: active rows × longest possible sequence (prompt + `max_new_tokens`), of a bucket."""
    long_row_tokens: int = 2048
    """Sequences that may become longer have a bucket of their own: shorter ones need no rows of their length."""
    max_queued_requests: int = 256
    """Sequences that wait for a row; a full queue refuses more."""
    prefill_chunk: int = 256
    """Prompt tokens that are processed between two decode steps."""
    prefix_tokens: int = 1024
    """Prompt tokens whose cache is kept for prompts that begin alike; 0 keeps none."""
    prompt_lookup: int = 0
    """Most tokens that a step guesses from a row's own prompt and text, and verifies; 0 guesses none."""
    timeout: float = np.inf
    """Seconds that a request may wait for its first row."""
    max_queue_secs: float = np.inf
    """Longest wait in seconds that a new request may expect, by the rate of late; else it is refused."""
