"""A bank as one graph for ONNX Runtime's `LoraAdapter`, and each of its adapters as an `.onnx_adapter` file.

The stacks of the bank's graph become overridable initializers. Their default is zero, which is the base model; an
active adapter replaces them for a whole run, so that all sequences of a batch use the same adapter.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from adamix_export.converters.canaries import check_canaries
from adamix_export.errors import ExportError
from adamix_export.passes.rewrite_file import Rewrite, derive_file
from serve.adapters.bank import Bank
from serve.bundle.adapter import Adapter
from serve.bundle.graph_io import ADAPTER_IDS, BANK, INPUT_IDS, LOGITS
from serve.bundle.manifest import MODEL
from serve.bundle.reader import Bundle
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

SUFFIX = ".onnx_adapter"
MARK = "*" + SUFFIX
BATCH = "adapter_batch"
VERSION = 1
SLOT = 1
"""Slot of the only adapter in a bank."""
COPIED = ("model.onnx.data", "tokenizer.json", "tokenizer_config.json", "config.json")
"""Files that are copied from the bundle if it has them."""


def write_onnx_adapters(bundle: Bundle, adapters: list[Adapter], folder: Path, rewrite: Rewrite | None = None) -> str:
    """Write the graph, rewritten, and `adapters`, each checked on its canary texts; return how to run them."""
    if bundle.manifest.shape != "bank":
        raise ExportError(
            f"{bundle.folder} is a merged bundle, whose adapter is in its weights: export it with --shape bank"
        )
    onnx.save(adapted_graph(onnx.load(bundle.model, load_external_data=False)), folder / MODEL)
    for name in COPIED:
        if name in bundle.manifest.files:
            shutil.copy(bundle.folder / name, folder / name)
    if rewrite is not None:
        derive_file(folder / MODEL, rewrite, folder / MODEL)
    for adapter in adapters:
        write_adapter(parameters(bundle, adapter), folder / f"{adapter.card.name}{SUFFIX}")
    check_adapters(bundle, adapters, folder)
    return "adapter = onnxruntime.LoraAdapter(); adapter.Load(FILE); run_options.add_active_adapter(adapter)"


def parameters(bundle: Bundle, adapter: Adapter) -> dict[str, NDArray[np.float32]]:
    """Return an adapter's tensors (1, …) by the graph's initializers; those of other adapter kinds are zeros."""
    return {name: stack[SLOT:] for name, stack in Bank(bundle.manifest.inputs, [adapter]).stacks.items()}


def write_adapter(tensors: dict[str, NDArray[np.float32]], file: Path) -> None:
    """Write an `.onnx_adapter` file."""
    adapter = ort.AdapterFormat()
    adapter.set_adapter_version(VERSION)
    adapter.set_model_version(VERSION)
    adapter.set_parameters(
        {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(t)) for name, t in tensors.items()}
    )
    adapter.export_adapter(str(file))


def adapted_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a bank's graph with overridable initializers of one slot instead of the inputs for stacks and adapter ids.

    The graph no longer gathers a slot for each sequence; the weights are broadcast over the batch.
    """
    graph = model.graph
    gathered = {
        node.output[0]: node.input[0].removeprefix(BANK)
        for node in graph.node
        if node.op_type == "Gather" and node.input[0].startswith(BANK)
    }
    kept = [node for node in graph.node if node.output[0] not in gathered]
    for node in kept:
        node.input[:] = [gathered.get(name, name) for name in node.input]
        if any(name.startswith(BANK) for name in node.input):
            raise ExportError(
                f"the bank's graph reads a stack in a {node.op_type} instead of a Gather: {node.input[0]}"
            )
    for value in graph.input:
        if value.name.startswith(BANK):
            value.name = value.name.removeprefix(BANK)
            value.type.tensor_type.shape.dim[0].dim_value = 1
            graph.initializer.append(_zeros(value))
    inputs = [value for value in graph.input if value.name != ADAPTER_IDS]
    del graph.node[:], graph.input[:]
    graph.input.extend(inputs)
    graph.node.extend([*_no_ids(), *kept])
    return model


def _no_ids() -> list[onnx.NodeProto]:
    """Return nodes that compute `adapter_ids` (batch,) as zeros: the graph still reads its shape."""
    zero = numpy_helper.from_array(np.zeros(1, np.int64))
    return [
        helper.make_node("Shape", [INPUT_IDS], [BATCH], start=0, end=1),
        helper.make_node("ConstantOfShape", [BATCH], [ADAPTER_IDS], value=zero),
    ]


def _zeros(value: onnx.ValueInfoProto) -> onnx.TensorProto:
    """Return the default of a stack: zeros, with width 1 for dimensions that depend on the adapter."""
    kind = value.type.tensor_type
    shape = [dim.dim_value or 1 for dim in kind.shape.dim]
    return numpy_helper.from_array(np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type)), value.name)


def check_adapters(bundle: Bundle, adapters: list[Adapter], folder: Path) -> None:
    """Run the canary texts of each adapter on the graph in `folder`; of a bank with its `.onnx_adapter` file active.

    Raises:
        ParityError: The logits are not those of PyTorch.
    """
    session = open_session(folder / MODEL, ProviderChoice(CPU, "to run canary texts"))
    edges = [edge for edge in bundle.manifest.inputs if edge.name != ADAPTER_IDS]
    for adapter in adapters:
        active, options = ort.LoraAdapter(), ort.RunOptions()
        if bundle.manifest.shape == "bank":
            active.Load(str(folder / f"{adapter.card.name}{SUFFIX}"))
            options.add_active_adapter(active)
        run = partial(session.run, [LOGITS], run_options=options)
        check_canaries(lambda feeds, run=run: run(feeds)[0], edges, adapter.card, bundle)  # type: ignore[misc]
