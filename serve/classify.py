"""The classification engine: texts in, scores out, rows of a batch through adapters of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapter import AdapterCard
from serve.bank import PREFIX, Bank
from serve.bundle import Bundle, Edge, open_bundle
from serve.errors import BundleError, InputError, UnknownAdapter
from serve.session import CUDA, choose_provider, open_session
from serve.tokens import Row, Text, Texts, pad

BATCH_TOKENS = 2048
"""Padded tokens of a batch of a direct call."""
CANARY_TOLERANCE = 1e-3
"""Largest difference of a canary row's logits from PyTorch's, on any provider, in fp32; a bundle may state more."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one text or pair."""

    adapter: str
    sha256: str
    labels: Sequence[str]
    logits: NDArray[np.float32]
    regression: bool = False

    @property
    def scores(self) -> NDArray[np.float32]:
        """Probabilities (labels,), the softmax of the logits; of a regression its value (1,)."""
        if self.regression:
            return self.logits
        powers = np.exp(self.logits - self.logits.max())
        return powers / powers.sum()

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[int(self.logits.argmax())]


class Classifier:
    """A bundle, ready to answer.

    Opening it runs every adapter's canary rows and compares: an adapter that does not give what it gave in PyTorch is
    not served.
    """

    def __init__(self, bundle: Bundle | Path | str, *, provider: str = "auto", threads: int | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
        self.session = open_session(self.bundle.model, choose_provider(provider), threads=threads)
        check_edges(self.session, self.bundle)
        self.inputs = {edge.name for edge in self.bundle.manifest.inputs if not edge.name.startswith(PREFIX)}
        self.texts = Texts(self.bundle.tokenizer)
        self.cards: dict[str, AdapterCard] = {name: adapter.card for name, adapter in self.bundle.adapters.items()}
        self.bank: Bank | None = None
        if self.bundle.manifest.shape == "bank":
            device = "cuda" if self.provider == CUDA else "cpu"
            self.bank = Bank(
                self.bundle.manifest.inputs,
                list(self.bundle.adapters.values()),
                device=device,
                spare=self.bundle.manifest.spare_slots,
            )
        for card in self.cards.values():
            self.check_canary(card)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.get_providers()[0]

    def __call__(self, texts: str | Sequence[Text], *, adapter: str | Sequence[str] | None = None) -> list[Prediction]:
        """Classify texts or pairs, truncating long ones; `adapter` is one name for all or one for each.

        They run in batches of similar length; answers come in the order of the texts.
        """
        texts = [texts] if isinstance(texts, str) else texts
        names = [adapter] * len(texts) if adapter is None or isinstance(adapter, str) else adapter
        rows = [self.row(text, name, truncate=True) for text, name in zip(texts, names, strict=True)]
        predictions: dict[int, Prediction] = {}
        for batch in _batches(rows):
            predictions |= zip(batch, self.run([rows[index] for index in batch]), strict=True)
        return [predictions[index] for index in range(len(rows))]

    def row(self, text: Text, adapter: str | None, *, truncate: bool) -> Row:
        """Return the row of a text or pair, whichever `adapter` takes; None is the bundle's only one."""
        card = self.card(adapter)
        if card.pairs and isinstance(text, str):
            raise InputError(f"adapter {card.name} takes pairs of texts: send two texts, not one")
        if not card.pairs and not isinstance(text, str):
            raise InputError(f"adapter {card.name} takes one text, not a pair")
        return self.texts.row(text, adapter=card.name, max_length=card.max_length, truncate=truncate)

    def card(self, adapter: str | None) -> AdapterCard:
        """Return the card of an adapter, or an error that lists those there are."""
        if adapter is None and len(self.cards) == 1:
            return next(iter(self.cards.values()))
        if adapter is None:
            raise InputError(f"name an adapter: {', '.join(self.cards)}")
        if adapter not in self.cards:
            raise UnknownAdapter(f"there is no adapter {adapter!r} here; there are {', '.join(self.cards)}")
        return self.cards[adapter]

    def run(self, rows: Sequence[Row]) -> list[Prediction]:
        """Run rows as one batch, each through its adapter; answers come in their order."""
        logits = self._logits(rows)
        cards = [self.cards[row.adapter] for row in rows]
        return [
            Prediction(card.name, card.sha256, card.labels, line[: len(card.labels)], card.regression)
            for card, line in zip(cards, logits, strict=True)
        ]

    def check_canary(self, card: AdapterCard) -> None:
        """Raise an error if an adapter does not give the logits on its canary rows that it gave in PyTorch."""
        tolerance = max(CANARY_TOLERANCE, self.bundle.manifest.canary_tolerance)
        types = card.canary_token_type_ids or [[0] * len(ids) for ids in card.canary_ids]
        rows = [Row(ids, row_types, card.name) for ids, row_types in zip(card.canary_ids, types, strict=True)]
        found = self._logits(rows)[:, : len(card.labels)]
        expected = np.array(card.canary_logits, np.float32)
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=tolerance):
            raise BundleError(
                f"adapter {card.name} does not give the logits that it gave in PyTorch on its canary rows "
                f"(within {tolerance:g}): it is not served; export it again"
            )

    def _logits(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return logits (rows, widest label list)."""
        arrays = {
            "input_ids": pad([row.input_ids for row in rows], self.bundle.manifest.pad_token_id),
            "attention_mask": pad([[1] * len(row) for row in rows], 0),
            "token_type_ids": pad([row.token_type_ids for row in rows], 0),
        }
        if self.bank is not None:
            arrays["adapter_ids"] = np.array([self.bank.slots[row.adapter] for row in rows], np.int64)
        feeds = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items() if name in self.inputs}
        outputs = self.session.run_with_ort_values(None, feeds | (self.bank.feeds if self.bank else {}))
        return outputs[0].numpy()


def _batches(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield the indices of rows in batches of similar length, by token budget."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if len(rows[index]) * (len(batch) + 1) > BATCH_TOKENS and batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def check_edges(session: ort.InferenceSession, bundle: Bundle) -> None:
    """Raise an error if a session's graph does not have the edges that its manifest lists."""
    found = session_edges(session)
    if found != (bundle.manifest.inputs, bundle.manifest.outputs):
        raise BundleError(f"{bundle.model} does not have the inputs and outputs that the manifest lists")


def session_edges(session: ort.InferenceSession) -> tuple[list[Edge], list[Edge]]:
    """Return the inputs and the outputs of a session's graph."""
    inputs, outputs = (
        [Edge(name=value.name, dtype=value.type, shape=list(value.shape)) for value in side]
        for side in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs
