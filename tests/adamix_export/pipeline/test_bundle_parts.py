import json
from pathlib import Path

import pytest

from adamix_export.pipeline.bundle_parts import graph_edges
from serve.runtime.graph_check import session_edges
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session
from tests.adamix_export.conftest import Export, MakeGenerative

pytestmark = pytest.mark.slow


def test_the_graph_tells_nothing_of_the_machine(export: Export, houlsby: Path, tmp_path: Path) -> None:
    export("bank", f"a={houlsby}")
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(tmp_path).encode() not in content, file
            assert b"site-packages" not in content, file


def test_the_manifest_tells_all(export: Export, houlsby: Path, lora: Path, tmp_path: Path) -> None:
    export("bank", f"tone={houlsby}", f"start={lora}")
    manifest = json.loads((tmp_path / "out" / "bundle.json").read_text())
    assert manifest["adapters"] == ["tone", "start"]
    assert manifest["parity"]["tone"]["passed"] is True
    assert manifest["parity"]["start"]["rows"] == 52
    assert manifest["versions"].keys() >= {"torch", "transformers", "onnxruntime"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert manifest["max_positions"] == config["max_position_embeddings"]
    assert {edge["name"] for edge in manifest["inputs"]} >= {"input_ids", "attention_mask", "adapter_ids"}
    assert manifest["files"].keys() >= {"model.onnx", "model.onnx.data", "tokenizer.json", "config.json"}


@pytest.mark.parametrize("graph", ["model.onnx", "encoder.onnx"])
def test_the_edges_of_a_file_are_those_of_its_session(
    graph: str, generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    export("bank", generative("t5", "houlsby"), precision="fp16")
    assert json.loads((tmp_path / "out" / "bundle.json").read_text())["max_positions"] is None
    session = open_session(tmp_path / "out" / graph, ProviderChoice(CPU, "to compare"))
    assert graph_edges(tmp_path / "out" / graph) == session_edges(session)
