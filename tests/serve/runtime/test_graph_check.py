from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.manifest import Edge
from serve.errors import BundleError
from serve.runtime.graph_check import check_edges, session_edges
from tests.serve.conftest import WIDTH, WORDS, bank_graph, edges_of

MODEL = bank_graph(np.zeros((len(WORDS), WIDTH), np.float32))
INPUTS, OUTPUTS = edges_of(MODEL.graph.input), edges_of(MODEL.graph.output)
FILE = Path("bundle/model.onnx")
MESSAGE = r"^bundle/model\.onnx does not have the inputs and outputs that the manifest lists$"


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(MODEL.SerializeToString(), providers=["CPUExecutionProvider"])


def test_edges_of_a_session_are_those_of_its_graph(session: ort.InferenceSession) -> None:
    assert session_edges(session) == (INPUTS, OUTPUTS)


def test_a_graph_as_the_manifest_lists_it_is_accepted(session: ort.InferenceSession) -> None:
    check_edges(session, FILE, tuple(INPUTS), tuple(OUTPUTS))


@pytest.mark.parametrize(
    "inputs",
    [
        INPUTS[1:],
        INPUTS[::-1],
        [replace(INPUTS[0], name="ids"), *INPUTS[1:]],
        [replace(INPUTS[0], dtype="tensor(int32)"), *INPUTS[1:]],
        [replace(INPUTS[0], shape=["batch", 8]), *INPUTS[1:]],
    ],
    ids=["fewer", "order", "name", "type", "shape"],
)
def test_other_inputs_are_refused(session: ort.InferenceSession, inputs: list[Edge]) -> None:
    with pytest.raises(BundleError, match=MESSAGE):
        check_edges(session, FILE, inputs, OUTPUTS)


def test_other_outputs_are_refused(session: ort.InferenceSession) -> None:
    with pytest.raises(BundleError, match=MESSAGE):
        check_edges(session, FILE, INPUTS, [*OUTPUTS, OUTPUTS[0]])
