import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from adamix_export.passes.likeliest_token import add_likeliest_token
from tests.adamix_export.passes.graphs import made, model_of, value


def test_a_decoder_gives_its_likeliest_tokens_and_their_logits() -> None:
    x = value("x", "batch", 1, 5)
    node = made(x, op_type="Neg", shape=("batch", 1, 5))
    node.outputs[0].name = "logits"
    model = model_of([x], [node.outputs[0]], node)
    add_likeliest_token(model.graph)
    session = ort.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = np.array([[[3, 1, 4, 1, 5]], [[-2, -7, 1, 8, -7]]], np.float32)
    logits, tokens, largest = session.run(["logits", "next_tokens", "next_logits"], {"x": given})
    np.testing.assert_array_equal(logits, -given)
    assert (tokens.dtype, tokens.tolist()) == (np.int64, [[1], [1]])  # the first of those that are equal
    assert largest.tolist() == [[-1.0], [7.0]]
    assert [(edge.name, edge.shape) for edge in session.get_outputs()[1:]] == [
        ("next_tokens", ["batch", 1]),
        ("next_logits", ["batch", 1]),
    ]


def test_a_graph_without_logits_stays_as_it_is() -> None:
    x = value("x", "batch", 1, 5)
    node = made(x, op_type="Neg", shape=("batch", 1, 5))
    node.outputs[0].name = "states"
    model = model_of([x], [node.outputs[0]], node)
    add_likeliest_token(model.graph)
    assert [output.name for output in model.graph.outputs] == ["states"]
    assert len(list(model.graph)) == 1
