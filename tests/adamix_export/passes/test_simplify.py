import gc
import weakref

import onnx_ir as ir
import onnxscript.rewriter

from adamix_export.passes.simplify import RULES, apply_rules, undo_reshapes
from tests.adamix_export.passes.graphs import STATES, made, matrix, model_of, value


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


def test_rules_keep_no_graph_alive_also_when_other_code_has_used_them() -> None:
    def with_weights() -> ir.Model:
        x, shape = value("x", *STATES), matrix("flat", 2)
        first = made(x, op_type="Transpose", shape=STATES)
        flat = made(first.outputs[0], shape, op_type="Reshape", shape=(1, 4))
        return model_of([x], [flat.outputs[0]], first, flat)

    before, model = with_weights(), with_weights()
    onnxscript.rewriter.RewritePass(RULES)(before)
    graphs = [weakref.ref(one.graph) for one in (before, model)]
    apply_rules(model)
    del before, model
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
