"""An event of each kind, with times that add up."""

from serve.engine import BatchFinished, SequenceFinished
from serve.generated_text import FinishReason

SEQUENCE = SequenceFinished(
    adapter="toy",
    finish_reason=FinishReason.LENGTH,
    prompt_tokens=40,
    generated_tokens=5,
    first_token_seconds=0.5,
    decode_seconds=2.0,
    cached_tokens=32,
    guessed_tokens=7,
    accepted_tokens=3,
    token_seconds=[0.25, 0.25, 0.5, 1.0],
    arrival_time=100.0,
    submit_time=100.0625,
    begin_time=100.25,
    finish_time=102.5,
)
"""Tokenized for 0.0625 s, in the queue for 0.1875, prefilled for 0.25, decoded for 2."""
NEVER_BEGUN = SequenceFinished(
    adapter="toy",
    finish_reason=FinishReason.CANCELLED,
    prompt_tokens=7,
    generated_tokens=0,
    first_token_seconds=None,
    decode_seconds=None,
    arrival_time=100.0,
    submit_time=100.0,
    finish_time=104.0,
)
"""Its client went away while it waited."""
BATCH = BatchFinished(
    adapters=["tone", "tone", "intent"],
    distinct_adapters=2,
    tokens=9,
    padding_tokens=3,
    queue_seconds=0.5,
    run_seconds=0.25,
    start_time=200.5,
    queued_times=[200.0, 200.25, 200.5],
)
"""Three rows that waited for 0.5, 0.25 and 0 s."""
