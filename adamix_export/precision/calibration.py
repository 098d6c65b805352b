"""Activation statistics of the matrices in a graph, collected on calibration texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from adamix_export.passes.matrices import Array, products
from adamix_export.precision.int8_dynamic import product_inputs
from serve.adapters.bank import Bank
from serve.bundle.graph_io import (
    ADAPTER_IDS,
    ATTENTION_MASK,
    BATCH,
    INPUT_IDS,
    MAX_LENGTH,
    SEQUENCE,
    TOKEN_TYPE_IDS,
    TOTAL,
)
from serve.runtime.graph_check import session_edges
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

Statistics = Mapping[str, Any]
"""Statistics of activations by a name in the graph; each precision has its own form of them."""


@dataclass(frozen=True, kw_only=True)
class CalibrationText:
    """A text as token ids, and the slot of the adapter that is applied to it."""

    ids: Sequence[int]
    token_type_ids: Sequence[int] = ()
    """Empty stands for zeros."""
    slot: int = 0


def collect_activation_grams(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> Statistics:
    """Return the Gram matrix of the input of every matrix product, by its name, over all tokens of all texts.

    Runs the fp32 graph in `file` on one text at a time; `bank` has the inputs of a bank's graph.
    """
    grams: dict[str, Array] = {}
    names = {product.states.name or "" for product in products(ir.load(file).graph)}
    for name, states in _observe(file, names, texts, bank):
        grams[name] = grams.get(name, np.float32(0)) + states.T @ states
    return grams


def collect_channel_ranges(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> Statistics:
    """Return the largest magnitude of each channel (width,) of every product's input, by the product's node."""
    ranges: dict[str, Array] = {}
    inputs = product_inputs(ir.load(file).graph)
    for name, states in _observe(file, set(inputs.values()), texts, bank):
        largest = np.abs(states).max(0)
        ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return {node: ranges[name] for node, name in inputs.items()}


def run_texts(
    session: ort.InferenceSession, names: Sequence[str], texts: Iterable[CalibrationText], bank: Bank | None
) -> Iterator[list[Array]]:
    """Yield the values `names` for each text, run by itself; a generator's caches are empty."""
    inputs, _ = session_edges(session)
    fixed = bank.feeds if bank else {}
    for text in texts:
        length = len(text.ids)
        sizes = {BATCH: 1, SEQUENCE: length, TOTAL: length, MAX_LENGTH: length}
        given: dict[str, NDArray[np.int64]] = {
            INPUT_IDS: np.array([text.ids], np.int64),
            TOKEN_TYPE_IDS: np.array([text.token_type_ids or [0] * length], np.int64),
            ATTENTION_MASK: np.ones((1, length), np.int64),
            ADAPTER_IDS: np.array([text.slot], np.int64),
        }
        feeds = {
            edge.name: ort.OrtValue.ortvalue_from_numpy(given[edge.name])
            if edge.name in given
            else ort.OrtValue.ortvalue_from_numpy(
                np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape], np.float32)
            )
            for edge in inputs
            if edge.name not in fixed
        }
        yield [found.numpy() for found in session.run_with_ort_values(list(names), feeds | fixed)]


def _observe(
    file: Path, names: set[str], texts: Sequence[CalibrationText], bank: Bank | None
) -> Iterator[tuple[str, Array]]:
    """Yield each value's name with its states (tokens, width), text by text."""
    ordered = sorted(names)
    for found in run_texts(_session_with_outputs(file, ordered), ordered, texts, bank) if ordered else ():
        for name, states in zip(ordered, found, strict=True):
            yield name, states.reshape(-1, states.shape[-1])


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
