import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from adamix_export.passes.candidates import add_candidates
from serve.generation.sampling.choice import SLACK
from tests.adamix_export.passes.graphs import made, model_of, value

OUTPUTS = ["candidate_tokens", "candidate_logits", "log_sum_exp"]

PROVIDERS = ["CPUExecutionProvider", pytest.param("CUDAExecutionProvider", marks=pytest.mark.gpu)]


def model(size: int, name: str = "logits") -> ir.Model:
    x = value("x", "batch", 1, size)
    node = made(x, op_type="Neg", shape=("batch", 1, size))
    node.outputs[0].name = name
    return model_of([x], [node.outputs[0]], node)


@pytest.mark.parametrize(("size", "count"), [(100, 6), (100, 30), (96, 6), (20, 6), (5, 6)])
def test_a_decoder_gives_its_largest_logits_and_the_sum_of_all(size: int, count: int) -> None:
    """At once, in chunks of 16 of which the last is not full, and with fewer logits than candidates."""
    made_model = model(size)
    add_candidates(made_model.graph, count=count, width=16)
    session = ort.InferenceSession(
        ir.serde.serialize_model(made_model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = np.random.default_rng(0).normal(size=(3, 1, size)).astype(np.float32) * 5
    logits, tokens, largest, log_sum_exp = session.run(["logits", *OUTPUTS], {"x": given})
    order = np.argsort(-logits, axis=-1)[..., :count]
    np.testing.assert_array_equal(tokens, order)
    np.testing.assert_array_equal(largest, np.take_along_axis(logits, order, -1))
    np.testing.assert_allclose(log_sum_exp, np.log(np.exp(logits.astype(np.float64)).sum(-1)), rtol=1e-6)
    assert [(edge.name, edge.type, edge.shape) for edge in session.get_outputs()[1:]] == [
        ("candidate_tokens", "tensor(int64)", ["batch", 1, min(count, size)]),
        ("candidate_logits", "tensor(float)", ["batch", 1, min(count, size)]),
        ("log_sum_exp", "tensor(float)", ["batch", 1]),
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_of_a_large_vocabulary_the_sum_is_as_exact_as_the_engine_takes_it_to_be(provider: str) -> None:
    made_model = model(50_257)
    add_candidates(made_model.graph)
    session = ort.InferenceSession(ir.serde.serialize_model(made_model).SerializeToString(), providers=[provider])
    given = np.random.default_rng(0).normal(size=(8, 1, 50_257)).astype(np.float32) * 3 - 20
    tokens, largest, log_sum_exp = session.run(OUTPUTS, {"x": given})
    np.testing.assert_array_equal(largest, -np.sort(given, axis=-1)[..., :256])
    np.testing.assert_array_equal(np.take_along_axis(-given, tokens, -1), largest)
    expected = np.log(np.exp(-given.astype(np.float64)).sum(-1))
    assert np.abs(log_sum_exp - expected).max() < SLACK / 2


def test_a_graph_without_logits_stays_as_it_is() -> None:
    made_model = model(5, "states")
    add_candidates(made_model.graph)
    assert [output.name for output in made_model.graph.outputs] == ["states"]
    assert len(list(made_model.graph)) == 1
