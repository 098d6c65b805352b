"""Export of models that answer with a label or a score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.parity.comparison import Check, Parity, parity_examples
from adamix_export.parity.probes import probe_rows, require_equal
from adamix_export.tracing import encoder
from adamix_export.tracing.bank import Stacks
from adamix_train.data.examples import Example
from adamix_train.metrics.table import METRICS
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.requests import Text

CANARIES = (
    "Everything arrived on time and works as it should, thank you.",
    "It broke on the second day and nobody answers my letters.",
    "Where can I change the address on my invoice?",
    "no",
)
"""Texts of our own: they go into every bundle, as token ids."""
REFERENCE_ROWS = 32
Array = NDArray[Any]
Rows = Sequence[tuple[str, ...]]
"""Single texts, or pairs, as the examples of training have them."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the outputs of a model stand for."""

    targets: Callable[[Source, Sequence[Example]], Array]
    """Returns what the metric compares the outputs with: (examples,)."""
    equal: Callable[[Array, Array, float], Array]
    """Takes the outputs (rows, labels) of both sides and the tolerance; returns which rows have one answer."""


def canaries(source: Source) -> dict[str, Any]:
    """Return the token ids of a few rows and PyTorch's logits for them, each row run alone."""
    rows: Rows = canary_texts(source)
    inputs = _encode(source, rows)
    return {
        "canary_ids": inputs["input_ids"],
        "canary_token_type_ids": inputs.get("token_type_ids", []),
        "canary_logits": [logits(source, [row])[0].tolist() for row in rows],
    }


def canary_texts(source: Source) -> list[tuple[str, ...]]:
    """Return the canaries as `source` takes them: one by one, or each with the next."""
    nexts = (*CANARIES[1:], CANARIES[0])
    return list(zip(CANARIES, nexts, strict=True) if source.pairs else zip(CANARIES, strict=True))


def write_graph(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path) -> None:
    """Write the graph of an encoder with its head."""
    encoder.write_graph(model, list(tokenizer.model_input_names), stacks, file)


def compare(sources: Sequence[Source], bundle: Bundle, check: Check) -> dict[str, Parity]:
    """Return the report of every source; in a bank the rows of all sources share batches.

    Probes, which are in no data, count in the largest difference alone. A bundle that tokenizes a row otherwise than
    training did is an error.
    """
    classifier = Classifier(bundle, provider="cpu")
    cases = []
    for source in sources:
        examples, origin = parity_examples(source, check)
        rows = [example.texts for example in examples] + canary_texts(source)
        _require_equal_tokens(source, classifier, [*rows, *probe_rows(source)])
        cases.append((source, rows, examples, origin))
    names = [source.name for source, rows, *_ in cases for _ in rows]
    predictions = iter(classifier([_as_served(row) for _, rows, *_ in cases for row in rows], adapter=names))
    reports = {}
    for source, rows, examples, origin in cases:
        found = np.stack([next(predictions).logits for _ in rows])
        expected = logits(source, rows)
        answers = ANSWERS[source.learned]
        targets = answers.targets(source, examples)
        metric = METRICS[source.card.metric]
        reports[source.name] = Parity(
            rows=len(rows),
            data=origin,
            max_difference=max(_difference(found, expected), _probe_difference(source, classifier)),
            equal_labels=float(answers.equal(found, expected, check.bounds.tolerance).mean()),
            metric=source.card.metric,
            pytorch=metric(expected[: len(targets)], targets) if len(targets) else None,
            onnx=metric(found[: len(targets)], targets) if len(targets) else None,
            provider=classifier.provider,
            bounds=check.bounds,
        )
    return reports


def logits(source: Source, rows: Rows) -> NDArray[np.float32]:
    """Return PyTorch's logits (rows, labels), tokenized by transformers."""
    batches = []
    for start in range(0, len(rows), REFERENCE_ROWS):
        inputs = _encode(source, rows[start : start + REFERENCE_ROWS], padding=True, return_tensors="pt")
        with torch.inference_mode():
            batches.append(source.reference(**inputs).logits.numpy())
    return np.concatenate(batches)


def _require_equal_tokens(source: Source, classifier: Classifier, rows: Rows) -> None:
    expected = _encode(source, rows)
    for index, row in enumerate(rows):
        found = classifier.encode(_as_served(row), source.name, truncate=True)
        require_equal(source.name, row, found.input_ids, expected["input_ids"][index])
        if "token_type_ids" in expected:
            require_equal(source.name, row, found.token_type_ids, expected["token_type_ids"][index])


def _probe_difference(source: Source, classifier: Classifier) -> float:
    """Return the largest difference of a probe's logits; probes share no batch with the data."""
    rows = probe_rows(source)
    found = np.stack([one.logits for one in classifier([_as_served(row) for row in rows], adapter=source.name)])
    return _difference(found, logits(source, rows))


def _difference(found: Array, expected: Array) -> float:
    """Return the largest difference of a logit, which is infinite if one is not a number."""
    return float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf")


def _encode(source: Source, rows: Rows, **options: Any) -> Any:
    """Tokenize as training does."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return source.tokenizer(*columns, truncation=True, max_length=source.card.max_length, **options)


def _as_served(row: tuple[str, ...]) -> Text:
    return row[0] if len(row) == 1 else (row[0], row[1])


def _label_indices(source: Source, examples: Sequence[Example]) -> Array:
    return np.array([source.card.labels.index(example.target) for example in examples], np.int64)


def _scores(source: Source, examples: Sequence[Example]) -> Array:
    return np.array([float(example.target) for example in examples])


ANSWERS: dict[str, Answers] = {
    "classification": Answers(
        targets=_label_indices,
        equal=lambda found, expected, tolerance: found.argmax(-1) == expected.argmax(-1),
    ),
    "regression": Answers(
        targets=_scores,
        equal=lambda found, expected, tolerance: np.abs(found - expected)[:, 0] <= tolerance,
    ),
}
"""By what was learned."""
