"""Run a batch of tokenized texts through the graph, each row through its own adapter."""

import logging
from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapters.bank import Bank
from serve.bundle.config import hidden_width
from serve.bundle.graph_io import ADAPTER_IDS, ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from serve.bundle.reader import Bundle
from serve.classification.executor import EXECUTORS, Executor, Stacks
from serve.classification.prediction import prediction_from
from serve.classification.text_tokenizer import EncodedText
from serve.errors import BundleError, ClassificationFailed, ServeError, as_serve_error, device_loss
from serve.prediction import Prediction
from serve.runtime.device_memory import HOST
from serve.runtime.padding import mask_of, pad
from serve.runtime.run_inputs import Arrays

logger = logging.getLogger(__name__)


class ModelRunner:
    """A session of a classifier's graph and the bank that its adapters come from; callable from any thread."""

    def __init__(self, bundle: Bundle, session: ort.InferenceSession, bank: Bank | None, *, device: str = HOST) -> None:
        self.bank, self.pad_token_id = bank, bundle.manifest.pad_token_id
        self.executor: Executor = EXECUTORS[device](session, device, width=hidden_width(bundle))
        names = {edge.name for edge in bundle.manifest.inputs}
        self.padded = {name: padding for name, padding in PADDED.items() if name in names}

    def run(self, rows: Sequence[EncodedText]) -> list[Prediction | ServeError]:
        """Return for each row its prediction or its error.

        An error is a BundleError if the row's adapter cannot be read from disk again, and a ClassificationFailed if
        ONNX Runtime cannot run the row or its logits are not finite. It does not affect the other rows.
        """
        errors = self._unreadable(rows)
        good = [index for index, row in enumerate(rows) if row.adapter.card.sha256 not in errors]
        results = dict(zip(good, self._run_or_halve([rows[index] for index in good]), strict=True))
        return [
            results[index] if index in results else errors[row.adapter.card.sha256] for index, row in enumerate(rows)
        ]

    def logits(self, rows: Sequence[EncodedText]) -> list[NDArray[np.float32]]:
        """Return the logits of each row, (widest label list,)."""
        if self.bank is None:
            return list(self._run(rows)) if rows else []
        logits: dict[int, NDArray[np.float32]] = {}
        for part in self.bank.batches([row.adapter for row in rows]) if rows else ():
            batch = [rows[index] for index in part]
            with self.bank.acquire([row.adapter for row in batch]) as (slots, stacks):
                logits |= zip(part, self._run(batch, {ADAPTER_IDS: slots}, stacks), strict=True)
        return [logits[index] for index in range(len(rows))]

    def _unreadable(self, rows: Sequence[EncodedText]) -> dict[str, BundleError]:
        """Return the errors of adapters that are not resident and cannot be read from disk, by sha256."""
        if self.bank is None:
            return {}
        errors = {}
        for sha256, adapter in {row.adapter.card.sha256: row.adapter for row in rows}.items():
            if sha256 not in self.bank.slots and not adapter.in_memory:
                try:
                    _ = adapter.tensors
                except BundleError as error:
                    errors[sha256] = error
        return errors

    def _run_or_halve(self, rows: Sequence[EncodedText]) -> list[Prediction | ServeError]:
        """Run rows in one batch; if that fails, run each half by itself, down to the rows that cause the failure.

        If the device is lost, that is the error of all rows.
        """
        try:
            logits = self.logits(rows)
            return [_prediction(row, found) for row, found in zip(rows, logits, strict=True)]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            failure = error
        if len(rows) > 1 and device_loss(failure) is None:
            half = len(rows) // 2
            return [*self._run_or_halve(rows[:half]), *self._run_or_halve(rows[half:])]
        logger.error("a text of adapter %s failed", rows[0].adapter.card.name, exc_info=failure)
        return [as_serve_error(failure, ClassificationFailed, "the text cannot be classified")] * len(rows)

    def _run(
        self, rows: Sequence[EncodedText], slots: Arrays = MappingProxyType({}), stacks: Stacks = MappingProxyType({})
    ) -> NDArray[np.float32]:
        """Return logits, (rows, widest label list)."""
        arrays = {name: padding(rows, self.pad_token_id) for name, padding in self.padded.items()}
        return self.executor.run({**arrays, **slots}, stacks)


def _types(rows: Sequence[EncodedText], pad_token_id: int) -> NDArray[np.int64]:
    """Return the types of the tokens (rows, tokens); those of single texts are all 0, and are not copied."""
    types = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for line, row in zip(types, rows, strict=True):
        if any(row.token_type_ids):
            line[: len(row)] = row.token_type_ids
    return types


PADDED: dict[str, Callable[[Sequence[EncodedText], int], NDArray[np.int64]]] = {
    INPUT_IDS: lambda rows, pad_token_id: pad([row.input_ids for row in rows], pad_token_id),
    ATTENTION_MASK: lambda rows, _: mask_of([len(row) for row in rows]),
    TOKEN_TYPE_IDS: _types,
}
"""Functions that make the arrays of rows and the padding token, by the graph input that takes them."""


def _prediction(row: EncodedText, logits: NDArray[np.float32]) -> Prediction | ServeError:
    """Return the prediction of a row, or an error if its adapter gives logits that no score can be made of."""
    found = prediction_from(row.adapter.card, logits, tokens=len(row))
    if not np.isfinite(found.logits).all():
        return ClassificationFailed(f"adapter {found.adapter} gives logits that are not finite")
    return found
