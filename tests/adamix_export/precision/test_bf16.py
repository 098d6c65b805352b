"""bf16 against PyTorch's: its rounding, its emulation, and the graph itself on a GPU."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from adamix_export.parity.emulation import runnable_on_cpu
from adamix_export.precision.bf16 import emulate_bf16, to_bf16
from adamix_export.tasks import classification, reference_logits
from serve.bundle.reader import Bundle, open_bundle
from serve.classification.classifier import Classifier
from serve.errors import ProviderError
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from tests.adamix_export.conftest import Export

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]
LAYOUTS = {"generation": reference_logits.CAUSAL, "sequence-to-sequence": reference_logits.SEQ2SEQ}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TOKENS = [[5, 9, 4, 6], [7, 5], [10, 4, 8]]
"""Tokens whose logits are compared, behind each of the first texts."""


def graph_of(operator: str, inputs: list[str], weights: dict[str, np.ndarray]) -> ir.Graph:
    """Return the fp32 graph of one operator over inputs (4096,) and weights."""
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4096]) for name in inputs]
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    node = helper.make_node(operator, [*inputs, *weights], ["logits"])
    made = helper.make_graph([node], "graph", wanted, [result], initializer=constants)
    opset = [helper.make_opsetid("", 20)]
    graph = ir.serde.deserialize_model(helper.make_model(made, opset_imports=opset, ir_version=10)).graph
    for output in graph.outputs:
        output.dtype = ir.DataType.FLOAT
    return graph


def run(graph: ir.Graph, feeds: dict[str, np.ndarray]) -> np.ndarray:
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()
    return np.asarray(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0])


def numbers(seed: int) -> np.ndarray:
    """Return numbers of all sizes, half of which lie right between two neighbours in bf16."""
    random = np.random.default_rng(seed)
    bits = random.integers(0x3000, 0x4F00, 4096).astype(np.uint32) << 16 | 0x8000
    bits[::2] = random.integers(0x30000000, 0x4F000000, 2048)
    found: np.ndarray = bits.astype(np.uint32).view(np.float32)
    return found * random.choice(np.array([-1, 1], np.float32), 4096)


def bf16(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(torch.bfloat16)


def test_weights_are_rounded_as_in_pytorch() -> None:
    graph = graph_of("Add", ["x"], {"weight": numbers(0)})
    to_bf16(graph)
    (weight,) = (value for value in graph.initializers.values() if value.dtype == ir.DataType.BFLOAT16)
    assert weight.const_value is not None
    found = weight.const_value.numpy().view(np.int16)
    np.testing.assert_array_equal(found, bf16(numbers(0)).view(torch.int16).numpy())


def test_what_is_larger_than_every_number_of_bf16_stays_finite() -> None:
    """A mask's least number in fp32 rounds to minus infinity, whose sums are NaN."""
    graph = graph_of("Add", ["x"], {"weight": np.full(4096, np.finfo(np.float32).min)})
    to_bf16(graph)
    emulate_bf16(graph)
    assert (run(graph, {"x": np.zeros(4096, np.float32)}) == torch.finfo(torch.bfloat16).min).all()


@pytest.mark.parametrize(
    ("operator", "function"), [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]
)
def test_the_emulation_of_an_operator_gives_the_numbers_of_pytorch_in_bf16(operator: str, function: Any) -> None:
    graph = graph_of(operator, ["x", "y"], {})
    to_bf16(graph)
    emulate_bf16(graph)
    x, y = numbers(1), numbers(2)
    expected = function(bf16(x), bf16(y)).to(torch.float32).numpy()
    np.testing.assert_array_equal(run(graph, {"x": x, "y": y}), expected)
    assert (expected != function(torch.from_numpy(x), torch.from_numpy(y)).numpy()).any()


def test_an_operator_without_a_kernel_stays_in_fp32() -> None:
    graph = graph_of("Log", ["x"], {})
    to_bf16(graph)
    assert [node.op_type for node in graph] == ["Log"]
    assert graph.outputs[0].dtype == ir.DataType.FLOAT


class InBf16:
    """A reference model whose weights and activations are bf16."""

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.config, self.device = copy.deepcopy(model).to(device, torch.bfloat16), model.config, device

    def __call__(self, **inputs: torch.Tensor) -> SimpleNamespace:
        moved = {name: value.to(self.device) for name, value in inputs.items()}
        return SimpleNamespace(logits=self.model(**moved).logits.float().cpu())


@contextmanager
def opened(folder: Path, device: str) -> Iterator[Bundle]:
    """Give the bundle as it is for a GPU, and its emulation for the CPU."""
    with nullcontext(open_bundle(folder)) if device == "cuda" else runnable_on_cpu(open_bundle(folder)) as bundle:
        yield bundle


def require_as_close(ours: np.ndarray, logits: Callable[[Checkpoint], np.ndarray], run: Path, device: str) -> None:
    """Check that logits are about as far from those in fp32 as PyTorch's are in bf16."""
    checkpoint = open_checkpoint(str(run))
    exact = logits(checkpoint)
    checkpoint.__dict__["reference"] = InBf16(checkpoint.reference, device)
    error = np.abs(logits(checkpoint) - exact).max()
    assert error / 3 < np.abs(ours - exact).max() < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_a_classifier_is_as_far_from_fp32_as_pytorch_in_bf16(
    shape: str, device: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export(shape, runs["classification"], precision="bf16")
    with opened(tmp_path / "out", device) as bundle:
        ours = np.stack([one.logits for one in Classifier(bundle, provider=device)(TEXTS)])
    texts = [(text,) for text in TEXTS]
    require_as_close(ours, lambda one: classification.logits(one, texts), runs["classification"], device)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", list(LAYOUTS))
def test_a_generator_is_as_far_from_fp32_as_pytorch_in_bf16(
    kind: str, device: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs[kind], precision="bf16")
    ids = [open_checkpoint(str(runs[kind])).tokenizer(text)["input_ids"] for text in TEXTS[: len(TOKENS)]]
    with opened(tmp_path / "out", device) as bundle:
        generator = Generator(bundle, provider=device)
        adapter = generator.registry.find(runs[kind].name)
        ours = np.concatenate(generator.forced_logits([Prompt(one, adapter) for one in ids], TOKENS))
    layout = LAYOUTS[kind]
    require_as_close(ours, lambda one: np.concatenate(layout.logits(one, ids, TOKENS)), runs[kind], device)


@pytest.mark.slow
def test_a_decoder_keeps_its_cache_in_bf16_and_gives_logits_in_fp32(
    runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs["generation"], precision="bf16")
    manifest = open_bundle(tmp_path / "out").manifest
    caches = {edge.dtype for edge in (*manifest.inputs, *manifest.outputs) if edge.name.startswith(("past", "present"))}
    rest = {edge.dtype for edge in (*manifest.inputs, *manifest.outputs) if edge.name.startswith(("bank", "logits"))}
    assert (caches, rest) == ({"tensor(bfloat16)"}, {"tensor(float)"})


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "engine"), [("classification", Classifier), ("generation", Generator)])
def test_a_cpu_is_refused_at_once(
    kind: str, engine: Any, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs[kind], precision="bf16")
    with pytest.raises(ProviderError) as error:
        engine(tmp_path / "out", provider="cpu")
    assert str(error.value) == (
        "the bundle is bf16, which ONNX Runtime computes on CUDA alone: serve it on a GPU, or export it again with "
        "--precision fp32 or int8"
    )


@pytest.mark.slow
def test_other_tools_are_given_another_precision(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    export("bank", runs["generation"], precision="bf16")
    with pytest.raises(ExportError, match="out is bf16, and a converted graph is checked on the CPU, which has no"):
        convert(tmp_path / "out", tmp_path / "genai", "genai")
    convert(tmp_path / "out", tmp_path / "peft", "peft")
