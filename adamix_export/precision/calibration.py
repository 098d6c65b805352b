"""Activation statistics of the matrices in a decoder's graph, collected on calibration texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array, products
from adamix_export.precision.weight_only import ActivationGrams
from serve.adapters.bank import Bank
from serve.bundle.graph_io import ADAPTER_IDS, ATTENTION_MASK, BATCH, INPUT_IDS, MAX_LENGTH, SEQUENCE, TOTAL
from serve.runtime.graph_check import session_edges
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session


@dataclass(frozen=True)
class CalibrationText:
    """The token ids of a text, and the slot of the adapter that is applied to them."""

    ids: list[int]
    slot: int


def collect_activation_grams(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> ActivationGrams:
    """Return the Gram matrix of the input of every matrix product, over all tokens of all texts.

    Runs the fp32 graph in `file` on one text at a time; `bank` has the inputs of a bank's graph.
    """
    names = sorted({product.states.name or "" for product in products(ir.load(file).graph)})
    grams: dict[str, Array] = {}
    session = _session_with_outputs(file, names)
    inputs, _ = session_edges(session)
    for text in texts:
        length = len(text.ids)
        sizes = {BATCH: 1, SEQUENCE: length, TOTAL: length, MAX_LENGTH: length}
        given: dict[str, NDArray[np.int64]] = {
            INPUT_IDS: np.array([text.ids], np.int64),
            ATTENTION_MASK: np.ones((1, length), np.int64),
            ADAPTER_IDS: np.array([text.slot], np.int64),
        }
        fixed = bank.feeds if bank else {}
        feeds = {
            edge.name: ort.OrtValue.ortvalue_from_numpy(given[edge.name])
            if edge.name in given
            else ort.OrtValue.ortvalue_from_numpy(
                np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape], np.float32)
            )
            for edge in inputs
            if edge.name not in fixed
        }
        for name, found in zip(names, session.run_with_ort_values(names, feeds | fixed), strict=True):
            states = found.numpy().reshape(-1, found.shape()[-1])
            grams[name] = grams.get(name, np.float32(0)) + states.T @ states
    return grams


def _session_with_outputs(file: Path, names: Sequence[str]) -> ort.InferenceSession:
    """Return a session of the graph in `file` with the values `names` as additional outputs."""
    model = onnx.load(file, load_external_data=False)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    observed = file.with_name(f"observed.{file.name}")
    try:
        onnx.save(model, observed)
        return open_session(observed, ProviderChoice(CPU, "to collect activations"))
    finally:
        observed.unlink(missing_ok=True)
