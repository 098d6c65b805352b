import json
from pathlib import Path

from tests.benchmarks.peers.programs import fake_environment


def test_a_classifier_is_exported_and_optimised_at_level_2(tmp_path: Path) -> None:
    fake_environment(tmp_path, "optimum").run("optimum_export.py", "model", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "model_optimized.onnx").read_text()) == {
        "class": "ORTModelForSequenceClassification",
        "folder": "model",
        "export": True,
        "level": "O2",
    }
