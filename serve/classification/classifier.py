"""The classification engine, synchronous: texts in, predictions out, each row of a batch through its own adapter."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from serve.adapters.canaries import compare_canaries
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.config import vocab_size
from serve.bundle.reader import Bundle
from serve.classification.model_runner import ModelRunner
from serve.classification.text_rows import TextRows
from serve.classification.text_tokenizer import EncodedText, TextTokenizer, Windows
from serve.errors import BundleError, InputError, ServeError
from serve.limits import BATCH_TOKENS
from serve.loaded_model import LoadedModel, LoadOptions
from serve.prediction import Prediction
from serve.requests import Text, adapter_names, check_overlap
from serve.runtime.providers import CPU

CANARY_BATCH = 16
"""Adapters whose canary rows run in one batch."""


Members = Mapping[str | None, Sequence[Adapter]]
"""The members of adapters, by the names that a request calls these; those that have to run."""
PAIR_HINT = '; over HTTP ["a", "b"] is a pair, and [["a"], ["b"]] are two texts'
"""Hint for clients that send a batch as a list of texts."""


class Classifier:
    """A bundle that classifies; callable from any number of threads.

    Opening it runs the canary rows of every adapter and compares them with PyTorch's logits: an adapter that differs is
    not served.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        batch_tokens: int | None = None,
        streams: int = 1,
        ensemble: bool = False,
        **options: Unpack[LoadOptions],
    ) -> None:
        """Open a bundle, or the one in a folder.

        Args:
            bundle: A bundle or its folder.
            batch_tokens: Padded tokens of a batch; None takes the provider's default.
            streams: Batches that run side by side on the CPU, one thread each. More than one takes a second session,
                with weights of its own unless there is a `cache`.
            ensemble: Predict the mean of the members' probabilities in place of an adapter's own; each adapter of the
                bundle needs its members.
            options: Keyword arguments of `LoadedModel`: provider, threads, slots, host_adapters, cache, pins.

        Raises:
            BundleError: The bundle is damaged, an adapter does not give PyTorch's logits, or has no members for an
                `ensemble`.
            ProviderError: The requested provider cannot run.
        """
        self.model = LoadedModel(bundle, **options)
        self.bundle, self.bank = self.model.bundle, self.model.bank
        self.batch_tokens = batch_tokens or BATCH_TOKENS[self.model.provider]
        self.streams = streams if self.model.provider == CPU else 1
        """Batches that run side by side, on `shared_runner`; a batch that is alone runs on `runner`."""
        session, device = self.model.session, self.model.device
        self.runner = self.shared_runner = ModelRunner(self.bundle, session, self.bank, device=device)
        if self.streams > 1:
            reason = f"one thread a batch, where up to {self.streams} run side by side"
            shared = self.model.open_session(threads=1, reason=reason)
            self.shared_runner = ModelRunner(self.bundle, shared, self.bank)
        self.tokenizer = TextTokenizer(self.bundle.tokenizer, vocab_size(self.bundle))
        self.registry = self.model.registry(self.check_canaries)
        self.ensemble = ensemble
        try:
            self.members(self.registry.find_each(self.registry.adapters))
        except InputError as error:
            raise BundleError(f"{self.bundle.folder} cannot be served as an ensemble: {error}") from error

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.model.provider

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """Cards of the served adapters, by name."""
        return self.registry.cards

    def __call__(
        self,
        texts: str | Sequence[Text],
        *,
        adapter: str | Sequence[str] | None = None,
        windows: bool = False,
        overlap: int | None = None,
        members: bool = False,
    ) -> list[Prediction]:
        """Classify texts or pairs in batches of similar length.

        Args:
            texts: A text, or a sequence of texts and pairs.
            adapter: One name for all texts or one for each; None selects the only adapter.
            windows: Split long texts into overlapping windows and average their scores; otherwise they are cut as in
                training.
            overlap: Tokens that neighbouring windows share; None takes a quarter of the maximum length.
            members: Run each text through the members of its adapter as well, for `Prediction.members`, `spread` and
                `ensemble`.

        Returns:
            One prediction for each text, in order.

        Raises:
            InputError: A text is empty, or is a pair where the adapter takes one text, or the other way round; an
                adapter's members are not here; or there is an overlap without windows.
            UnknownAdapter: No adapter has that name.
        """
        check_overlap(overlap, windows=windows)
        texts = [texts] if isinstance(texts, str) else texts
        names = adapter_names(adapter, len(texts))
        adapters = self.registry.find_each(names)
        found = self.members(adapters, asked=members)
        parts = [
            self.rows(text, adapters[name], found.get(name, ()), truncate=True, windows=windows, overlap=overlap)
            for text, name in zip(texts, names, strict=True)
        ]
        predictions = iter(self._predict([row for part in parts for row in part]))
        return [part.combine(predictions) for part in parts]

    def load(self, folder: Path | str, *, replace: bool = False) -> AdapterCard:
        """Add the standalone adapter in `folder`, as `Registry.load` describes."""
        return self.registry.load(Path(folder), replace=replace)

    def unload(self, name: str) -> None:
        """Remove an adapter, as `Registry.unload` describes."""
        self.registry.unload(name)

    def members(self, adapters: Mapping[str | None, Adapter], *, asked: bool = False) -> Members:
        """Return the members of adapters that have to run: where they are asked for, or make up an ensemble.

        Raises:
            InputError: The members of an adapter are not here.
        """
        if not (asked or self.ensemble):
            return {}
        return {
            name: self.registry.members(adapter)
            for name, adapter in adapters.items()
            if asked or not adapter.card.member_of
        }

    def rows(
        self,
        text: Text,
        adapter: Adapter,
        members: Sequence[Adapter],
        *,
        truncate: bool,
        windows: bool,
        overlap: int | None,
    ) -> TextRows:
        """Return the rows of a text through an adapter and its `members`, in windows or as one row."""
        found = (
            self._windows(text, adapter, overlap=overlap)
            if windows
            else [self._encode(text, adapter, truncate=truncate)]
        )
        return TextRows(windows=found, members=members, ensemble=self.ensemble)

    def encode(self, text: Text, adapter: str | None, *, truncate: bool) -> EncodedText:
        """Tokenize a text or pair for an adapter; None selects the only one."""
        return self._encode(text, self.registry.find(adapter), truncate=truncate)

    def windows(self, text: Text, adapter: str | None, *, overlap: int | None = None) -> Windows:
        """Return windows that cover a text of any length."""
        return self._windows(text, self.registry.find(adapter), overlap=overlap)

    def _encode(self, text: Text, found: Adapter, *, truncate: bool) -> EncodedText:
        if found.card.pairs and isinstance(text, str):
            raise InputError(f"adapter {found.card.name} takes pairs of texts: send two texts, not one")
        if not found.card.pairs and not isinstance(text, str):
            raise InputError(f"adapter {found.card.name} takes one text, not a pair{PAIR_HINT}")
        return self.tokenizer.encode(text, found, truncate=truncate)

    def _windows(self, text: Text, found: Adapter, *, overlap: int | None) -> Windows:
        if found.card.pairs or not isinstance(text, str):
            raise InputError("windows are read of one text, not of a pair: which of the two is long is not known")
        return self.tokenizer.windows(text, found, overlap=overlap)

    def run(self, rows: Sequence[EncodedText], alone: bool = True) -> list[Prediction | ServeError]:
        """Run rows in one batch, as `ModelRunner.run` describes; on all threads, or on one beside other batches."""
        return (self.runner if alone else self.shared_runner).run(rows)

    def check_canaries(self, adapters: Sequence[Adapter]) -> None:
        """Raise a BundleError if an adapter does not give PyTorch's logits on its canary rows."""
        for start in range(0, len(adapters), CANARY_BATCH):
            batch = adapters[start : start + CANARY_BATCH]
            for adapter, found in zip(batch, self.canary_logits(batch), strict=True):
                compare_canaries(adapter.card, list(found), self.bundle.manifest)

    def canary_logits(self, adapters: Sequence[Adapter]) -> list[NDArray[np.float32]]:
        """Return the logits of each adapter's canary rows, (rows, labels), all from one batch."""
        logits = iter(self.runner.logits([row for adapter in adapters for row in _canary_rows(adapter)]))
        return [
            np.stack([next(logits)[: len(adapter.card.labels)] for _ in adapter.card.canary_ids])
            for adapter in adapters
        ]

    def _predict(self, rows: Sequence[EncodedText]) -> list[Prediction]:
        """Run rows in batches of similar length, side by side; raise the error of the first row that has one."""
        batches = list(_batches(rows, self.batch_tokens))
        alone = self.streams == 1 or len(batches) == 1
        predictions: dict[int, Prediction] = {}

        def run(batch: list[int]) -> list[Prediction | ServeError]:
            return self.run([rows[index] for index in batch], alone)

        with ThreadPoolExecutor(self.streams) if not alone else nullcontext() as pool:
            for batch, found in zip(batches, pool.map(run, batches) if pool else map(run, batches), strict=True):
                for index, prediction in zip(batch, found, strict=True):
                    if isinstance(prediction, ServeError):
                        raise prediction
                    predictions[index] = prediction
        return [predictions[index] for index in range(len(rows))]


def _canary_rows(adapter: Adapter) -> list[EncodedText]:
    card = adapter.card
    types = card.canary_token_type_ids or [[0] * len(ids) for ids in card.canary_ids]
    return [EncodedText(ids, row_types, adapter) for ids, row_types in zip(card.canary_ids, types, strict=True)]


def _batches(rows: Sequence[EncodedText], max_tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows in batches of similar length, longest first, of at most so many padded tokens."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index])):
        if batch and len(rows[batch[0]]) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
