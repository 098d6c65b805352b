"""An input with a default may be left out or given, until the default is kept."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from adamix_export.passes.default_inputs import keep_last_position
from adamix_export.passes.likeliest_token import add_likeliest_token
from adamix_export.pipeline.bundle_parts import graph_edges, optional_edges
from tests.fixtures.hand_computed_decoder import HandComputedDecoder, graph_of, random_decoder

IDS = [4, 5, 9, 6]


@pytest.fixture
def decoder() -> HandComputedDecoder:
    return random_decoder()


def logits(model: ir.Model, **given: np.ndarray) -> np.ndarray:
    """Return the logits of a prompt through the base."""
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": np.array([IDS]), "attention_mask": np.ones((1, len(IDS)), np.int64), **given}
    sizes = {"batch": 1, "max_length": 8, "slots": 1, "lora_r": 2}
    feeds["adapter_ids"] = np.zeros(1, np.int64)
    for edge in session.get_inputs():
        if edge.name not in feeds:
            feeds[edge.name] = np.zeros([sizes.get(dim, dim) for dim in edge.shape], np.float32)
    found: np.ndarray = session.run(["logits"], feeds)[0]
    return found[0]


def test_logits_are_those_of_the_tokens_that_are_asked_for(decoder: HandComputedDecoder) -> None:
    model = ir.from_proto(graph_of(decoder))
    expected = [decoder.logits(IDS[:end], None) for end in (2, 3, 4)]
    np.testing.assert_allclose(logits(model), expected[-1:], atol=1e-5)
    np.testing.assert_allclose(logits(model, logit_offsets=np.array([2, 1, 0])), expected, atol=1e-5)


def test_a_graph_that_keeps_the_last_position_has_no_such_input(decoder: HandComputedDecoder) -> None:
    model = ir.from_proto(graph_of(decoder))
    keep_last_position(model.graph)
    add_likeliest_token(model.graph)
    assert "logit_offsets" not in {one.name for one in model.graph.inputs}
    np.testing.assert_allclose(logits(model), [decoder.logits(IDS, None)], atol=1e-5)


def test_edges_tell_inputs_that_may_be_left_out_from_others(decoder: HandComputedDecoder, tmp_path: Path) -> None:
    onnx.save(graph_of(decoder), tmp_path / "model.onnx")
    assert "logit_offsets" not in {edge.name for edge in graph_edges(tmp_path / "model.onnx")[0]}
    (edge,) = optional_edges(tmp_path / "model.onnx")
    assert (edge.name, edge.dtype, edge.shape) == ("logit_offsets", "tensor(int64)", ["positions"])


def test_a_graph_without_the_input_stays_as_it_is(decoder: HandComputedDecoder) -> None:
    model = ir.from_proto(graph_of(decoder, several_positions=False))
    before = [one.name for one in model.graph.inputs]
    keep_last_position(model.graph)
    assert [one.name for one in model.graph.inputs] == before
