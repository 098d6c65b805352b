"""Ids and log lines of gRPC's requests."""

import hashlib
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from serve.api_keys import ApiKey, ApiKeys
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.telemetry.access_log import AccessLog
from serve.telemetry.request_observer import RequestObserver

grpc = pytest.importorskip("grpc")
from serve.grpc.calls import _host  # noqa: E402
from serve.grpc.server import SERVICE  # noqa: E402
from tests.serve.grpc.test_server import asked, on_server  # noqa: E402

Call = Callable[..., Any]


async def metadata_of(call: Any) -> dict[str, str]:
    return dict(await call.trailing_metadata())


def test_every_answer_has_the_id_of_its_request(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        mine = (("x-request-id", "mine"),)
        for method, message in (("ServerLive", None), ("ModelInfer", asked("tone", text=["good"]))):
            started = call(method, message, mine)
            await started
            assert await metadata_of(started) == {"x-request-id": "mine"}
        failed = call("ModelInfer", asked("nobody", text=["good"]), mine)
        assert await failed.code() is grpc.StatusCode.NOT_FOUND
        assert await metadata_of(failed) == {"x-request-id": "mine"}
        fresh = call("ModelInfer", asked("tone", text=["good"]), (("x-request-id", "not plain"),))
        await fresh
        assert re.fullmatch("[0-9a-f]{32}", (await metadata_of(fresh))["x-request-id"])

    on_server(classifier, use)


def test_a_request_without_a_key_has_an_id_too(classifier: Classifier) -> None:
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256=hashlib.sha256(b"one").hexdigest())})

    async def use(call: Call) -> None:
        refused = call("ModelInfer", asked("tone", text=["good"]), (("x-request-id", "mine"),))
        assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await metadata_of(refused) == {"x-request-id": "mine"}

    on_server(classifier, use, api_keys=keys)


def test_requests_are_logged_as_over_http(classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    engine = AsyncClassifier(classifier)
    good = asked("tone", text=["good", "very bad"])

    async def use(call: Call) -> None:
        response = await call("ModelInfer", good, (("x-request-id", "mine"),))
        sizes.append(response.ByteSize())
        with pytest.raises(grpc.aio.AioRpcError):
            await call("ModelInfer", asked("nobody", text=["good"]))

    sizes: list[int] = []
    with caplog.at_level(logging.INFO):
        on_server(classifier, use, engine, observer=RequestObserver(engine, access_log=AccessLog(1.0)))
    lines = [vars(record) for record in caplog.records if record.name == "serve.telemetry.access_log"]
    assert lines[0]["request"].request_id == "mine"
    fields = lines[0]["fields"]
    assert 0 < fields.pop("seconds") < 10
    assert fields == {
        "protocol": "grpc",
        "method": "ModelInfer",
        "route": SERVICE,
        "status": "OK",
        "adapters": "tone",
        "tokens_in": 7,
        "bytes_in": good.ByteSize(),
        "bytes_out": sizes[0],
        "client": "127.0.0.1",
    }
    assert (lines[1]["fields"]["status"], "adapters" in lines[1]["fields"]) == ("NOT_FOUND", False)


@pytest.mark.parametrize(
    ("peer", "host"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("unix:", "unix:"), ("unknown", "unknown")],
)
def test_the_address_of_a_client_is_without_its_port(peer: str, host: str) -> None:
    assert _host(peer) == host
