"""Triton's clients for gRPC and HTTP, in an environment of their own, against the command's server."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.sampling_params import SamplingParams
from tests.adamix_export.converters.peer import peer
from tests.fixtures.hand_computed_decoder import NAMES, random_decoder, write_decoder_bundle
from tests.serve.conftest import Reference, write_adapter, write_bundle
from tests.serve.grpc.triton_client import ADAPTER, CLASSIFIER, LOADED, PARAMETERS, PROMPTS
from tests.serve.test_cli import SERVE, free_port

pytest.importorskip("grpc")
pytestmark = pytest.mark.slow

CLIENT = Path(__file__).with_name("triton_client.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    """A bundle of classifiers, one of generators, and an adapter that is loaded later."""
    folder = tmp_path_factory.mktemp("triton")
    write_bundle(folder / "classifiers", reference, [CLASSIFIER])
    write_decoder_bundle(folder / "generators", random_decoder())
    write_adapter(folder / "adapters" / LOADED, reference, LOADED)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[str, str]]:
    http, grpc = free_port(), free_port()
    bundles = [str(folder / "classifiers"), str(folder / "generators")]
    flags = ["--port", str(http), "--grpc-port", str(grpc), "--adapter-dir", str(folder / "adapters")]
    command = [*SERVE, *bundles, *flags, "--provider", "cpu", "--threads", "1", "--no-cache"]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{http}/health")
            break
        except httpx.TransportError:
            assert process.poll() is None
            time.sleep(0.1)
    yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def found(server: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that the clients found."""
    out = tmp_path_factory.mktemp("found") / "found.json"
    peer("triton").run(str(CLIENT), *server, out)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


@pytest.fixture(scope="module", params=["grpc", "http"])
def client(request: pytest.FixtureRequest, found: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] | None = found[request.param]
    if content is None:
        pytest.skip("tritonclient's HTTP client was not run: the environment has no geventhttpclient")
    return content


def expected_texts(folder: Path) -> list[str]:
    generator = Generator(folder / "generators", provider="cpu", threads=1)
    sampling = SamplingParams(max_new_tokens=PARAMETERS["max_tokens"], ignore_eos=True)
    return [result.text for result in generator(PROMPTS, adapter=ADAPTER, sampling=sampling)]


def test_texts_are_those_of_the_engine(client: dict[str, Any], folder: Path) -> None:
    assert [text.strip() for text in client["texts"]] == expected_texts(folder)
    assert client["reasons"] == ["length"] * 2
    assert client["beside"] == client["texts"]


def test_a_classifier_answers_beside_it(client: dict[str, Any], folder: Path, reference: Reference) -> None:
    classifier = Classifier(folder / "classifiers", provider="cpu", threads=1)
    assert client["labels"] == [one.label for one in classifier(PROMPTS)]
    classifier.load(folder / "adapters" / LOADED)
    assert client["loaded_labels"] == [one.label for one in classifier(PROMPTS, adapter=LOADED)]


def test_models_come_and_go(client: dict[str, Any]) -> None:
    assert client["live"] and client["ready"] and client["model_ready"] == [True, True, False]
    assert (client["loaded"], client["unloaded"]) == (True, False)
    assert "'..' is not below the folder that adapters are loaded from" in client["outside"]
    assert client["index"] == sorted(["adamix", CLASSIFIER, *NAMES, "base"])


def test_parameters_are_called_as_the_client_calls_them(client: dict[str, Any]) -> None:
    assert "unknown parameter 'max_new_tokens': it is called max_tokens here" in client["unknown"]
    assert "max_tokens is -1: it must be at least 0" in client["range"]


def test_a_text_is_streamed(found: dict[str, Any], folder: Path) -> None:
    streams = found["grpc"]["streams"]
    assert ["".join(streams[prompt]).strip() for prompt in PROMPTS] == expected_texts(folder)
    assert all(len(streams[prompt]) > 2 for prompt in PROMPTS)
    assert streams["whole"] == ["".join(streams[PROMPTS[0]])]
    (error,) = found["grpc"]["stream_errors"]
    assert f"model '{ADAPTER}' has no input 'wrong'; it has text_input" in error


def test_a_generator_is_described(found: dict[str, Any]) -> None:
    assert found["grpc"]["inputs"] == [["text_input", "BYTES", ["-1"]]]
    assert found["grpc"]["outputs"] == [["text_output", "BYTES", ["-1"]], ["finish_reason", "BYTES", ["-1"]]]


def test_requests_are_counted_beside_those_over_http(found: dict[str, Any], server: tuple[str, str]) -> None:
    lines = httpx.get(f"http://{server[0]}/metrics").text.splitlines()
    counts = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("adamix_")}
    grpc = {
        name.partition("{")[2]: count for name, count in counts.items() if name.startswith("adamix_requests_total{")
    }
    assert grpc['code="OK",method="ModelInfer"}'] == 4
    assert grpc['code="INVALID_ARGUMENT",method="ModelInfer"}'] == 2
    assert grpc['code="OK",method="ModelStreamInfer"}'] == 3
    assert grpc['code="INVALID_ARGUMENT",method="ModelStreamInfer"}'] == 1
    assert grpc['code="OK",method="RepositoryModelLoad"}'] == 1
    assert counts["adamix_request_seconds_count"] == sum(grpc.values())
