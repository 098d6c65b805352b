"""OpenVINO's plug-in, which lists a device on Intel's processors alone.

Elsewhere ONNX Runtime's own CPU device stands in for it, so that all but the plug-in itself is what runs there.
"""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import onnxruntime as ort
import pytest

from serve.classification.classifier import Classifier
from serve.errors import ProviderError
from serve.runtime import openvino
from serve.runtime.openvino import OPENVINO, PACKAGE, obstacle_of_openvino, open_on_openvino
from serve.runtime.providers import CPU, ProviderChoice, choose_provider
from serve.runtime.session import open_session

INSTALLED = importlib.util.find_spec(PACKAGE) is not None
TEXTS = ("good", "the food was bad and the waiter rude", "where is my parcel")


@pytest.fixture(autouse=True)
def forget_registration() -> Iterator[None]:
    yield
    openvino._register.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's own CPU device in the place of OpenVINO's."""
    monkeypatch.setattr(openvino, "_register", lambda: None)
    monkeypatch.setattr(openvino, "OPENVINO", CPU)


def test_without_the_plug_in_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "PACKAGE", "onnxruntime_ep_that_is_not_there")
    with pytest.raises(
        ProviderError, match=r"^OpenVINO was requested, but its plug-in is not installed: .* extra openvino"
    ):
        choose_provider("openvino")


def test_a_plug_in_that_does_not_load_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(openvino, "PACKAGE", "half_installed")
    with pytest.raises(ProviderError, match="OpenVINO was requested, but its plug-in does not load: "):
        choose_provider("openvino")


@pytest.mark.skipif(not INSTALLED, reason="the extra openvino is not installed")
def test_the_plug_in_loads_and_says_whether_it_runs_here(bundle_folder: Path) -> None:
    obstacle = obstacle_of_openvino()
    if obstacle is not None:
        assert obstacle == "its plug-in finds no Intel processor on this machine: use --provider cpu"
        with pytest.raises(ProviderError, match="OpenVINO was requested, but its plug-in finds no Intel processor"):
            Classifier(bundle_folder, provider="openvino")
        return
    there, here = (Classifier(bundle_folder, provider=name) for name in ("openvino", "cpu"))
    assert there.provider == OPENVINO
    for found, expected in zip(*(side(TEXTS, adapter="tone") for side in (there, here)), strict=True):
        assert found.logits == pytest.approx(expected.logits, abs=1e-4)


def test_a_classifier_opened_through_a_device_answers_as_on_the_cpu(
    bundle_folder: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[Path] = []

    def noted(graph: Path, options: ort.SessionOptions, *, exact: bool) -> ort.InferenceSession:
        opened.append(graph)
        assert exact, "the bundle is in fp32"
        return open_on_openvino(graph, options, exact=exact)

    monkeypatch.setattr("serve.runtime.session.open_on_openvino", noted)
    with caplog.at_level(logging.WARNING):
        there = Classifier(bundle_folder, provider="openvino")
    here = Classifier(bundle_folder, provider="cpu")
    assert opened == [bundle_folder / "model.onnx"]
    assert not caplog.records, "the device took every node"
    for found, expected in zip(*(side(TEXTS, adapter="tone") for side in (there, here)), strict=True):
        assert found.logits == pytest.approx(expected.logits, abs=1e-6)


def test_a_warning_names_the_operators_that_run_elsewhere(
    bundle_folder: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    devices = openvino.find_devices()
    monkeypatch.setattr(openvino, "find_devices", lambda: devices)
    monkeypatch.setattr(openvino, "OPENVINO", OPENVINO)
    with caplog.at_level(logging.WARNING):
        open_session(bundle_folder / "model.onnx", ProviderChoice(OPENVINO, "as requested", required=True))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("OpenVINO does not take all of model.onnx: the CPU provider runs ")
    assert "MatMul" in message or "Gemm" in message


def test_a_graph_that_does_not_open_is_an_error_that_names_the_way_out(tmp_path: Path, stand_in: None) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    with pytest.raises(ProviderError, match=r"^OpenVINO does not open .*model.onnx: .*use --provider cpu$"):
        open_session(tmp_path / "model.onnx", ProviderChoice(OPENVINO, "as requested", required=True))


def test_a_machine_without_such_a_processor_is_told_what_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_register", lambda: None)
    monkeypatch.setattr(ort, "get_ep_devices", list)
    with pytest.raises(ProviderError, match="finds no Intel processor on this machine: use --provider cpu"):
        choose_provider("openvino")
