"""The clients of Triton and KServe, over HTTP and gRPC, against a live server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.support.processes import free_port
from serve.classification.classifier import Classifier
from tests.interop.conftest import Ask, serving
from tests.serve.conftest import Reference, write_adapter

pytest.importorskip("grpc")
pytestmark = pytest.mark.slow
TEXTS = ["very good", "the bill is late"]


@pytest.fixture(scope="module")
def addresses(
    bank_folder: Path, reference: Reference, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Addresses of a server over HTTP and gRPC, which may load one adapter more."""
    folder, port = tmp_path_factory.mktemp("adapters"), free_port()
    write_adapter(folder / "extra", reference, "tone", name="extra")
    with serving(bank_folder, "--adapter-dir", folder, "--grpc-port", port) as address:
        yield address, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def expected(bank_folder: Path) -> list[object]:
    """Labels and probabilities from the engine itself."""
    found = Classifier(bank_folder, provider="cpu", threads=1)(TEXTS, adapter="tone")
    return [[one.label for one in found], [pytest.approx(one.scores.tolist(), abs=1e-6) for one in found]]


def test_tritons_clients(ask: Ask, addresses: tuple[str, str], expected: list[object]) -> None:
    found = ask("kserve", *addresses, script="triton_client.py")
    for one in (found["http"], found["grpc"]):
        assert one["ready"] == [True, True, True] and one["inputs"] == ["text"]
        assert one["binary"] == one["json"] == expected
        assert "there is no model 'east'" in one["error"]
    repository = found["repository"]
    assert repository["loaded"] is True and repository["before"] == repository["after"]
    assert {"tone", "intent", "match", "grade"} <= set(repository["before"])


def test_kserves_client_over_grpc_and_the_state_of_the_server(
    ask: Ask, addresses: tuple[str, str], expected: list[object]
) -> None:
    found = ask("kserve", *addresses)
    assert found["ready"] == [True] * 6
    assert found["grpc"] == expected


def test_kserves_client_over_http(ask: Ask, addresses: tuple[str, str], expected: list[object]) -> None:
    found = ask("kserve", *addresses)
    assert found["binary"] == found["json"] == expected
