import logging
import random

import pytest

from serve.events import BatchFinished, SequenceFinished
from serve.generated_text import FinishReason
from serve.request_context import RequestContext
from serve.telemetry.access_log import AccessLog
from tests.serve.telemetry.exchanges import exchange


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_share_of_the_requests_is_drawn(share: float) -> None:
    log = AccessLog(share, draw=random.Random(0).random)
    logged = sum(log.draws() for _ in range(10_000))
    assert logged == share * 10_000 if share in (0.0, 1.0) else abs(logged - share * 10_000) < 300


def test_a_line_has_what_the_engine_reported_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    mine, other = RequestContext("mine", start_time=1.0), RequestContext("other")
    batch = BatchFinished(
        adapters=["tone", "intent", "tone"],
        distinct_adapters=2,
        tokens=12,
        padding_tokens=3,
        queue_seconds=0.0,
        run_seconds=0.1,
        row_tokens=[3, 4, 5],
        queued_times=[1.0, 1.0, 1.0],
        requests=[mine, other, mine],
    )
    text = SequenceFinished(
        adapter="north",
        finish_reason=FinishReason.LENGTH,
        prompt_tokens=7,
        generated_tokens=9,
        first_token_seconds=None,
        decode_seconds=None,
        requests=[mine],
    )
    with caplog.at_level(logging.INFO):
        AccessLog(1.0).write(mine, exchange(), [batch, text])
        AccessLog(1.0).write(mine, exchange(route=None, bytes_in=None, status=404), [])
    full, bare = (vars(record)["fields"] for record in caplog.records)
    assert full == {
        "protocol": "http",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "adapters": "tone,north",
        "seconds": 1.5,
        "tokens_in": 15,
        "tokens_out": 9,
        "bytes_in": 10,
        "bytes_out": 20,
        "client": "127.0.0.1",
    }
    assert bare == {
        "protocol": "http",
        "method": "POST",
        "status": 404,
        "seconds": 1.5,
        "bytes_out": 20,
        "client": "127.0.0.1",
    }
    assert all(vars(record)["request"] is mine for record in caplog.records)
