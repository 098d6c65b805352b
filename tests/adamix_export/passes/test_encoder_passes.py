"""What makes a classifier's graph faster than it was traced, and that it gives what it gave."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from transformers import PreTrainedModel

from adamix_export.passes.first_token import narrow_to_first_token
from adamix_export.passes.fuse_qkv_attention import pack_projections
from adamix_export.passes.simplify import undo_reshapes
from adamix_export.tracing.encoder import write_graph
from adamix_train.base_model.load import load_classifier
from tests.fixtures.random_checkpoints import make_encoder

INPUTS = ["input_ids", "attention_mask"]
LAYERS = 3
STATES = ("batch", "sequence", 4)


def classifier(folder: Path, family: str, **settings: object) -> PreTrainedModel:
    """A tiny base with a head, the same whenever it is loaded."""
    if not folder.exists():
        make_encoder(folder, family, **settings)
    torch.manual_seed(1)
    return load_classifier(folder, ["no", "yes", "perhaps"]).requires_grad_(False).eval()


def written(folder: Path, family: str, **settings: object) -> tuple[ir.Graph, float]:
    """The graph of a family, and its largest difference from PyTorch on rows of very different lengths."""
    write_graph(classifier(folder / "base", family, **settings), INPUTS, None, folder / "model.onnx")
    generator = np.random.default_rng(0)
    ids = generator.integers(5, 40, (5, 23))
    mask = (np.arange(23) < np.array([23, 1, 9, 22, 2])[:, None]).astype(np.int64)
    session = ort.InferenceSession(folder / "model.onnx")
    (found,) = session.run(None, {"input_ids": ids * mask, "attention_mask": mask})
    with torch.inference_mode():
        expected = classifier(folder / "base", family)(
            input_ids=torch.tensor(ids * mask), attention_mask=torch.tensor(mask)
        ).logits
    return ir.load(folder / "model.onnx").graph, float(np.abs(found - expected.numpy()).max())


def of_one_token(graph: ir.Graph, op_type: str) -> int:
    """How many nodes of an operator work on one token of each row."""
    shapes = [node.outputs[0].shape for node in graph if node.op_type == op_type]
    return sum(shape is not None and len(shape) == 3 and shape[1] == 1 for shape in shapes)


@pytest.mark.parametrize(("family", "layers"), [("bert", {}), ("roberta", {}), ("electra", {})])
def test_the_last_layer_is_computed_for_the_token_that_is_read(
    family: str, layers: dict[str, int], tmp_path: Path
) -> None:
    graph, difference = written(tmp_path, family, num_hidden_layers=LAYERS)
    operators = Counter(node.op_type for node in graph)
    assert difference < 1e-5
    assert operators["Attention"] == LAYERS - 1
    assert operators["MultiHeadAttention"] == 1
    assert of_one_token(graph, "MultiHeadAttention") == 1
    assert of_one_token(graph, "MatMul") == 4  # query, attention's output, and the feed-forward's two
    assert of_one_token(graph, "LayerNormalization") == 2


def test_distilbert_too(tmp_path: Path) -> None:
    graph, difference = written(tmp_path, "distilbert", n_layers=LAYERS)
    assert difference < 1e-5
    assert of_one_token(graph, "MatMul") == 4


def test_a_window_around_each_token_keeps_its_queries(tmp_path: Path) -> None:
    """ModernBERT adds a bias to the scores, laid out by token: behind attention one token will do, before it not."""
    graph, difference = written(
        tmp_path, "modernbert", num_hidden_layers=LAYERS, global_attn_every_n_layers=2, local_attention=6
    )
    assert difference < 1e-4
    assert of_one_token(graph, "MatMul") > 0
    assert Counter(node.op_type for node in graph)["Attention"] == 0


def test_a_head_that_reads_every_token_gets_them(tmp_path: Path) -> None:
    graph, difference = written(tmp_path, "modernbert", num_hidden_layers=LAYERS, classifier_pooling="mean")
    assert difference < 1e-4
    assert of_one_token(graph, "MatMul") == 0


def test_no_reshapes_are_left_around_attention(tmp_path: Path) -> None:
    graph, _ = written(tmp_path, "bert", num_hidden_layers=LAYERS)
    assert not [node for node in graph if node.op_type == "Reshape" and len(node.outputs[0].shape or ()) > 2]


def value(name: str, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def matrix(name: str, *shape: int) -> ir.Value:
    made = value(name, *shape)
    made.const_value = ir.tensor(np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name=name)
    return made


def made(*inputs: ir.Value | None, op_type: str, shape: tuple[int | str, ...], **attributes: int) -> ir.Node:
    domain = "com.microsoft" if op_type == "MultiHeadAttention" else ""
    node = ir.node(op_type, inputs, attributes, domain=domain)
    node.outputs[0].shape, node.outputs[0].type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return node


def model_of(inputs: list[ir.Value], outputs: list[ir.Value], *nodes: ir.Node) -> ir.Model:
    constants = {held for node in nodes for held in node.inputs if held is not None and held.const_value is not None}
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=list(constants), opset_imports={"": 21})
    return ir.Model(graph, ir_version=10)


def first_of(states: ir.Value) -> ir.Node:
    index = ir.Value(name="index", const_value=ir.tensor(np.array(0, np.int64), name="index"), shape=ir.Shape([]))
    return made(states, index, op_type="Gather", shape=("batch", 4), axis=1)


def test_states_that_someone_reads_whole_stay_whole() -> None:
    x = value("x", *STATES)
    product = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    first = first_of(product.outputs[0])
    model = model_of([x], [first.outputs[0], product.outputs[0]], product, first)
    narrow_to_first_token(model)
    assert product.inputs[0] is x


def test_states_that_are_read_in_two_places_are_cut_once() -> None:
    x = value("x", *STATES)
    product = made(x, matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    total = made(product.outputs[0], x, op_type="Add", shape=STATES)
    first = first_of(total.outputs[0])
    model = model_of([x], [first.outputs[0]], product, total, first)
    narrow_to_first_token(model)
    (cut,) = [node for node in model.graph if node.op_type == "Gather" and node is not first]
    assert product.inputs[0] is cut.outputs[0]
    assert total.inputs[1] is cut.outputs[0]


def test_an_operator_that_mixes_tokens_gets_all_of_them() -> None:
    x = value("x", *STATES)
    mixed = made(x, op_type="CumSum", shape=STATES)
    product = made(mixed.outputs[0], matrix("weight", 4, 4), op_type="MatMul", shape=STATES)
    first = first_of(product.outputs[0])
    model = model_of([x], [first.outputs[0]], mixed, product, first)
    narrow_to_first_token(model)
    assert mixed.inputs[0] is x
    assert product.inputs[0] is not mixed.outputs[0]


def attention(*, biases: int, states: int = 1) -> ir.Model:
    """Attention over three projections, of which some have a bias, of one or of several states."""
    inputs = [value(f"x{index}", *STATES) for index in range(states)]
    nodes: list[ir.Node] = []
    projected = []
    for index, name in enumerate(("query", "key", "value")):
        node = made(inputs[index % states], matrix(name, 4, 4), op_type="MatMul", shape=STATES)
        nodes.append(node)
        if index < biases:
            node = made(node.outputs[0], matrix(f"{name}.bias", 4), op_type="Add", shape=STATES)
            nodes.append(node)
        projected.append(node.outputs[0])
    attended = ir.node("MultiHeadAttention", projected, {"num_heads": 2, "scale": 0.5}, domain="com.microsoft")
    attended.outputs[0].shape, attended.outputs[0].type = ir.Shape(STATES), ir.TensorType(ir.DataType.FLOAT)
    return model_of(inputs, [attended.outputs[0]], *nodes, attended)


@pytest.mark.parametrize(
    ("model", "packed"),
    [
        (attention(biases=3), True),
        (attention(biases=0), True),
        (attention(biases=2), False),
        (attention(biases=3, states=2), False),
    ],
    ids=["biases", "no biases", "two biases", "two states"],
)
def test_projections_are_packed_where_they_are_alike(model: ir.Model, packed: bool) -> None:
    pack_projections(model)
    (attended,) = [node for node in model.graph if node.op_type.endswith("Attention")]
    assert attended.op_type == ("Attention" if packed else "MultiHeadAttention")
    if packed:
        assert model.graph.outputs[0] is attended.outputs[0]
        weight = attended.inputs[1]
        assert weight is not None
        assert weight.shape == ir.Shape([4, 12])


def test_reshapes_that_lead_back_are_left_out() -> None:
    x = value("x", *STATES)
    shapes = [matrix("split", 4), matrix("join", 3)]
    split = made(x, shapes[0], op_type="Reshape", shape=("batch", "sequence", 2, 2))
    join = made(split.outputs[0], shapes[1], op_type="Reshape", shape=STATES)
    other = made(split.outputs[0], matrix("flat", 2), op_type="Reshape", shape=("batch", "else"))
    used = made(join.outputs[0], op_type="Relu", shape=STATES)
    kept = made(other.outputs[0], op_type="Relu", shape=("batch", "else"))
    model = model_of([x], [used.outputs[0], kept.outputs[0]], split, join, other, used, kept)
    undo_reshapes(model)
    assert used.inputs[0] is x
    assert kept.inputs[0] is other.outputs[0]
