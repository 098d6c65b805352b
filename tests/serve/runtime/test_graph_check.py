from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.graph_io import LOGIT_OFFSETS
from serve.bundle.manifest import Edge
from serve.errors import BundleError
from serve.runtime.graph_check import check_edges, session_edges
from tests.fixtures.hand_computed_decoder import graph_of, random_decoder
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


def test_an_input_that_may_be_left_out_is_in_the_graph() -> None:
    graph = graph_of(random_decoder())
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (optional,) = edges_of(one for one in graph.graph.input if one.name == LOGIT_OFFSETS)
    needed = edges_of(one for one in graph.graph.input if one.name != LOGIT_OFFSETS)
    outputs = edges_of(graph.graph.output)
    check_edges(session, FILE, needed, outputs, [optional])
    check_edges(session, FILE, needed, outputs)
    for wrong in (replace(optional, name="offsets"), replace(optional, shape=["batch"])):
        with pytest.raises(BundleError, match=MESSAGE):
            check_edges(session, FILE, needed, outputs, [wrong])
    with pytest.raises(BundleError, match=MESSAGE):
        check_edges(session, FILE, [*needed, optional], outputs)
