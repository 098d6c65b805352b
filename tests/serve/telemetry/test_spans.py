from serve.events import BatchFinished, SequenceFinished, Stage, StageFinished
from serve.generated_text import FinishReason
from serve.request_context import RequestContext
from serve.telemetry.spans import SpanTimes, spans_of
from tests.serve.telemetry.exchanges import exchange

MINE, OTHER = RequestContext("mine"), RequestContext("other")


def times(spans: list[SpanTimes]) -> list[tuple[str, float, float]]:
    return [(span.name, span.start_time, span.end_time) for span in spans]


def sequence(**changes: object) -> SequenceFinished:
    fields = {
        "adapter": "north",
        "finish_reason": FinishReason.LENGTH,
        "prompt_tokens": 3,
        "generated_tokens": 5,
        "first_token_seconds": 2.0,
        "decode_seconds": 3.0,
        "submit_time": 10.0,
        "begin_time": 11.0,
        "first_token_time": 12.0,
        "finish_time": 15.0,
        "batch_rows": 4,
        "batch_adapters": ["north", "south"],
        "requests": [MINE],
    }
    return SequenceFinished(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_stage_is_a_span_with_its_error() -> None:
    event = StageFinished(stage=Stage.COMPILE_GRAMMAR, requests=[MINE], start_time=1.0, seconds=0.5, error="InputError")
    (span,) = spans_of(MINE, exchange(), [event])
    assert (span.name, span.start_time, span.end_time, span.error) == ("compile_grammar", 1.0, 1.5, "InputError")


def test_a_batch_is_the_wait_of_the_requests_first_row_and_the_run() -> None:
    event = BatchFinished(
        adapters=["tone", "intent", "tone"],
        distinct_adapters=2,
        tokens=12,
        padding_tokens=3,
        queue_seconds=4.0,
        run_seconds=0.5,
        start_time=5.0,
        row_tokens=[3, 4, 5],
        queued_times=[1.0, 3.0, 2.0],
        requests=[OTHER, MINE, MINE],
    )
    queue, run = spans_of(MINE, exchange(), [event])
    assert times([queue, run]) == [("queue", 2.0, 5.0), ("run", 5.0, 5.5)]
    assert run.attributes == {
        "adamix.batch.rows": 3,
        "adamix.batch.own_rows": 2,
        "adamix.batch.adapters": ["intent", "tone"],
        "adamix.batch.tokens": 12,
        "adamix.batch.padding_tokens": 3,
    }


def test_a_sequence_is_its_wait_its_prompt_and_its_tokens() -> None:
    spans = spans_of(MINE, exchange(), [sequence()])
    assert times(spans) == [("queue", 10.0, 11.0), ("prefill", 11.0, 12.0), ("decode", 12.0, 15.0)]
    assert spans[-1].attributes["adamix.batch.rows"] == 4
    assert all(span.error is None for span in spans)


def test_a_sequence_that_fails_does_so_where_it_was() -> None:
    failed = {"finish_reason": FinishReason.FAILED}
    waiting = sequence(**failed, begin_time=None, first_token_time=None, finish_time=40.0)
    assert [(one.name, one.end_time, one.error) for one in spans_of(MINE, exchange(), [waiting])] == [
        ("queue", 40.0, "failed")
    ]
    reading = sequence(**failed, first_token_time=None)
    assert [(one.name, one.error) for one in spans_of(MINE, exchange(), [reading])] == [
        ("queue", None),
        ("prefill", "failed"),
    ]


def test_a_stream_ends_with_its_answer() -> None:
    assert times(spans_of(MINE, exchange(stream_time=1.5, end_time=2.5), [])) == [("stream", 1.5, 2.5)]
