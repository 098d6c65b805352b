import json
import resource
import socket
from pathlib import Path

import pytest

from serve.args import parse_args
from serve.check import as_json, as_text, check
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import BundleError, ConfigurationError
from tests.serve.conftest import Reference, write_adapter


def test_a_check_describes_bundles_adapters_addresses_and_settings(
    bundle_folder: Path, classifier: Classifier, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "more" / "grade", reference, "grade")
    (tmp_path / "more" / "notes").mkdir()
    flags = ["--port", "9000", "--grpc-port", "9001", "--adapter-dir", str(tmp_path / "more")]
    found = check(AsyncClassifier(classifier), parse_args([str(bundle_folder), *flags]))
    assert json.loads(as_json(found)) == found
    (bundle,) = found["bundles"]
    assert (bundle["folder"], bundle["task"]) == (str(bundle_folder), "text-classification")
    assert bundle["adapters"]["tone"]["sha256"] == classifier.cards["tone"].sha256
    assert found["adapter_dir"] == ["grade"]
    assert (found["http"], found["grpc"]) == ("127.0.0.1:9000", "127.0.0.1:9001")
    assert found["settings"]["port"] == 9000
    assert as_text(found).splitlines() == [
        f"{bundle_folder}: text-classification, bank, fp32, CPUExecutionProvider; model.onnx opens",
        f"  tone: lora, sha256 {classifier.cards['tone'].sha256[:12]}, canary rows as in PyTorch",
        f"  intent: lora, sha256 {classifier.cards['intent'].sha256[:12]}, canary rows as in PyTorch",
        "grade: below --adapter-dir, canary rows as in PyTorch",
        "http on 127.0.0.1:9000",
        "grpc on 127.0.0.1:9001",
    ]


def test_an_adapter_that_clients_could_not_load_is_an_error(
    bundle_folder: Path, classifier: Classifier, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "more" / "grade", reference, "grade", base_sha256="1" * 64)
    args = parse_args([str(bundle_folder), "--adapter-dir", str(tmp_path / "more")])
    with pytest.raises(BundleError, match="--adapter-dir: adapter grade was trained on a base with sha256 111"):
        check(AsyncClassifier(classifier), args)


def test_a_host_that_is_none_is_an_error(bundle_folder: Path, classifier: Classifier) -> None:
    args = parse_args([str(bundle_folder), "--host", "no.such.host.invalid"])
    with pytest.raises(ConfigurationError, match=r"no\.such\.host\.invalid is no address to listen on"):
        check(AsyncClassifier(classifier), args)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])  # addresses of documentation, which no machine has
def test_an_address_of_another_machine_is_an_error(bundle_folder: Path, classifier: Classifier, host: str) -> None:
    args = parse_args([str(bundle_folder), "--host", host])
    with pytest.raises(ConfigurationError, match=f"{host} is no address to listen on: "):
        check(AsyncClassifier(classifier), args)


def test_a_port_that_is_in_use_is_no_error(bundle_folder: Path, classifier: Classifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = check(AsyncClassifier(classifier), parse_args([str(bundle_folder), "--port", str(port)]))
    assert found["http"] == f"127.0.0.1:{port}"


def test_more_connections_than_files_are_told(
    bundle_folder: Path, classifier: Classifier, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 1000))
    told = "--max-connections 500 needs as many open files, and ulimit -n allows 500"
    for connections, lines in ((499, []), (500, [told])):
        flags = ["--max-connections", str(connections)]
        check(AsyncClassifier(classifier), parse_args([str(bundle_folder), *flags]))
        assert caplog.messages == lines
