"""The metrics by name; a new metric is a function in one of the modules beside this one and a line in the table."""

from collections.abc import Callable
from typing import Any

from adamix_train.metrics import labels, scores, texts

METRICS: dict[str, Callable[[Any, Any], float]] = {
    # (logits (rows, labels), label indices (rows,))
    "accuracy": labels.accuracy,
    "f1": labels.f1,
    "macro_f1": labels.macro_f1,
    "matthews": labels.matthews,
    # (scores (rows, 1), scores (rows,))
    "pearson": scores.pearson,
    "spearman": scores.spearman,
    # (generated texts, the references of each)
    "bleu": texts.bleu,
    "chrf": texts.chrf,
    "nist": texts.nist,
    "meteor": texts.meteor,
    "rouge_l": texts.rouge_l,
    "cider": texts.cider,
}
