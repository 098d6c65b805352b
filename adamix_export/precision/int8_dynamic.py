"""8-bit products, whose activations have fixed scales or one for each token: a row's logits do not depend on its batch.

Matrices are int8 with a scale for every column. ONNX Runtime's integer products take one scale for all activations,
and that of a whole batch would let its rows affect each other. Two forms avoid this:

- A token's activations are divided by their largest magnitude, and its row of the product is multiplied by it.
- Some operators give all tokens activations of one scale. They are quantized with fixed scales, measured on calibration
  texts, which saves a tenth of a run's time. Behind a norm, channels are divided by a power of their largest magnitude,
  and the matrix's rows are multiplied by it (Xiao et al., SmoothQuant, ICML 2023); the power is the migration strength.

Attention that computes its own projections takes fixed scales, whatever its input. The product that gives the logits
has both, a smoothing and a scale for each token: an error there reaches every probability.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array, is_large, products
from adamix_export.passes.nodes import DOMAIN, constant, insert_after_producer, replace

LARGEST, ZERO = 127, 128
"""Largest level of an integer, and the level of zero among the unsigned levels of activations."""
SCORES = 5
"""Index of the input of `Attention` that is added to the scores."""
NORMS = {"LayerNormalization", "SimplifiedLayerNormalization"}
ATTENTIONS = {"Attention", "QAttention", "MultiHeadAttention"}
GELUS = {"Gelu", "FastGelu"}
DEFAULT = 0.5
"""Migration strength of the head's input, and of attention's where its operator has none."""
SELECTIONS = {"Gather", "Slice", "Reshape"}
"""Operators whose output has the channels of their input."""
SMALLEST_SHARE = 0.05
"""Lower bound of a channel's magnitude in the smoothing, as a share of the mean: a quiet channel is not stretched."""
MARGIN = 1.1
"""Largest activation that a fixed scale holds, as a multiple of that of the calibration texts."""
LEAST_GELU = -0.17
"""Least value of GELU."""
TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class FixedScale:
    """The scale of an operator's output where it is one for all tokens."""

    strength: float = 0.0
    """Migration strength; 0 leaves the channels as they are."""
    margin: float = MARGIN
    least: float | None = None
    """Least value that the operator gives, from where the levels reach; None for as far down as up."""


FixedScales = Mapping[str, FixedScale]
"""Scales by the operator of the activations; the outputs of others are scaled by token."""
CLASSIFIERS: FixedScales = {
    **dict.fromkeys(NORMS, FixedScale(strength=DEFAULT)),
    **dict.fromkeys(ATTENTIONS, FixedScale(strength=DEFAULT, margin=1.25)),
    **dict.fromkeys(GELUS, FixedScale(strength=0.7, margin=1.25, least=LEAST_GELU)),
}
"""Outputs that are not normalized vary more from text to text, and so have a wider margin. Of two adapters of SST-2 the
loss on other texts was 0.035 and 0.038 so, 0.025 and 0.034 with these outputs scaled by token, and 0.08 without a
smoothing of GELU."""
GENERATORS: FixedScales = {
    **dict.fromkeys(NORMS, FixedScale(strength=0.7)),
    **dict.fromkeys(("GroupQueryAttention", "MultiHeadAttention"), FixedScale()),
}
"""On SmolLM2, 0.7 lost a quarter less than 0.5 (mean divergence of the next token's probabilities)."""
ChannelRanges = Mapping[str, Array | None]
"""Largest magnitude of each channel (width,) of a product's input, by the name of the product's node; None for a
product whose input is scaled by token."""


def product_inputs(graph: ir.Graph) -> dict[str, str]:
    """Return the names of the activations that are quantized, by the name of the node that multiplies them."""
    found = {_name(node): node.inputs[0] for node in _attentions(graph)}
    found |= {_name(product.node): product.states for product in products(graph)}
    return {node: states.name or "" for node, states in found.items() if states is not None}


def scaled_by_token(ranges: ChannelRanges, graph: ir.Graph, operators: Collection[str]) -> ChannelRanges:
    """Return ranges with None for the products whose input is the output of one of these operators."""
    found = {_name(product.node) for product in products(graph) if _origin(product.states) in operators}
    return {name: None if name in found else channels for name, channels in ranges.items()}


def quantize(ranges: ChannelRanges, graph: ir.Graph, scales: FixedScales = CLASSIFIERS) -> None:
    """Quantize the products that `ranges` has; the others stay in fp32.

    A product with None for its range is scaled by token.
    """
    activations = _Activations(graph, ranges, scales)
    for node in _attentions(graph):
        if ranges.get(_name(node)) is not None:
            _quantize_attention(graph, node, activations)
    for product in products(graph):
        name = _name(product.node)
        if name not in ranges:
            continue
        levels = activations.of(product.states, name, head=product.is_head)
        inputs = _operands(graph, name, levels, product.weight)
        if levels.factor is None:
            replace(graph, product.nodes, "MatMulIntegerToFloat", [*inputs, product.bias])
        else:
            _scale_rows(graph, product.node, inputs, levels.factor)


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Quantize a matrix (out, in); return int8 values (in, out) and the scales (out,)."""
    scales = np.abs(weight).max(1) / np.float32(LARGEST)
    scales[scales == 0] = 1
    return np.ascontiguousarray(np.rint(weight / scales[:, None]).astype(np.int8).T), scales


def smoothing(channels: Array, strength: float) -> Array:
    """Return what activations are divided by, from the largest magnitude of each channel (width,); both positive."""
    floor = max(SMALLEST_SHARE * float(channels.mean()), TINY)
    factors = np.maximum(channels, np.float32(floor)) ** np.float32(strength)
    found: Array = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return found


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """Quantized activations."""

    values: ir.Value
    scale: ir.Value
    zero: ir.Value
    channels: Array | float
    """Factors (width,) of the matrix's rows."""
    factor: ir.Value | None = None
    """Factor of each token's row of the product (batch, sequence, 1); None if it is 1."""


class _Activations:
    """Activations of a graph, each quantized once."""

    def __init__(self, graph: ir.Graph, ranges: ChannelRanges, scales: FixedScales) -> None:
        self.graph = graph
        self.ranges = ranges
        self.scales = scales
        self.quantized: dict[ir.Value, _Levels] = {}

    def of(self, states: ir.Value, product: str, *, head: bool = False, otherwise: FixedScale | None = None) -> _Levels:
        """Return a product's activations, with fixed scales or with a scale for each token.

        `otherwise` is the scale where the operator of the activations has none; None scales by token.
        """
        if states not in self.quantized:
            channels, scale = self.ranges[product], self.scales.get(_origin(states), otherwise)
            if channels is not None and head:
                factors = smoothing(channels, DEFAULT)
                self.quantized[states] = self._by_token(states, self._smoothed(states, factors), factors)
            elif channels is None or scale is None:
                self.quantized[states] = self._by_token(states, states, 1.0)
            else:
                self.quantized[states] = self._fixed(states, channels, scale)
        return self.quantized[states]

    def _fixed(self, states: ir.Value, channels: Array, scale: FixedScale) -> _Levels:
        factors = smoothing(channels, scale.strength)
        smoothed = self._smoothed(states, factors) if scale.strength else states
        largest = scale.margin * max(float((channels / factors).max()), TINY)
        if scale.least is None:
            return self._levels(states, smoothed, largest / LARGEST, channels=factors)
        least = scale.least / float(factors.min())
        step = (largest - least) / (2 * LARGEST)
        return self._levels(states, smoothed, step, round(-least / step), channels=factors)

    def _smoothed(self, states: ir.Value, factors: Array) -> ir.Value:
        """Return activations by their factors: a norm whose output goes to quantized products alone has them in it."""
        norm = self._norm_of(states)
        if norm is None:
            return self._add("Mul", [states, self._constant(states, "smoothing", 1 / factors)])
        for index, given in enumerate(norm.inputs[1:], 1):
            if given is not None:
                assert given.const_value is not None
                array = given.const_value.numpy() / factors
                norm.replace_input_with(index, self._constant(states, f"smoothed_{index}", array))
        return states

    def _norm_of(self, states: ir.Value) -> ir.Node | None:
        """Return the norm with constant weights that computed activations for quantized products and nothing else."""
        norm = states.producer()
        if norm is None or norm.op_type not in NORMS or states.is_graph_output():
            return None
        constants = all(given is None or given.const_value is not None for given in norm.inputs[1:])
        return norm if constants and all(_name(node) in self.ranges for node, _ in states.uses()) else None

    def _by_token(self, states: ir.Value, smoothed: ir.Value, factors: Array | float) -> _Levels:
        axis = self._constant(states, "axis", [-1], np.int64)
        largest = self._add("ReduceMax", [self._add("Abs", [smoothed]), axis])
        largest = self._add("Max", [largest, self._constant(states, "tiny", TINY)])
        scaled = self._add("Div", [smoothed, largest], at=largest)
        return self._levels(states, scaled, 1 / LARGEST, channels=factors, factor=largest)

    def _levels(
        self,
        states: ir.Value,
        scaled: ir.Value,
        step: float,
        level: int = ZERO,
        *,
        channels: Array | float = 1.0,
        **factor: ir.Value,
    ) -> _Levels:
        """Return activations in levels of a step; `level` is that of zero."""
        scale = self._constant(states, "step", step)
        zero = self._constant(states, "zero", level, np.uint8)
        values = self._add("QuantizeLinear", [scaled, scale, zero], ir.DataType.UINT8)
        return _Levels(values=values, scale=scale, zero=zero, channels=channels, **factor)

    def _constant(self, states: ir.Value, noun: str, value: object, dtype: type[np.generic] = np.float32) -> ir.Value:
        return constant(self.graph, f"{states.name}.{noun}", np.asarray(value, dtype))

    def _add(
        self,
        op_type: str,
        inputs: list[ir.Value],
        dtype: ir.DataType = ir.DataType.FLOAT,
        *,
        at: ir.Value | None = None,
    ) -> ir.Value:
        """Insert a node behind the producer of its first input, or of `at`; return its output."""
        node = ir.node(op_type, inputs, name=f"{inputs[0].name}.{op_type}")
        (output,) = node.outputs
        output.name, output.dtype = f"{node.name}.out", dtype
        insert_after_producer(self.graph, at or inputs[0], node)
        return output


def _attentions(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the `Attention` nodes with large projections to whose scores nothing is added."""
    for node in list(graph):
        if node.op_type == "Attention" and is_large(node.inputs[1]) and not any(node.inputs[SCORES:]):
            yield node


def _quantize_attention(graph: ir.Graph, node: ir.Node, activations: _Activations) -> None:
    """Replace `Attention` by `QAttention`."""
    states, weight, bias, mask = node.inputs[:4]
    assert states is not None and weight is not None and weight.const_value is not None
    levels = activations.of(states, _name(node), otherwise=FixedScale(strength=DEFAULT))
    values, matrix, scale, scales, zero, zeros = _operands(graph, _name(node), levels, weight.const_value.numpy().T)
    settings = {name: node.attributes[name].value for name in ("num_heads", "scale")}
    replace(graph, [node], "QAttention", [values, matrix, bias, scale, scales, mask, zero, zeros], **settings)


def _operands(graph: ir.Graph, name: str, levels: _Levels, weight: Array) -> list[ir.Value]:
    """Return the inputs of `MatMulIntegerToFloat`: activations, matrix, their scales and their zero points."""
    values, scales = quantize_columns(weight * levels.channels)
    return [
        levels.values,
        constant(graph, f"{name}.weight", values),
        levels.scale,
        constant(graph, f"{name}.scale", scales),
        levels.zero,
        constant(graph, f"{name}.zero", np.zeros(len(scales), np.int8)),
    ]


def _scale_rows(graph: ir.Graph, node: ir.Node, inputs: list[ir.Value], factor: ir.Value) -> None:
    """Replace a product by its integer form and the multiplication with each token's factor; a bias comes after it."""
    old = node.outputs[0]
    product = ir.node("MatMulIntegerToFloat", inputs, domain=DOMAIN, name=f"{node.name}_MatMulIntegerToFloat")
    scaled = ir.node("Mul", [product.outputs[0], factor], name=f"{node.name}_rows")
    for value in (product.outputs[0], scaled.outputs[0]):
        value.type, value.shape = old.type, old.shape
    graph.insert_before(node, [product, scaled])
    name = old.name
    old.replace_all_uses_with(scaled.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    product.outputs[0].name, scaled.outputs[0].name = f"{product.name}.out", name


def _origin(states: ir.Value) -> str:
    """Return the operator that computed activations, before any selection of them; empty for a graph's input."""
    node = states.producer()
    while node is not None and node.op_type in SELECTIONS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node.op_type if node is not None else ""


def _name(node: ir.Node) -> str:
    return node.name or ""
