"""A classifier as a model of a Triton repository: OUT/config.pbtxt and OUT/1/model.onnx, named after the folder OUT.

The adapters of a bank become constants of the graph; `adapter_ids` is an input with one number for each sequence.
"""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from adamix_export.converters.canaries import check_canaries
from adamix_export.errors import ExportError
from serve.adapters.bank import Bank
from serve.bundle.adapter import Adapter
from serve.bundle.graph_io import ADAPTER_IDS, BANK, LOGITS
from serve.bundle.manifest import MODEL, Edge
from serve.bundle.reader import Bundle
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

MARK = "config.pbtxt"
LABELS_FILE = "labels.txt"
VERSION = "1"
TASK = "text-classification"
DATA = "model.onnx.data"
MAX_BATCH_SIZE = 32
TYPES = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16"}


def write_triton(bundle: Bundle, adapters: list[Adapter], folder: Path) -> str:
    """Write the model with `adapters`, each checked on its canary texts; return how to serve it."""
    if bundle.manifest.task != TASK:
        raise ExportError(
            f"only bundles of task {TASK} can be converted to Triton; {bundle.folder} is of task {bundle.manifest.task}"
        )
    version = folder / VERSION
    version.mkdir()
    slots = {adapter.card.name: slot for slot, adapter in enumerate(adapters, 1)}
    if bundle.manifest.shape == "bank":
        onnx.save(_constant_bank(bundle, adapters), version / MODEL)
    else:
        shutil.copy(bundle.model, version / MODEL)
        (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in adapters[0].card.labels), "utf-8")
    if DATA in bundle.manifest.files:
        shutil.copy(bundle.folder / DATA, version / DATA)
    (folder / MARK).write_text(_config(bundle, adapters), "utf-8")
    session = open_session(version / MODEL, ProviderChoice(CPU, "to run canary texts"))
    for adapter in adapters:
        ids = {ADAPTER_IDS: np.array([slots[adapter.card.name]])} if bundle.manifest.shape == "bank" else {}
        check_canaries(partial(_logits, session, ids), bundle.manifest.inputs, adapter.card, bundle)
    numbers = f"; {ADAPTER_IDS} are {slots}" if bundle.manifest.shape == "bank" else ""
    return f"tritonserver --model-repository PARENT_FOLDER; all sequences of a request have the same length{numbers}"


def _constant_bank(bundle: Bundle, adapters: list[Adapter]) -> onnx.ModelProto:
    """Return the bank's graph with the adapters as constants; slot 0 remains the base model."""
    model = onnx.load(bundle.model, load_external_data=False)
    inputs = [value for value in model.graph.input if not value.name.startswith(BANK)]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for name, stack in Bank(bundle.manifest.inputs, adapters).stacks.items():
        model.graph.initializer.append(numpy_helper.from_array(stack, BANK + name))
    return model


def _config(bundle: Bundle, adapters: list[Adapter]) -> str:
    """Return the configuration in protobuf's text format; Triton batches sequences of the same length."""
    merged = bundle.manifest.shape == "merged"
    labels = f' label_filename: "{LABELS_FILE}"' if merged else ""
    inputs = [edge for edge in bundle.manifest.inputs if not edge.name.startswith(BANK)]
    lines = [
        'backend: "onnxruntime"',
        f'default_model_filename: "{MODEL}"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        *(f"input {{ {_tensor(edge)} }}" for edge in inputs),
        *(f"output {{ {_tensor(edge)}{labels} }}" for edge in bundle.manifest.outputs),
        "dynamic_batching { }",
        *(
            _parameter(f"{adapter.card.name}.{what}", value)
            for slot, adapter in enumerate(adapters, 1)
            for what, value in (
                ("adapter_id", "" if merged else str(slot)),
                ("sha256", adapter.card.sha256),
                ("labels", json.dumps(adapter.card.labels, ensure_ascii=False)),
            )
            if value
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(edge: Edge) -> str:
    """Return name, type and dims of a tensor, without the batch dimension and with -1 for dynamic sizes."""
    dims = [dim if isinstance(dim, int) else -1 for dim in edge.shape[1:]]
    shape = f"dims: {dims}" if dims else "dims: [1] reshape { shape: [] }"
    return f'name: "{edge.name}" data_type: {TYPES[edge.dtype]} {shape}'


def _parameter(name: str, value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False)
    return f'parameters {{ key: "{name}" value {{ string_value: {quoted} }} }}'


def _logits(session: ort.InferenceSession, ids: dict[str, Any], feeds: dict[str, Any]) -> NDArray[Any]:
    """Run a batch of one with the id of its adapter, if the graph takes one."""
    logits: NDArray[Any] = session.run([LOGITS], feeds | ids)[0]
    return logits
