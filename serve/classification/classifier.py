"""The classification engine: texts in, scores out, rows of a batch through adapters of their own."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapters.bank import PREFIX, Bank
from serve.adapters.registry import Registry
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.reader import Bundle, open_bundle
from serve.classification.prediction import Prediction, _prediction, average
from serve.classification.text_tokenizer import Row, Text, Texts, Windows
from serve.errors import BundleError, InputError, ServeError, failure
from serve.runtime.graph_check import check_edges
from serve.runtime.padding import pad
from serve.runtime.providers import CPU, CUDA, choose_provider
from serve.runtime.session import open_session

logger = logging.getLogger(__name__)
BATCH_TOKENS = {CPU: 512, CUDA: 8192}
"""Padded tokens of a batch: on a processor what its caches hold, on a GPU what should fill it (not yet measured)."""
CANARIES = 16
"""Adapters whose canary rows run together."""
CANARY_TOLERANCE = 1e-3
"""Largest difference of a canary row's logits from PyTorch's, on any provider, in fp32; a bundle may state more."""


class Classifier:
    """A bundle, ready to answer; any number of threads may call it.

    Opening it runs every adapter's canary rows and compares: an adapter that does not give what it gave in PyTorch is
    not served.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        provider: str = "auto",
        threads: int | None = None,
        slots: int | None = None,
        held: int | None = None,
        batch_tokens: int | None = None,
        streams: int = 1,
        cache: Path | None = None,
    ) -> None:
        """Open a bundle, or the one in a folder.

        `slots` adapters of a bank are on the device at a time (default: those of the bundle and its spare ones), and
        the weights of `held` in host memory (default: of all); the others are brought back when they are asked for.
        Batches have at most `batch_tokens` padded tokens (default: BATCH_TOKENS of the provider).

        On a processor, `streams` batches run side by side, one thread each, when more than one is at hand. That takes a
        second session, with weights of its own unless there is a `cache`, a folder where the optimised graph is kept
        for the next start.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
        manifest = self.bundle.manifest
        model, choice = self.bundle.model, choose_provider(provider)
        hashes = self.bundle.hashes(model)
        self.session = self.share = open_session(model, choice, threads=threads, cache=cache, hashes=hashes)
        check_edges(self.session, self.bundle)
        self.batch_tokens = batch_tokens or BATCH_TOKENS[self.provider]
        self.streams = streams if self.provider == CPU else 1
        """How many batches run side by side, on `share`; one that is alone runs on `session`."""
        if self.streams > 1:
            beside = replace(choice, reason=f"one thread a batch, where up to {self.streams} run side by side")
            self.share = open_session(model, beside, threads=1, cache=cache, hashes=hashes)
        self.inputs = {edge.name for edge in manifest.inputs if not edge.name.startswith(PREFIX)}
        self.texts = Texts(self.bundle.tokenizer, self.bundle.vocabulary)
        self.bank: Bank | None = None
        if manifest.shape == "bank":
            adapters = list(self.bundle.adapters.values())
            self.bank = Bank(
                manifest.inputs,
                adapters,
                device="cuda" if self.provider == CUDA else "cpu",
                slots=len(adapters) + manifest.spare_slots if slots is None else slots,
                held=held,
            )
        self.registry = Registry(self.bundle, self.bank, self.check_canaries)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.get_providers()[0]

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """The cards of the adapters that are served, by name."""
        return self.registry.cards

    def __call__(
        self,
        texts: str | Sequence[Text],
        *,
        adapter: str | Sequence[str] | None = None,
        windows: bool = False,
        overlap: int | None = None,
    ) -> list[Prediction]:
        """Classify texts or pairs; `adapter` is one name for all or one for each.

        Long texts are cut as in training or, with `windows`, read in windows that overlap by `overlap` tokens, whose
        scores are averaged. They run in batches of similar length; answers come in the order of the texts.
        """
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter
        parts: list[Sequence[Row] | Windows] = [
            self.windows(text, name, overlap=overlap) if windows else [self.row(text, name, truncate=True)]
            for text, name in zip(texts, names, strict=True)
        ]
        answers = iter(self._answers([row for part in parts for row in part]))
        return [average([next(answers) for _ in range(len(part))]) for part in parts]

    def load(self, folder: Path | str, *, replace: bool = False) -> AdapterCard:
        """Serve the standalone adapter in `folder` as well, as `Registry.load` says."""
        return self.registry.load(Path(folder), replace=replace)

    def unload(self, name: str) -> None:
        """Serve an adapter no more."""
        self.registry.unload(name)

    def row(self, text: Text, adapter: str | None, *, truncate: bool) -> Row:
        """Return the row of a text or pair, whichever `adapter` takes; None is the bundle's only one."""
        found = self.registry.find(adapter)
        if found.card.pairs and isinstance(text, str):
            raise InputError(f"adapter {found.card.name} takes pairs of texts: send two texts, not one")
        if not found.card.pairs and not isinstance(text, str):
            raise InputError(f"adapter {found.card.name} takes one text, not a pair")
        return self.texts.row(text, found, truncate=truncate)

    def windows(self, text: Text, adapter: str | None, *, overlap: int | None = None) -> Windows:
        """Return rows that cover a text of any length."""
        found = self.registry.find(adapter)
        if found.card.pairs or not isinstance(text, str):
            raise InputError("windows are read of one text, not of a pair: which of the two is long is not known")
        return self.texts.windows(text, found, overlap=overlap)

    def run(self, rows: Sequence[Row], alone: bool = True) -> list[Prediction | ServeError]:
        """Run rows together, each through its adapter; answers come in their order.

        They take all threads if they are `alone`, and otherwise one, beside the other batches.
        A row whose adapter cannot be brought back from disk, or that the runtime refuses, has that error for an answer,
        and the others go on.
        """
        session = self.session if alone else self.share
        errors = self._unreadable(rows)
        good = [index for index, row in enumerate(rows) if row.adapter.card.sha256 not in errors]
        answers = dict(zip(good, self._tried([rows[index] for index in good], session), strict=True))
        return [
            answers[index] if index in answers else errors[row.adapter.card.sha256] for index, row in enumerate(rows)
        ]

    def check_canaries(self, adapters: Sequence[Adapter]) -> None:
        """Raise an error if an adapter does not give the logits on its canary rows that it gave in PyTorch."""
        tolerance = max(CANARY_TOLERANCE, self.bundle.manifest.canary_tolerance)
        for start in range(0, len(adapters), CANARIES):
            some = adapters[start : start + CANARIES]
            for adapter, found in zip(some, self.canary_logits(some), strict=True):
                expected = np.array(adapter.card.canary_logits, np.float32)
                if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=tolerance):
                    raise BundleError(
                        f"adapter {adapter.card.name} does not give the logits that it gave in PyTorch on its canary "
                        f"rows (within {tolerance:g}): it is not served; export it again"
                    )

    def canary_logits(self, adapters: Sequence[Adapter]) -> list[NDArray[np.float32]]:
        """Return the logits (canary rows, labels) of each adapter, all in one batch."""
        logits = iter(self._logits([row for adapter in adapters for row in _canaries(adapter)], self.session))
        return [
            np.stack([next(logits)[: len(adapter.card.labels)] for _ in adapter.card.canary_ids])
            for adapter in adapters
        ]

    def _answers(self, rows: Sequence[Row]) -> list[Prediction]:
        """Run rows in batches of similar length, side by side; raise the error of the first that has one."""
        batches = list(_batches(rows, self.batch_tokens))
        alone = self.streams == 1 or len(batches) == 1
        answers: dict[int, Prediction] = {}

        def run(batch: list[int]) -> list[Prediction | ServeError]:
            return self.run([rows[index] for index in batch], alone)

        with ThreadPoolExecutor(self.streams) if not alone else nullcontext() as pool:
            for batch, found in zip(batches, pool.map(run, batches) if pool else map(run, batches), strict=True):
                for index, answer in zip(batch, found, strict=True):
                    if isinstance(answer, ServeError):
                        raise answer
                    answers[index] = answer
        return [answers[index] for index in range(len(rows))]

    def _unreadable(self, rows: Sequence[Row]) -> dict[str, BundleError]:
        """Return the errors of adapters whose weights are neither placed nor can be read, by sha256."""
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

    def _tried(self, rows: Sequence[Row], session: ort.InferenceSession) -> list[Prediction | ServeError]:
        """Answer rows; if they cannot be run together, each half by itself, and so on down to those at fault."""
        try:
            logits = self._logits(rows, session)
            return [_prediction(row.adapter.card, found) for row, found in zip(rows, logits, strict=True)]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            refusal = error
        if len(rows) > 1:
            half = len(rows) // 2
            return [*self._tried(rows[:half], session), *self._tried(rows[half:], session)]
        logger.error("a text of adapter %s failed", rows[0].adapter.card.name, exc_info=refusal)
        return [failure(refusal, "the text cannot be classified")]

    def _logits(self, rows: Sequence[Row], session: ort.InferenceSession) -> list[NDArray[np.float32]]:
        """Return the logits (widest label list,) of each row."""
        if self.bank is None:
            return list(self._run(rows, session, {})) if rows else []
        logits: dict[int, NDArray[np.float32]] = {}
        for part in self.bank.batches([row.adapter for row in rows]) if rows else ():
            some = [rows[index] for index in part]
            with self.bank.using([row.adapter for row in some]) as (slots, feeds):
                ids = ort.OrtValue.ortvalue_from_numpy(slots)
                logits |= zip(part, self._run(some, session, {**feeds, "adapter_ids": ids}), strict=True)
        return [logits[index] for index in range(len(rows))]

    def _run(
        self, rows: Sequence[Row], session: ort.InferenceSession, others: dict[str, ort.OrtValue]
    ) -> NDArray[np.float32]:
        """Return logits (rows, widest label list)."""
        arrays = {
            "input_ids": pad([row.input_ids for row in rows], self.bundle.manifest.pad_token_id),
            "attention_mask": pad([[1] * len(row) for row in rows], 0),
            "token_type_ids": pad([row.token_type_ids for row in rows], 0),
        }
        feeds = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items() if name in self.inputs}
        outputs = session.run_with_ort_values(None, feeds | others)
        logits: NDArray[np.float32] = outputs[0].numpy()
        return logits


def _canaries(adapter: Adapter) -> list[Row]:
    card = adapter.card
    types = card.canary_token_type_ids or [[0] * len(ids) for ids in card.canary_ids]
    return [Row(ids, row_types, adapter) for ids, row_types in zip(card.canary_ids, types, strict=True)]


def _batches(rows: Sequence[Row], tokens: int) -> Iterator[list[int]]:
    """Yield the indices of rows in batches of similar length, the longest first, of at most so many padded tokens."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index])):
        if batch and len(rows[batch[0]]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
