"""Export of classifiers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adamix_export.graph import encoder
from adamix_export.graph.bank import Stacks
from adamix_export.parity import Check, Parity, parity_examples
from adamix_export.source import Source
from adamix_train.metrics.table import METRICS
from serve.bundle import Bundle
from serve.classify import Classifier

CANARIES = (
    "Everything arrived on time and works as it should, thank you.",
    "It broke on the second day and nobody answers my letters.",
    "Where can I change the address on my invoice?",
    "no",
)
"""Texts of our own: they go into every bundle, as token ids."""
REFERENCE_ROWS = 32


def canaries(source: Source) -> dict[str, Any]:
    """Return the token ids of a few texts and PyTorch's logits for them, each row run alone."""
    ids = source.tokenizer(list(CANARIES), truncation=True, max_length=source.card.max_length)["input_ids"]
    with torch.inference_mode():
        logits = [source.reference(input_ids=torch.tensor([row])).logits[0].tolist() for row in ids]
    return {"canary_ids": ids, "canary_logits": logits}


def write_graph(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: Stacks | None, file: Path) -> None:
    """Write the graph of an encoder with its head."""
    encoder.write_graph(model, list(tokenizer.model_input_names), stacks, file)


def compare(sources: Sequence[Source], bundle: Bundle, check: Check) -> dict[str, Parity]:
    """Return the report of every source; in a bank the rows of all sources share batches."""
    classifier = Classifier(bundle, provider="cpu")
    cases = []
    for source in sources:
        examples, origin = parity_examples(source, check)
        cases.append((source, [example.texts[0] for example in examples] + list(CANARIES), examples, origin))
    texts = [text for _, texts, *_ in cases for text in texts]
    names = [source.name for source, texts, *_ in cases for _ in texts]
    predictions = iter(classifier(texts, adapter=names))
    reports = {}
    for source, texts, examples, origin in cases:
        found = np.stack([next(predictions).logits for _ in texts])
        expected = logits(source, texts)
        labels = np.array([source.card.labels.index(example.target) for example in examples], np.int64)
        metric = METRICS[source.card.metric]
        reports[source.name] = Parity(
            rows=len(texts),
            data=origin,
            max_difference=float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf"),
            tolerance=check.tolerance,
            equal_labels=float((found.argmax(-1) == expected.argmax(-1)).mean()),
            metric=source.card.metric,
            pytorch=metric(expected[: len(labels)], labels) if len(labels) else None,
            onnx=metric(found[: len(labels)], labels) if len(labels) else None,
            provider=classifier.provider,
        )
    return reports


def logits(source: Source, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return PyTorch's logits (texts, labels), tokenized by transformers."""
    batches = []
    for start in range(0, len(texts), REFERENCE_ROWS):
        batch = list(texts[start : start + REFERENCE_ROWS])
        inputs = source.tokenizer(
            batch, truncation=True, max_length=source.card.max_length, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            batches.append(source.reference(**inputs).logits.numpy())
    return np.concatenate(batches)
