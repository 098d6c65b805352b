"""Make a traced graph as small as it can be without changing what it gives."""

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
"""Chains of nodes that are one, or none."""


def simplify(model: ir.Model, further: Sequence[Callable[[ir.Model], None]] = ()) -> None:
    """Fold what is constant and drop what is unused, there twice, or without effect; take `further` steps between.

    `onnxscript.optimizer.optimize` has more rules, of which those with two outputs are tried on all pairs of nodes: a
    fifth of an export, and nothing that our graphs have.
    """
    for step in (
        common.InlinePass(),
        onnxscript.optimizer.fold_constants,
        onnxscript.rewriter.RewritePass(RULES),
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
        # The exporter notes the source lines, and so the paths, of the machine that it ran on.
        common.ClearMetadataAndDocStringPass(),
    ):
        step(model)


def undo_reshapes(model: ir.Model) -> None:
    """Take states as they were before a chain of reshapes that ends in the shape it began with.

    Models split states into heads for attention, and ONNX Runtime's operator takes them whole.
    """
    for node in model.graph:
        for index, value in enumerate(node.inputs):
            if value is not None and (origin := _origin(value)) is not value:
                node.replace_input_with(index, origin)


def _origin(value: ir.Value) -> ir.Value:
    """Return the earliest value of the same shape that a chain of reshapes makes this one of."""
    origin = earlier = value
    while (node := earlier.producer()) is not None and node.op_type == "Reshape":
        first = node.inputs[0]
        assert first is not None
        earlier = first
        if earlier.shape is not None and earlier.shape == value.shape and _is_known(earlier.shape):
            origin = earlier
    return origin


def _is_known(shape: ir.Shape) -> bool:
    """Whether every dimension is a number or a symbol with a name."""
    return all(isinstance(dim, int) or dim.value is not None for dim in shape)
