"""Compute an encoder's layers for tokens alone, without padding.

`RemovePadding` follows the embeddings; from there on hidden states are (1, tokens, width), the tokens of all sequences
one after another, and attention is ONNX Runtime's packed operator, which keeps sequences apart. A head that reads the
first tokens gathers them by the sequences' starts. The graph's inputs and outputs do not change, and neither do its
weights. The operators run on CUDA only, and take padding on the right only.

Hidden states keep three dimensions because ONNX Runtime's fusions (bias and GELU, addition and norm) look for them.

A bank multiplies the states of each sequence with a matrix of its own. Around these products alone the padding is
restored: a matrix for each token instead would be read and written once a token, which takes longer than the padding
(64 sequences of 128 tokens, width 1024, rank 16: 512 MB for each product).
"""

from collections.abc import Sequence

import onnx_ir as ir

from adamix_export.errors import ExportError
from adamix_export.passes.packed_layout import PackedLayout, is_by_sequence
from adamix_export.passes.widen_queries import first_token_index, widen_queries

PACKED_OPERATORS = {"Attention": "PackedAttention", "MultiHeadAttention": "PackedMultiHeadAttention"}
"""Packed counterparts of attention operators."""
MASKS = {"Attention": 3, "MultiHeadAttention": 4}
"""Index of the input with the key padding mask."""
PROJECTED = {"Attention": 1, "MultiHeadAttention": 3}
"""Number of inputs with hidden states."""
ADDED = 5
"""Index of the input with a bias that is added to the scores, of either operator."""
TOKENWISE = {
    *("Add", "Cast", "Div", "Erf", "Gelu", "Identity", "LayerNormalization", "MatMul", "Mul", "Pow", "Relu", "Sigmoid"),
    *("Sqrt", "Sub", "Tanh"),
}
"""Operators that treat each token by itself."""


def pack_tokens(graph: ir.Graph) -> None:
    """Rewrite the graph of an encoder with one of its heads.

    Raises:
        ExportError: The graph has something that packed operators do not support.

    """
    widen_queries(graph)
    attentions = [node for node in graph if node.op_type in PACKED_OPERATORS]
    if not attentions:
        raise _refusal("its attention is not an operator of ONNX Runtime")
    nodes = list(graph)
    mask = _mask(attentions)
    layout = PackedLayout(graph, _embeddings(attentions[0]), mask)
    for node in nodes:
        if any(value in layout for value in node.inputs):
            _pack(node, layout)
    if any(output in layout for output in graph.outputs):
        raise _refusal("one of its outputs has a value for each token")
    graph.sort()


def _refusal(reason: str) -> ExportError:
    return ExportError(f"this model's graph cannot be packed: {reason}; export it without --packed")


def _mask(attentions: Sequence[ir.Node]) -> ir.Value:
    """Return the mask that all attention nodes share."""
    masks = set()
    for node in attentions:
        inputs = [*node.inputs, *[None] * (ADDED + 1)]
        if inputs[ADDED] is not None:
            raise _refusal("its attention adds a bias to the scores, such as relative positions or a window")
        if node.op_type == "Attention" and inputs[2] is None:
            raise _refusal("its fused attention has no bias, which PackedAttention requires")
        masks.add(inputs[MASKS[node.op_type]])
    mask = masks.pop()
    if mask is None or masks:
        raise _refusal("its layers do not share one attention mask")
    return mask


def _embeddings(attention: ir.Node) -> ir.Value:
    """Return the states that all layers start from: the output of the last norm before the first attention."""
    value = attention.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "LayerNormalization":
            return value
        shape = value.shape
        value = next((one for one in node.inputs if one and one.shape and shape and one.shape[:2] == shape[:2]), None)
    raise _refusal("its embeddings do not end in a norm")


def _pack(node: ir.Node, layout: PackedLayout) -> None:
    """Let a node that reads hidden states read them in the layout that it can take."""
    if node.op_type in PACKED_OPERATORS:
        _pack_attention(node, layout)
    elif (index := first_token_index(node)) is not None:
        layout.gather_first(node, index)
    elif node.op_type in TOKENWISE:
        _pack_tokenwise(node, layout)
    else:
        raise _refusal(f"{node.op_type} may mix tokens")


def _pack_attention(node: ir.Node, layout: PackedLayout) -> None:
    states = node.inputs[: PROJECTED[node.op_type]]
    if any(value not in layout for value in states):
        raise _refusal("its attention reads states that are not those of its layers")
    attributes = {name: node.attributes[name].value for name in ("num_heads", "scale") if name in node.attributes}
    others = [*node.inputs, None, None][len(states) : MASKS[node.op_type]]
    layout.replace(node, PACKED_OPERATORS[node.op_type], states, others, attributes)


def _pack_tokenwise(node: ir.Node, layout: PackedLayout) -> None:
    states = [index for index, value in enumerate(node.inputs) if value in layout]
    others = [value for value in node.inputs if value is not None and value not in layout]
    for value in others:
        if not _fits(node, value):
            raise _refusal(f"{node.op_type} combines tokens with a value of shape {value.shape}")
    if node.op_type == "MatMul" and states != [0]:
        raise _refusal("a product mixes tokens")
    by_sequence = any(is_by_sequence(value) for value in others) or _is_read_by_sequence(node)
    layout.feed(node, states, padded=by_sequence or not any(layout.is_packed(node.inputs[index]) for index in states))


def _fits(node: ir.Node, value: ir.Value) -> bool:
    """Return True if a value has no axis of tokens: a scalar, a vector, a matrix, or one of these a sequence."""
    if value.shape is None:
        return False
    if node.op_type == "MatMul":
        return len(value.shape) == 2 or is_by_sequence(value)
    return len(value.shape) < 2 or (is_by_sequence(value) and value.shape[1] == 1)


def _is_read_by_sequence(node: ir.Node) -> bool:
    """Return True for a cast whose result only meets matrices by sequence: the narrower type is converted then."""
    uses = node.outputs[0].uses()
    return (
        node.op_type == "Cast"
        and bool(uses)
        and all(user.op_type == "MatMul" and index == 0 and is_by_sequence(user.inputs[1]) for user, index in uses)
    )
