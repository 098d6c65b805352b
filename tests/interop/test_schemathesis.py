"""schemathesis tries every operation of the OpenAPI document: no failure of the server, no status it does not tell."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from serve.bundle.manifest import Manifest
from serve.bundle.writer import write_manifest
from tests.adamix_export.converters.peer import peer
from tests.interop.conftest import serving
from tests.serve.conftest import BASE, LABELS, Reference, bank_graph, edges_of, write_adapter, write_tokenizer

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("ADAMIX_INTEROP_CASES", "100"))
"""Cases of a kind of bundle, at least; `make interop` tries 2,000."""
CHECKS = "not_a_server_error,status_code_conformance"
OPERATIONS = 12
"""Operations of a document, at least."""


@pytest.fixture
def merged_folder(tmp_path: Path, reference: Reference) -> Path:
    """A bundle with the weights of one adapter in its graph."""
    folder, model = tmp_path / "merged", bank_graph(reference.embeddings)
    write_adapter(folder / "adapters" / "tone", reference, "tone")
    weights = {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in reference.adapters["tone"].items()}
    constants = {"adapter_ids": np.zeros(1, np.int64)}
    constants |= {f"bank.{name}": np.ascontiguousarray(value)[None] for name, value in weights.items()}
    kept = [one for one in model.graph.input if one.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(LABELS["tone"])
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, folder / "model.onnx")
    write_tokenizer(folder / "tokenizer.json")
    manifest = Manifest(
        task="text-classification",
        shape="merged",
        precision="fp32",
        base={"name": "tiny", "sha256": BASE, "model_type": "tiny"},
        pad_token_id=0,
        adapters=["tone"],
        inputs=edges_of(model.graph.input),
        outputs=edges_of(model.graph.output),
        parity={},
        versions={},
    )
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize(
    "names",
    [["bank_folder"], ["merged_folder"], ["writer_folder"], ["bank_folder", "writer_folder"]],
    ids=["classifiers", "merged", "writers", "both"],
)
def test_no_request_fails_the_server_or_has_a_status_that_the_document_lacks(
    names: list[str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    client = peer("schemathesis")
    (tmp_path / "adapters").mkdir()
    folders = [request.getfixturevalue(name) for name in names]
    with serving(*folders, "--adapter-dir", tmp_path / "adapters") as address:
        command = [client.python, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", CHECKS]
        command += ["--phases", "examples,fuzzing" if CASES <= 100 else "examples,coverage,fuzzing"]
        command += ["--max-examples", str(-(-CASES // OPERATIONS)), "--generation-deterministic", "--no-shrink"]
        command += ["--suppress-health-check", "all", "--continue-on-failure"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    found = re.search(r"(\d+) generated", result.stdout)
    assert found is not None and int(found[1]) >= CASES, result.stdout
    record_property("schemathesis", client.versions()["schemathesis/schemathesis"])
    record_property("figures", f"{found[1]} cases")
