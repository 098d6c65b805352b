"""Simplification of a traced graph; its outputs do not change."""

from collections.abc import Callable, Sequence

import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter
from onnx_ir.passes import common
from onnxscript.rewriter.rules import common as rules

RULES = (
    rules.transpose_transpose_rule,
    rules.no_op_transpose_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.cast_cast_rule,
    rules.reshape_reshape_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
)
"""Rules for chains of nodes that are equivalent to one node, or to none."""


def simplify(model: ir.Model, further: Sequence[Callable[[ir.Model], None]] = ()) -> None:
    """Fold constants; remove unused, duplicate and ineffective nodes; apply `further` passes in between.

    `onnxscript.optimizer.optimize` is not used: it tries its rules with two outputs on all pairs of nodes, which takes
    a fifth of an export and finds nothing in these graphs.
    """
    for step in (
        common.InlinePass(),
        onnxscript.optimizer.fold_constants,
        apply_rules,
        onnxscript.optimizer.fold_constants,
        common.ShapeInferencePass(),
        undo_reshapes,
        common.RemoveUnusedNodesPass(),
        *further,
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
        # The exporter records source lines with this machine's paths.
        common.ClearMetadataAndDocStringPass(),
    ):
        step(model)


def apply_rules(model: ir.Model) -> None:
    """Apply `RULES`, and then let them match another graph: each keeps the one that it matched last in memory."""
    rewrite = onnxscript.rewriter.RewritePass(RULES)
    rewrite(model)
    value = ir.val("x")
    node = ir.node("Identity", [value])
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports=model.graph.opset_imports)
    rewrite(ir.Model(graph, ir_version=model.ir_version))


def undo_reshapes(model: ir.Model) -> None:
    """Bypass chains of reshapes that end in the shape they began with.

    Models reshape hidden states into heads for attention; ONNX Runtime's operator takes them unsplit.
    """
    for node in model.graph:
        for index, value in enumerate(node.inputs):
            if value is not None and (origin := _origin(value)) is not value:
                node.replace_input_with(index, origin)


def _origin(value: ir.Value) -> ir.Value:
    """Return the earliest value of the same shape in the chain of reshapes that leads to this one."""
    origin = earlier = value
    while (node := earlier.producer()) is not None and node.op_type == "Reshape":
        first = node.inputs[0]
        assert first is not None
        earlier = first
        if earlier.shape is not None and earlier.shape == value.shape and _is_known(earlier.shape):
            origin = earlier
    return origin


def _is_known(shape: ir.Shape) -> bool:
    """Return True if every dimension is a number or a named symbol."""
    return all(isinstance(dim, int) or dim.value is not None for dim in shape)
