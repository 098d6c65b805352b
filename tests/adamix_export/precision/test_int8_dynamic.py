from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings

from adamix_export.errors import ParityError
from adamix_export.precision import int8_dynamic
from adamix_export.precision.calibration import CalibrationText
from adamix_export.precision.int8_dynamic import (
    ATTENTIONS,
    CLASSIFIERS,
    DEFAULT,
    GELUS,
    GENERATORS,
    LEAST_GELU,
    MARGIN,
    ChannelRanges,
    FixedScale,
    product_inputs,
    quantize,
    quantize_columns,
    scaled_by_token,
    smoothing,
)
from adamix_export.precision.table import LEAST_TOKENS, PRECISIONS
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from tests.adamix_export.conftest import Export
from tests.adamix_export.passes.graphs import made, model_of, value
from tests.adamix_export.precision.matrices import matrices

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]
WIDTH, OUT = 64, 96
RANDOM = np.random.default_rng(0)
WEIGHT, BIAS = RANDOM.normal(size=(WIDTH, OUT)).astype(np.float32), RANDOM.normal(size=OUT).astype(np.float32)
GAIN = np.where(np.arange(WIDTH) == 7, 40, 1).astype(np.float32)
"""Of a layer norm; one channel is far larger than the others."""
STATES = RANDOM.normal(size=(3, 5, WIDTH)).astype(np.float32) * np.array([0.01, 1, 50], np.float32)[:, None, None]
SHAPE = ("batch", "sequence")


def product(*, normed: bool, residual: bool = False, head: bool = False) -> ir.Model:
    """A product with a bias, of an input or of its layer norm, which may be an output of the graph as well."""
    given = value("x", *SHAPE, WIDTH)
    states, nodes = given, []
    if normed:
        gain, shift = (fixed(name, array) for name, array in (("gain", GAIN), ("shift", np.zeros_like(GAIN))))
        nodes = [made(given, gain, shift, op_type="LayerNormalization", shape=(*SHAPE, WIDTH))]
        states = nodes[0].outputs[0]
        states.name = "normed"
    multiply = made(states, fixed("weight", WEIGHT), op_type="MatMul", shape=(*SHAPE, OUT))
    multiply.name = "product"
    add = made(multiply.outputs[0], fixed("bias", BIAS), op_type="Add", shape=(*SHAPE, OUT))
    nodes += [multiply, add]
    if not head:
        nodes.append(made(add.outputs[0], op_type="Identity", shape=(*SHAPE, OUT)))
    (logits,) = nodes[-1].outputs
    logits.name = "y"
    return model_of([given], [logits, *([states] if residual else [])], *nodes)


def fixed(name: str, array: np.ndarray) -> ir.Value:
    made_value = value(name, *array.shape)
    made_value.const_value = ir.tensor(array, name=name)
    return made_value


def quantized(model: ir.Model, ranges: ChannelRanges) -> ort.InferenceSession:
    quantize(ranges, model.graph)
    model.graph.opset_imports["com.microsoft"] = 1
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, states: np.ndarray) -> np.ndarray:
    return session.run(["y"], {"x": states})[0]


def test_each_token_is_scaled_by_its_largest_activation() -> None:
    session = quantized(product(normed=False), {"product": np.ones(WIDTH, np.float32)})
    values, scales = quantize_columns(WEIGHT.T)
    largest = np.abs(STATES).max(-1, keepdims=True)
    levels = np.rint(STATES / largest * 127)
    expected = levels @ values.astype(np.float32) * scales / 127 * largest + BIAS
    np.testing.assert_allclose(run(session, STATES), expected, rtol=1e-4, atol=1e-4)


def test_a_token_without_activations_gives_the_bias() -> None:
    session = quantized(product(normed=False), {"product": np.ones(WIDTH, np.float32)})
    np.testing.assert_array_equal(run(session, np.zeros((1, 2, WIDTH), np.float32)), np.broadcast_to(BIAS, (1, 2, OUT)))


@pytest.mark.parametrize("normed", [False, True])
def test_a_row_is_the_same_alone_and_beside_others(normed: bool) -> None:
    session = quantized(product(normed=normed), {"product": GAIN * 4})
    together = run(session, STATES)
    for row, states in zip(together, STATES, strict=True):
        np.testing.assert_array_equal(run(session, states[None])[0], row)


def test_a_layer_norms_output_has_fixed_scales_and_smoothed_channels() -> None:
    channels = GAIN * 4
    session = quantized(product(normed=True), {"product": channels})
    normed = (STATES - STATES.mean(-1, keepdims=True)) / np.sqrt(STATES.var(-1, keepdims=True) + 1e-5) * GAIN
    factors = smoothing(channels, DEFAULT)
    step = MARGIN * (channels / factors).max() / 127
    values, scales = quantize_columns(WEIGHT.T * factors)
    levels = np.clip(np.rint(normed / factors / step), -128, 127)
    expected = levels @ values.astype(np.float32) * scales * step + BIAS
    found = run(session, STATES)
    assert np.abs(found - expected).mean() < 1e-3, "levels may round differently at a half"
    exact = normed @ WEIGHT + BIAS
    alike = np.clip(np.rint(normed * 127 / channels.max()), -128, 127) * channels.max() / 127 @ WEIGHT + BIAS
    assert np.abs(found - exact).mean() < 0.5 * np.abs(alike - exact).mean(), "one scale for all channels loses more"


def test_smoothing_divides_by_the_root_of_a_channels_magnitude() -> None:
    found = smoothing(np.array([1, 4, 16, 0], np.float32), 0.5)
    np.testing.assert_allclose(found[1:3] / found[0], [2, 4], rtol=1e-6)
    assert found[3] > 0
    assert np.log(found).mean() == pytest.approx(0, abs=1e-6)
    assert np.isfinite(smoothing(np.zeros(3, np.float32), 0.5)).all()
    np.testing.assert_array_equal(smoothing(np.array([1, 4, 16], np.float32), 0.0), 1)


def test_the_logits_product_is_smoothed_and_scaled_by_token() -> None:
    session = quantized(product(normed=True, head=True), {"product": GAIN * 4})
    normed = (STATES - STATES.mean(-1, keepdims=True)) / np.sqrt(STATES.var(-1, keepdims=True) + 1e-5) * GAIN
    factors = smoothing(GAIN * 4, DEFAULT)
    values, scales = quantize_columns(WEIGHT.T * factors)
    largest = np.abs(normed / factors).max(-1, keepdims=True)
    levels = np.rint(normed / factors / largest * 127)
    expected = levels @ values.astype(np.float32) * scales / 127 * largest + BIAS
    found = run(session, STATES)
    assert np.abs(found - expected).mean() < 1e-3, "levels may round differently at a half"


def test_a_norm_whose_output_is_quantized_alone_has_the_smoothing_in_it() -> None:
    alone, beside = product(normed=True), product(normed=True, residual=True)
    found = [run(quantized(model, {"product": GAIN * 4}), STATES) for model in (alone, beside)]
    assert np.abs(found[0] - found[1]).mean() < 1e-3, "levels may round differently at a half"
    assert [[node.op_type for node in model.graph].count("Mul") for model in (alone, beside)] == [0, 1]
    computed = product(normed=True)
    (norm,) = [node for node in computed.graph if node.op_type == "LayerNormalization"]
    gain = norm.inputs[1]
    assert gain is not None
    double = made(gain, gain, op_type="Max", shape=(WIDTH,))
    computed.graph.insert_before(norm, double)
    norm.replace_input_with(1, double.outputs[0])
    np.testing.assert_array_equal(run(quantized(computed, {"product": GAIN * 4}), STATES), found[1])
    (normed,) = quantized(product(normed=True, residual=True), {"product": GAIN * 4}).run(["normed"], {"x": STATES})
    expected = (STATES - STATES.mean(-1, keepdims=True)) / np.sqrt(STATES.var(-1, keepdims=True) + 1e-5) * GAIN
    np.testing.assert_allclose(normed, expected, rtol=1e-4, atol=1e-4)


def behind_gelu(least: float = -5.0, most: float = 3.0) -> tuple[ir.Model, np.ndarray, np.ndarray]:
    """A product behind GELU, states that are spread evenly between two bounds, and their GELU."""
    given = value("x", *SHAPE, WIDTH)
    gelu = made(given, op_type="Gelu", shape=(*SHAPE, WIDTH))
    gelu.domain, gelu.outputs[0].name = "com.microsoft", "gelu"
    multiply = made(gelu.outputs[0], fixed("weight", WEIGHT), op_type="MatMul", shape=(*SHAPE, OUT))
    multiply.name = "product"
    add = made(multiply.outputs[0], fixed("bias", BIAS), op_type="Add", shape=(*SHAPE, OUT))
    last = made(add.outputs[0], op_type="Identity", shape=(*SHAPE, OUT))
    last.outputs[0].name = "y"
    states = np.linspace(least, most, 3 * 5 * WIDTH, dtype=np.float32).reshape(3, 5, WIDTH)
    gelued = torch.nn.functional.gelu(torch.from_numpy(states)).numpy()
    return model_of([given], [last.outputs[0]], gelu, multiply, add, last), states, gelued


def test_levels_of_gelu_begin_at_its_least_value() -> None:
    model, states, gelued = behind_gelu()
    assert gelued.min() == pytest.approx(LEAST_GELU, abs=1e-3)
    channels = np.where(np.arange(WIDTH) % 2, 3, 6).astype(np.float32)
    session = quantized(model, {"product": channels})
    factors = smoothing(channels, CLASSIFIERS["Gelu"].strength)
    largest, least = CLASSIFIERS["Gelu"].margin * (channels / factors).max(), LEAST_GELU / factors.min()
    step = (largest - least) / 254
    zero = round(-least / step)
    values, scales = quantize_columns(WEIGHT.T * factors)
    levels = np.clip(np.rint(gelued / factors / step), -zero, 255 - zero)
    found = run(session, states)
    expected = levels @ values.astype(np.float32) * scales * step + BIAS
    assert np.abs(found - expected).mean() < 1e-3, "levels may round differently at a half"
    assert np.abs(found - (gelued @ WEIGHT + BIAS)).max() < 0.02 * np.abs(found).max()


def test_outputs_of_an_operator_can_be_scaled_by_token_instead() -> None:
    model, states, gelued = behind_gelu(least=-0.02, most=0.02)  # levels for three are too coarse for these
    ranges = {"product": np.full(WIDTH, 3, np.float32)}
    assert scaled_by_token(ranges, model.graph, ATTENTIONS) == ranges
    by_token = scaled_by_token(ranges, model.graph, GELUS)
    assert by_token == {"product": None}
    exact = gelued @ WEIGHT
    coarse = run(quantized(behind_gelu()[0], ranges), states) - BIAS
    fine = run(quantized(model, by_token), states) - BIAS
    assert np.abs(fine - exact).max() < 0.02 * np.abs(exact).max() < 0.2 * np.abs(coarse - exact).max()


@pytest.mark.parametrize("scales", [CLASSIFIERS, GENERATORS])
@pytest.mark.parametrize(
    ("channels", "operators"),
    [
        (None, {"Abs": 1, "ReduceMax": 1, "Max": 1, "Div": 1, "QuantizeLinear": 1, "Mul": 1}),
        (np.ones(WIDTH, np.float32), {"QuantizeLinear": 1, "Mul": 1}),
    ],
)
def test_outputs_of_attention_have_fixed_scales_unless_they_were_not_measured(
    channels: np.ndarray | None, operators: dict[str, int], scales: dict[str, FixedScale]
) -> None:
    given = value("x", *SHAPE, WIDTH)
    attention = made(given, given, given, op_type="MultiHeadAttention", shape=(*SHAPE, WIDTH))
    multiply = made(attention.outputs[0], fixed("weight", WEIGHT), op_type="MatMul", shape=(*SHAPE, OUT))
    multiply.name = "product"
    result = made(multiply.outputs[0], op_type="Identity", shape=(*SHAPE, OUT))
    model = model_of([given], [result.outputs[0]], attention, multiply, result)
    quantize({"product": channels}, model.graph, scales)
    found = Counter(node.op_type for node in model.graph)
    if channels is not None and not scales["MultiHeadAttention"].strength:
        operators = {"QuantizeLinear": 1}
    assert found == Counter({"MultiHeadAttention": 1, "MatMulIntegerToFloat": 1, "Identity": 1, **operators})


def test_a_product_without_ranges_stays_in_fp32() -> None:
    model = product(normed=False)
    assert product_inputs(model.graph) == {"product": "x"}
    quantize({}, model.graph)
    assert Counter(node.op_type for node in model.graph) == {"MatMul": 1, "Add": 1, "Identity": 1}


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["bank", "merged"])
def test_a_text_has_the_same_logits_in_any_batch(
    shape: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export(shape, runs["classification"], precision="int8")
    classifier = Classifier(tmp_path / "out", provider="cpu")
    rows = [classifier.encode(text, None, truncate=True) for text in TEXTS]
    alone = np.stack([classifier.run([row])[0].logits for row in rows])
    for order in ([0, 1, 2, 3], [3, 0], [2, 2, 1, 1, 0], [1, 2]):
        together = np.stack([answer.logits for answer in classifier.run([rows[index] for index in order])])
        np.testing.assert_allclose(together, alone[order], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generation", "sequence-to-sequence"])
def test_a_generators_row_has_the_same_logits_in_any_batch(
    kind: str, runs: dict[str, Path], export: Export, writing_data: Path, tmp_path: Path
) -> None:
    export("bank", runs[kind], precision="w8a8", calibration=writing_data)
    nodes = Counter(node.op_type for node in ir.load(tmp_path / "out" / "model.onnx").graph)
    assert nodes["MatMulIntegerToFloat"]
    assert nodes["MatMulNBits"] == (kind != "generation"), "a head that was not measured has weights in blocks"
    generator = Generator(tmp_path / "out", provider="cpu")
    adapter = generator.registry.find(None)
    prompts = [Prompt(generator.tokenizer.encode(text).ids, adapter) for text in TEXTS]
    tokens = [[5, 6, 7]] * len(prompts)
    together = generator.forced_logits(prompts, tokens)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = generator.forced_logits([prompt], tokens[:1])
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


def test_a_few_tokens_are_no_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibrate = PRECISIONS["w8a8"]["generation"].calibrate
    assert calibrate is not None
    texts = [CalibrationText(ids=[5] * (LEAST_TOKENS - 2)), CalibrationText(ids=[5])]
    assert calibrate(tmp_path / "no graph is read", texts, None) == {}
    assert f"{LEAST_TOKENS - 1} tokens are too few to calibrate on: activations are scaled by token" in caplog.text


@pytest.mark.slow
def test_a_graph_that_loses_too_much_is_refused(
    runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, scales = quantize_columns(weight)
        return values, scales * np.float32(3)

    monkeypatch.setattr(int8_dynamic, "quantize_columns", broken)
    with pytest.raises(ParityError, match=r"logits differ by up to .* \(at least 95%\).*nothing was written"):
        export("merged", runs["classification"], precision="int8", again=True)
    assert not (tmp_path / "out").exists()


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_columns_hold_every_value_to_half_a_step(weight: np.ndarray) -> None:
    values, scales = quantize_columns(weight)
    assert np.abs(values.T * scales[:, None] - weight).max() <= scales.max() / 2 + 1e-5
