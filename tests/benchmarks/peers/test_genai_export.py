import json
from pathlib import Path

import pytest

from tests.benchmarks.peers.programs import fake_environment


@pytest.mark.parametrize(("options", "precision"), [((), "fp32"), (("int4",), "int4")])
def test_the_builder_is_asked_for_a_graph_of_the_folder_for_the_cpu(
    options: tuple[str, ...], precision: str, tmp_path: Path
) -> None:
    fake_environment(tmp_path, "genai").run("genai_export.py", "model", tmp_path / "out", *options)
    assert json.loads((tmp_path / "out" / "genai_config.json").read_text()) == {
        "input": "model",
        "output": str(tmp_path / "out"),
        "precision": precision,
        "execution_provider": "cpu",
    }
