from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serve import api_keys
from serve.events import BatchFinished
from serve.http.batch_header import batch_header


def batch(*adapters: str) -> BatchFinished:
    return BatchFinished(
        adapters=adapters,
        distinct_adapters=len(set(adapters)),
        tokens=1,
        padding_tokens=0,
        queue_seconds=0.0,
        run_seconds=0.0,
    )


@contextmanager
def with_key(key: Any) -> Iterator[None]:
    token = api_keys.client_key.set(key)
    yield
    api_keys.client_key.reset(token)


def test_each_batch_has_its_adapters_with_their_rows_those_with_the_most_first() -> None:
    found = batch_header([batch("intent", "tone", "tone"), batch("tone")], {"tone"})
    assert found == {"X-Batch": "tone=2;intent=1, tone=1"}


def test_on_a_server_with_keys_adapters_of_others_are_not_named() -> None:
    with with_key("a key"):
        assert batch_header([batch("secret", "tone", "other")], {"tone"}) == {"X-Batch": "tone=1;*=2"}


@pytest.mark.parametrize("count", [0, 17])
def test_without_batches_or_with_many_there_is_no_header(count: int) -> None:
    assert batch_header([batch("tone")] * count, {"tone"}) == {}


def test_of_many_adapters_those_with_the_most_rows_are_named() -> None:
    names = [f"a{number}" for number in range(20)]
    (found,) = batch_header([batch(*names, "a19")], set(names)).values()
    parts = found.split(";")
    assert (parts[0], parts[-1], len(parts)) == ("a19=2", "*=4", 17)
