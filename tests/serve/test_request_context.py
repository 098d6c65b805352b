import re

import pytest

from serve.request_context import RequestContext, request_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "given", ["a", "abc-123", "0" * 128, "a.b:c/d+e=@~_", "Root=1-67891233-abcdef012345678912345678"]
)
def test_an_id_of_plain_characters_is_taken(given: str) -> None:
    assert request_id_of(given) == given


@pytest.mark.parametrize("given", ["", "0" * 129, "a b", "a\r\nx: y", 'a"b', "é", "a\n", "\x1b[31m", "a,b"])
def test_any_other_is_replaced_by_a_fresh_one(given: str) -> None:
    made = {request_id_of(given) for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


def test_the_trace_is_the_tracers_or_else_the_clients() -> None:
    request = RequestContext("a", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    assert request.trace_id == TRACE
    request.own_trace_id = "0" * 32
    assert request.trace_id == "0" * 32
    assert RequestContext("a", traceparent="what else").trace_id == ""
