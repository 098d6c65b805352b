"""Predictors by the task of a bundle: texts in, the values of the added columns out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

import numpy as np

from adamix_predict.job import Job
from serve.bundle.adapter import AdapterCard
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.errors import BundleError, InputError
from serve.generation.generator import Generator
from serve.loaded_model import LoadOptions
from serve.prediction import Prediction
from serve.requests import Text
from serve.runtime.providers import usable_cores

Values = dict[str, Any]
"""Added column, without the prefix → its value."""


class Predictor(Protocol):
    """An engine that fills the columns of rows."""

    chunk_rows: int
    """Rows that are predicted at a time, in batches of similar length."""

    def card(self, name: str | None) -> AdapterCard:
        """Return the card of an adapter; None selects the only one."""

    def types(self, cards: Sequence[AdapterCard]) -> dict[str, type]:
        """Return the columns that rows through these adapters have, with the types of their values."""

    def __call__(self, texts: Sequence[Any], adapters: Sequence[str | None]) -> list[Values]:
        """Return the values of each row."""

    def is_cut(self, text: Any, adapter: str | None) -> bool:
        """Return True if the adapter reads a part of the text alone."""


class LabelPredictor:
    """Labels and scores of a classifier."""

    chunk_rows = 1024

    def __init__(self, bundle: Bundle, job: Job, **options: Unpack[LoadOptions]) -> None:
        streams = options.get("threads") or usable_cores()
        self.classifier = Classifier(bundle, streams=streams, ensemble=job.ensemble, **options)
        self.job = job

    def card(self, name: str | None) -> AdapterCard:
        """Return the card of an adapter; None selects the only one."""
        return self.classifier.registry.find(name).card

    def types(self, cards: Sequence[AdapterCard]) -> dict[str, type]:
        """Return label (not of regressions), score, spread with members, and with scores one for each label."""
        labels = [label for card in cards if not card.regression for label in card.labels]
        found: dict[str, type] = {"label": str} if labels else {}
        found["score"] = float
        if self.job.members:
            found["spread"] = float
        return found | ({f"score_{label}": float for label in labels} if self.job.scores else {})

    def __call__(self, texts: Sequence[Text], adapters: Sequence[str | None]) -> list[Values]:
        """Return label and score of each text or pair."""
        names: Any = adapters
        found = self.classifier(texts, adapter=names, windows=self.job.windows, members=self.job.members)
        return [self._values(prediction) for prediction in found]

    def is_cut(self, text: Text, adapter: str | None) -> bool:
        """Return True if the text has more tokens than its adapter reads, and no windows."""
        size = sum(len(part.encode()) for part in ([text] if isinstance(text, str) else text))
        if self.job.windows or size + SPECIAL_TOKENS <= self.card(adapter).max_length:
            return False
        try:
            self.classifier.encode(text, adapter, truncate=False)
        except InputError:
            return True
        return False

    def _values(self, prediction: Prediction) -> Values:
        scores, best = prediction.scores, int(prediction.scores.argmax())
        values: Values = {"score": _shortest(scores[best])}
        if prediction.regression:
            values |= {"spread": _shortest(prediction.spread[0])} if self.job.members else {}
            return values
        values["label"] = prediction.label
        if self.job.members:
            values["spread"] = _shortest(prediction.spread[best])
        if self.job.scores:
            values |= {
                f"score_{label}": _shortest(score) for label, score in zip(prediction.labels, scores, strict=True)
            }
        return values


class TextPredictor:
    """Texts of a generator."""

    chunk_rows = 256

    def __init__(self, bundle: Bundle, job: Job, **options: Unpack[LoadOptions]) -> None:
        self.generator = Generator(bundle, **options)
        self.job = job

    def card(self, name: str | None) -> AdapterCard:
        """Return the card of an adapter; None selects the only one."""
        return self.generator.find(name).card

    def types(self, cards: Sequence[AdapterCard]) -> dict[str, type]:
        """Return text and finish_reason."""
        return {"text": str, "finish_reason": str}

    def __call__(self, texts: Sequence[str], adapters: Sequence[str | None]) -> list[Values]:
        """Return the generated text of each input."""
        results = self.generator(texts, adapter=adapters, max_new_tokens=self.job.max_new_tokens)
        return [{"text": result.text, "finish_reason": str(result.finish_reason)} for result in results]

    def is_cut(self, text: str, adapter: str | None) -> bool:
        """Return True if the prompt has more tokens than its adapter reads."""
        try:
            self.generator.prompt(text, adapter, truncate=False)
        except InputError:
            return True
        return False


SPECIAL_TOKENS = 8
"""More special tokens than a tokenizer adds. A token is a byte at least: a shorter text is not cut."""
_FOR_LABELS = ("label_column", "pair_column", "scores", "windows", "members", "ensemble")
_FOR_TEXTS = ("max_new_tokens",)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the rows of a task are predicted."""

    open: type[LabelPredictor] | type[TextPredictor]
    text_column: str
    """Column of the text if the job names none, as in adamix-train."""
    without: Sequence[str]
    """Fields of a job that mean nothing for the task."""


_TEXTS = Kind(open=TextPredictor, text_column="input", without=_FOR_LABELS)
KINDS: Mapping[str, Kind] = {
    "text-classification": Kind(open=LabelPredictor, text_column="text", without=_FOR_TEXTS),
    "text-generation": _TEXTS,
    "text2text-generation": _TEXTS,
}
"""Kinds by the task of their bundles; a new one is an entry here."""


def kind_of(bundle: Bundle, job: Job) -> Kind:
    """Return the kind of a bundle's task.

    Raises:
        BundleError: The task is unknown, or a field of the job means nothing for it.
    """
    task = bundle.manifest.task
    if task not in KINDS:
        raise BundleError(f"{bundle.folder} has the task {task!r}; adamix-predict has {', '.join(KINDS)}")
    for name in KINDS[task].without:
        if getattr(job, name) not in (None, False):
            flag = name.replace("_", "-")
            raise BundleError(f"--{flag} means nothing for {bundle.folder}, whose task is {task}: leave it out")
    return KINDS[task]


def _shortest(value: np.float32) -> float:
    """Return the number of the fewest digits that is this one in float32."""
    return float(str(value))
